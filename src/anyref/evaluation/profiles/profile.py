"""The arithmetic that suites share: clamp, mean over videos, scale, weighted sum.

A case with several takes counts once: its takes' values are averaged first, as if one video. In a
profile that counts `by_video` it weighs as much as it has takes.
"""

# Axes: N cases, M metrics

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from anyref.errors import EvaluationError
from anyref.evaluation.metric import Outcome, Score
from anyref.evaluation.results import ScoreTable

Value = TypeVar("Value", float, NDArray[np.float64])  # one figure, or one per resample


@dataclass(frozen=True, kw_only=True)
class Column:
    """How one metric enters.

    Args:
        name: of the metric in the score table and in the figures.
        floor, ceiling: means are scaled so that these become 0 and 1; the floor is what a video
            counts for where a missing one counts.
        low, high: a video's value is clamped to these; None leaves it.
        absolute: the value without its sign is taken, before clamping.
        drops_zero: videos with exactly 0 are left out of the mean.
        weight_by: the detail of a score that weights it in the mean, 1 where a score has none;
            None for a plain mean.
    """

    name: str
    floor: float = 0.0
    ceiling: float = 1.0
    low: float | None = None
    high: float | None = None
    absolute: bool = False
    drops_zero: bool = False
    weight_by: str | None = None

    def contribution(self, value: float) -> float | None:
        """What a video's value counts for in the mean; None where it is left out."""
        if self.drops_zero and value == 0:
            return None
        value = abs(value) if self.absolute else value
        value = value if self.high is None else min(value, self.high)
        return value if self.low is None else max(value, self.low)

    def scaled(self, mean: Value) -> Value:
        """A mean on the scale of floor and ceiling."""
        return (mean - self.floor) / (self.ceiling - self.floor) + 0.0  # never -0.0


@dataclass(frozen=True)
class Group:
    """A weighted sum of metrics, divided; a suite's total is one of its groups' values."""

    name: str
    weights: Mapping[str, float]
    divisor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A suite's arithmetic.

    Args:
        columns: in the order of its figures. groups: summed to the total by `total_weights`.
        absent: the mean of a metric that no video has; None leaves the totals out that need it.
        missing: "drop" leaves videos without a score out of the means, "worst" counts them as
            the floor (unless the metric does not apply to the case, or cannot run at all).
        by_video: a mean is over videos, not over cases.
        notes: what a reader must know of the figures.
    """

    name: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    total_weights: Mapping[str, float]
    total_divisor: float = 1.0
    absent: float | None = None
    missing: Literal["drop", "worst"] = "drop"
    by_video: bool = False
    notes: tuple[str, ...] = ()

    def group_values(self, values: Mapping[str, Value]) -> dict[str, Value | None]:
        """Groups from scaled values; None where one is not there."""
        return {
            group.name: reduce(add, [w * values[name] for name, w in group.weights.items()])
            / group.divisor
            if all(name in values for name in group.weights)
            else None
            for group in self.groups
        }

    def total(self, values: Mapping[str, Value]) -> Value | None:
        """The total from scaled values (0 to 1), as a leaderboard prints them over 100."""
        groups = self.group_values(values)
        parts = [(w, groups[name]) for name, w in self.total_weights.items()]
        known = [w * value for w, value in parts if value is not None]
        return reduce(add, known) / self.total_divisor if len(known) == len(parts) else None


@dataclass(frozen=True)
class Figure:
    """One metric of a model.

    Args:
        value: scaled; None where nothing was measured. scored: cases in the mean that have a
            score. penalised: cases that count as the worst. left_out: cases that should count and
            do not. inapplicable: cases that give the metric nothing to measure. faulty: cases that
            are at fault themselves, which count nowhere.
        causes: how many videos were skipped, by cause.
    """

    name: str
    value: float | None
    scored: int = 0
    penalised: int = 0
    left_out: int = 0
    inapplicable: int = 0
    faulty: int = 0
    causes: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Summary:
    """All figures of a model under a profile; `values` are those of metrics, by name."""

    profile: str
    figures: tuple[Figure, ...]
    groups: Mapping[str, float | None]
    total: float | None
    notes: tuple[str, ...]

    @property
    def values(self) -> dict[str, float]:
        """Scaled values of the metrics that have one."""
        return {f.name: f.value for f in self.figures if f.value is not None}


def summarise(profile: Profile, table: ScoreTable) -> Summary:
    """The figures of a score table; those that a suite printed are taken as they are.

    Raises:
        EvaluationError: where a missing video counts as the worst and there is nothing to count.
    """
    figures = tuple(_figure(profile, column, table) for column in profile.columns)
    values = {f.name: f.value for f in figures if f.value is not None}
    if profile.missing == "worst" and not values:
        raise EvaluationError(
            f"profile {profile.name!r} has nothing to count: no metric measures any of the cases"
        )
    return Summary(
        profile=profile.name,
        figures=figures,
        groups=profile.group_values(values),
        total=profile.total(values),
        notes=(*profile.notes, *_notes(profile, figures, table)),
    )


def _notes(profile: Profile, figures: tuple[Figure, ...], table: ScoreTable) -> list[str]:
    notes = []
    if table.printed:
        notes.append("figures are as the suite printed them; intervals are of its videos' results")
    if faulty := max((f.faulty for f in figures), default=0):
        notes.append(f"{faulty} cases are at fault and count nowhere; the report says why")
    if failed := sum((f.causes or {}).get("failed", 0) for f in figures):
        notes.append(f"{failed} times a metric failed at a video; the report says why")
    for f in figures:
        if f.penalised:
            notes.append(f"{f.name}: {f.penalised} of {f.scored + f.penalised} count as the worst")
        if f.left_out:
            notes.append(f"{f.name}: {f.left_out} of {f.scored + f.left_out} are left out")
        if f.value is None:
            notes.append(f"{f.name}: not measured")
        elif not f.scored + f.penalised and f.name not in table.printed:
            notes.append(f"{f.name}: no video has it; {profile.absent} was taken for the mean")
    return notes


def _figure(profile: Profile, column: Column, table: ScoreTable) -> Figure:
    rows = _rows(profile, column, table)
    counted = [row for row in rows.values() if row.weight > 0]
    if column.name in table.printed:
        mean: float | None = table.printed[column.name]
    elif counted:
        mean = sum(row.weight * row.value for row in counted) / sum(row.weight for row in counted)
    elif profile.absent is not None:
        mean = profile.absent
    else:
        mean = None
    causes: dict[str, int] = defaultdict(int)
    for outcome in table.outcomes(column.name).values():
        if not isinstance(outcome, Score):
            causes[outcome.cause] += 1
    return Figure(
        name=column.name,
        value=None if mean is None else column.scaled(mean),
        scored=sum(row.state == "scored" for row in rows.values()),
        penalised=sum(row.state == "penalised" for row in rows.values()),
        left_out=sum(row.state == "left out" for row in rows.values()),
        inapplicable=sum(row.state == "inapplicable" for row in rows.values()),
        faulty=sum(row.state == "faulty" for row in rows.values()),
        causes=dict(sorted(causes.items())),
    )


@dataclass(frozen=True)
class _Row:
    """A case in a metric's mean: its value before scaling, and how much it weighs."""

    value: float
    weight: float
    state: Literal["scored", "penalised", "left out", "inapplicable", "faulty"]


def _rows(profile: Profile, column: Column, table: ScoreTable) -> dict[str, _Row]:
    takes: dict[str, list[Outcome]] = defaultdict(list)
    outcomes = table.outcomes(column.name)
    for sample in outcomes:
        takes[sample[0]].append(outcomes[sample])
    return {case: _row(profile, column, of_case) for case, of_case in takes.items()}


def _row(profile: Profile, column: Column, outcomes: list[Outcome]) -> _Row:
    values, weights, causes, penalised = [], [], set(), False
    for outcome in outcomes:
        if isinstance(outcome, Score):
            value = column.contribution(outcome.value)
            weight = outcome.details.get(column.weight_by, 1.0) if column.weight_by else 1.0
        else:
            causes.add(outcome.cause)
            counts = outcome.cause not in ("inapplicable", "unavailable", "faulty")
            value = column.floor if counts and profile.missing == "worst" else None
            penalised = penalised or value is not None
            weight = 1.0
        if value is not None:
            values.append(value)
            weights.append(float(weight))
    if values:
        share = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
        weight = sum(weights) if profile.by_video else sum(weights) / len(weights)
        return _Row(share, weight, "penalised" if penalised else "scored")
    if "faulty" in causes:
        return _Row(0.0, 0.0, "faulty")
    return _Row(0.0, 0.0, "inapplicable" if causes == {"inapplicable"} else "left out")


@dataclass(frozen=True)
class Contributions:
    """What every case brings to every metric's mean, for resampling.

    Args:
        cases: N ids. values, weights: (N, M); weight 0 where a case is left out.
    """

    cases: tuple[str, ...]
    values: NDArray[np.float64]  # (N, M)
    weights: NDArray[np.float64]  # (N, M)


def contributions(profile: Profile, table: ScoreTable) -> Contributions:
    """The terms of the means that `summarise` makes; cases sorted, metrics as the columns."""
    rows = [_rows(profile, column, table) for column in profile.columns]
    cases = tuple(sorted({case for row in rows for case in row}))
    none = _Row(0.0, 0.0, "left out")
    cells = [[row.get(case, none) for row in rows] for case in cases]
    shape = (len(cases), len(rows))
    return Contributions(
        cases,
        np.array([[cell.value for cell in line] for line in cells], np.float64).reshape(shape),
        np.array([[cell.weight for cell in line] for line in cells], np.float64).reshape(shape),
    )


def counting_the_missing(profile: Profile) -> Profile:
    """The same scales and weights where nothing drops out: a missing video counts as the worst."""
    columns = tuple(replace(column, drops_zero=False) for column in profile.columns)
    notes = ("a missing video, or one where nothing was detected, counts as the worst score",)
    return replace(
        profile,
        name=f"{profile.name}-strict",
        columns=columns,
        missing="worst",
        absent=None,
        notes=notes,
    )
