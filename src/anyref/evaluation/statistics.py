"""How sure the figures are: intervals, paired comparisons, and how many cases would be needed.

The case is the unit: takes of a case are averaged first, since they share prompt and references.
All values are on the profile's scale (0 to 1 from floor to ceiling). Resampling is seeded, so that
the same scores give the same intervals.
"""

# Axes: R resamples, N cases, M metrics

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.benchmark import Benchmark
from anyref.evaluation.profiles.profile import Contributions, Profile, contributions, summarise
from anyref.evaluation.results import ScoreTable
from anyref.lab.statistics import RESAMPLES, Estimate, bootstrap, estimate

FLIPS = 10_000
EXACT_CASES = 13  # up to here all 2**N sign flips are tried
ALPHA, POWER = 0.05, 0.8

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Intervals:
    """95 % intervals of a model's figures; a metric or total that has no value is not there."""

    metrics: Mapping[str, Estimate]
    total: Estimate | None


@dataclass(frozen=True)
class Paired:
    """What one model has over another on the same cases and takes.

    Args:
        count: of cases. difference: mean of one less the other; low, high: its 95 % interval.
        effect: the mean difference over the standard deviation of the differences (Cohen's d_z);
            None where all cases differ by the same.
        p: two-sided, by flipping the sign of cases' differences at random.
        needed: cases that show an effect of this size in 8 of 10 evaluations; None without one.
    """

    count: int
    difference: float
    low: float
    high: float
    effect: float | None
    p: float
    needed: int | None

    @property
    def note(self) -> str:
        """What the number of cases can show, one sentence."""
        if self.effect is None and self.difference:
            return f"all {self.count} cases differ by the same amount"
        if self.needed is None:
            return f"{self.count} cases show no difference to plan for"
        enough = "are enough" if self.needed <= self.count else f"are there, about {self.needed} "
        rest = "" if self.needed <= self.count else "are needed to see a difference of this size"
        return f"{self.count} cases {enough}{rest}"


@dataclass(frozen=True)
class Comparison:
    """One model against another: by metric, and in total (None where either has no total)."""

    metrics: Mapping[str, Paired]
    total: Paired | None


def intervals(profile: Profile, table: ScoreTable, seed: int = 0) -> Intervals:
    """Intervals of all figures, cases drawn with replacement.

    Wilson's interval for a metric of 0s and 1s, else the percentile bootstrap; the total's cases
    are drawn once for all metrics, whose dependence it so keeps. Resamples without a case that a
    metric has a score of do not count. A single case has no interval. Around a figure that a suite
    printed the interval is as wide as that of its videos' own results.

    Raises:
        EvaluationError: as `summarise`.
    """
    summary = summarise(profile, table)
    terms = contributions(profile, table)
    draws = _resampled(profile, terms, _counts(len(terms.cases), seed))
    metrics = {}
    for m, column in enumerate(profile.columns):
        value = summary.values.get(column.name)
        weights = terms.weights[:, m]
        known = weights > 0
        if value is None or known.sum() < 2:
            continue
        if column.name in table.printed:
            own = column.scaled(float(np.average(terms.values[known, m], weights=weights[known])))
            draws[column.name] = draws[column.name] + (value - own)
        if len(set(weights[known])) == 1 and column.name not in table.printed:
            plain = estimate([column.scaled(v) for v in terms.values[known, m]], seed)
            assert plain is not None  # there is a value
            metrics[column.name] = Estimate(value, plain.low, plain.high, plain.count)
        else:
            metrics[column.name] = _estimate(value, draws[column.name], int(known.sum()))
    if summary.total is None or len(terms.cases) < 2 or set(table.printed) - set(metrics):
        return Intervals(metrics, None)
    totals = _totals(profile, draws)
    return Intervals(metrics, _estimate(summary.total, totals, len(terms.cases)))


def compare(profile: Profile, one: ScoreTable, other: ScoreTable, seed: int = 0) -> Comparison:
    """One model against another, metric by metric on the cases and takes that both have.

    The total's p comes from swapping the models' scores case by case; its effect and number of
    cases from the spread of its resampled differences.
    """
    metrics = {}
    pairs = [contributions(profile, table) for table in _common(profile, one, other)]
    for m, column in enumerate(profile.columns):
        known = (pairs[0].weights[:, m] > 0) & (pairs[1].weights[:, m] > 0)
        scaled = [column.scaled(pair.values[known, m]) for pair in pairs]
        found = paired(scaled[0] - scaled[1], seed)
        if found is not None:
            metrics[column.name] = found
    return Comparison(metrics, _compare_totals(profile, pairs[0], pairs[1], seed))


def paired(differences: Floats | list[float], seed: int = 0) -> Paired | None:
    """A comparison from the differences of (N,) cases; None for fewer than 2."""
    values = np.asarray(differences, np.float64)
    if len(values) < 2:
        return None
    low, high = bootstrap(values, seed)
    mean = float(values.mean())
    spread = float(values.std(ddof=1))
    effect = mean / spread if spread > 1e-12 * max(1.0, abs(mean)) else None
    return Paired(
        count=len(values),
        difference=mean,
        low=low,
        high=high,
        effect=effect,
        p=sign_flip_p(values, seed),
        needed=needed_cases(effect) if effect else None,
    )


def sign_flip_p(differences: Floats, seed: int = 0) -> float:
    """Two-sided p of the mean of (N,) differences if their signs were chance.

    Exact up to 13 cases; else from 10,000 flips, the data's own among them (Phipson & Smyth 2010).
    """
    observed = abs(float(differences.sum())) * (1 - 1e-9)
    if len(differences) <= EXACT_CASES:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(differences))))
        return float((np.abs(signs @ differences) >= observed).mean())
    rng = np.random.default_rng(seed)
    flips = rng.integers(0, 2, (FLIPS, len(differences)), dtype=np.int8) * 2.0 - 1  # (R, N)
    return float(((np.abs(flips @ differences) >= observed).sum() + 1) / (FLIPS + 1))


def needed_cases(effect: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """Cases for a two-sided paired test to see an effect d_z with the given power.

    The normal approximation with Guenther's correction for the t distribution, ((z + z') / d)^2 +
    z^2 / 2 (Guenther 1981, The American Statistician 35): 34 for 0.5, 199 for 0.2.
    """
    z, z_power = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)
    return max(2, math.ceil(((z + z_power) / effect) ** 2 + z**2 / 2))


def parts(benchmark: Benchmark, by: Literal["category", "references"]) -> dict[str, list[str]]:
    """Case ids by category, or by number of references, each once; in the order of the cases."""
    found: dict[str, list[str]] = defaultdict(list)
    for case in benchmark.cases:
        if benchmark[case.id] is not case:
            continue  # its id is another's
        count = len(case.request.references) if case.request else 0
        found[case.category if by == "category" else str(count)].append(case.id)
    return dict(found)


def restricted(table: ScoreTable, cases: Collection[str]) -> ScoreTable:
    """The part of a table that is of some cases."""
    wanted = set(cases)
    columns = {
        metric: {sample: outcome for sample, outcome in column.items() if sample[0] in wanted}
        for metric, column in table.columns.items()
    }
    return ScoreTable(columns, table.specs)


def _common(profile: Profile, one: ScoreTable, other: ScoreTable) -> list[ScoreTable]:
    """Both tables, of every metric the samples alone that both have an outcome for."""
    shared = {
        column.name: one.outcomes(column.name).keys() & other.outcomes(column.name).keys()
        for column in profile.columns
    }
    return [
        ScoreTable(
            {
                name: {s: table.outcomes(name)[s] for s in sorted(samples)}
                for name, samples in shared.items()
            },
            table.specs,
        )
        for table in (one, other)
    ]


def _compare_totals(
    profile: Profile, one: Contributions, other: Contributions, seed: int
) -> Paired | None:
    if len(one.cases) < 2:
        return None
    every = np.ones((1, len(one.cases)))
    observed = float(_total_difference(profile, one, other, every)[0])
    if math.isnan(observed):
        return None
    drawn = _total_difference(profile, one, other, _counts(len(one.cases), seed))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    count = len(one.cases)  # resampling has the spread of N cases, not of what they are drawn from
    spread = float(np.nanstd(drawn)) * math.sqrt(count * count / (count - 1))
    effect = observed / spread if spread > 1e-12 else None
    return Paired(
        count=len(one.cases),
        difference=observed,
        low=float(low),
        high=float(high),
        effect=effect,
        p=_swap_p(profile, one, other, observed, seed),
        needed=needed_cases(effect) if effect else None,
    )


def _swap_p(
    profile: Profile, one: Contributions, other: Contributions, observed: float, seed: int
) -> float:
    """Share of random swaps of the models, case by case, with a total difference as large."""
    rng = np.random.default_rng(seed)
    swaps = rng.integers(0, 2, (RESAMPLES, len(one.cases))).astype(np.float64)  # (R, N)
    first = _weighted(one, 1 - swaps) + _weighted(other, swaps)
    second = _weighted(one, swaps) + _weighted(other, 1 - swaps)
    scored = np.asarray(((one.weights > 0) | (other.weights > 0)).any(0))  # (M,)
    sides = [_totals(profile, _means(profile, side, scored)) for side in (first, second)]
    drawn = sides[0] - sides[1]
    extreme = np.abs(drawn[~np.isnan(drawn)]) >= abs(observed) * (1 - 1e-9)
    return float((extreme.sum() + 1) / (len(extreme) + 1))


def _counts(cases: int, seed: int) -> Floats:
    """How often each case is drawn: (R, N)."""
    if not cases:
        return np.zeros((RESAMPLES, 0))
    rng = np.random.default_rng(seed)
    return rng.multinomial(cases, np.full(cases, 1 / cases), RESAMPLES).astype(np.float64)


def _weighted(terms: Contributions, counts: Floats) -> Floats:
    """Sums of weighted values and of weights: (2, R, M)."""
    return np.stack([counts @ (terms.values * terms.weights), counts @ terms.weights])


def _means(profile: Profile, sums: Floats, scored: NDArray[np.bool_]) -> dict[str, Floats]:
    """Scaled means by metric, each (R,); NaN where none of the cases with a score was drawn.

    Args:
        scored: which metrics (M,) have a score at all; others have the profile's value.
    """
    absent = np.where(scored, math.nan, math.nan if profile.absent is None else profile.absent)
    known = sums[1] > 0
    means = np.where(known, sums[0] / np.where(known, sums[1], 1), absent)  # (R, M)
    return {c.name: c.scaled(means[:, m]) for m, c in enumerate(profile.columns)}


def _resampled(profile: Profile, terms: Contributions, counts: Floats) -> dict[str, Floats]:
    scored = np.asarray((terms.weights > 0).any(0))  # (M,)
    return _means(profile, _weighted(terms, counts), scored)


def _totals(profile: Profile, scaled: Mapping[str, Floats]) -> Floats:
    """Totals of (R,) values; NaN where a metric has none."""
    totals = profile.total(scaled)
    assert totals is not None  # every metric is there
    return totals


def _total_difference(
    profile: Profile, one: Contributions, other: Contributions, counts: Floats
) -> Floats:
    totals = [_totals(profile, _resampled(profile, side, counts)) for side in (one, other)]
    return totals[0] - totals[1]


def _estimate(value: float, drawn: Floats, count: int) -> Estimate:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), count)
