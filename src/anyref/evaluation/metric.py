"""What a metric is: what it needs, what it gives, and why it may give nothing.

A metric scores one video of one case. It returns `Score`, or `Skipped` with the reason; it never
says zero for "not measured". Who makes means of scores decides by the cause what a skip counts as:

    inapplicable   the case gives nothing to measure, as a face metric and a case without people
    unavailable    the metric cannot run here: weights or a package are not there
    undetected     the video shows nothing that the metric could measure
    unreadable     the video cannot be decoded
    missing        there is no video
    failed         the metric broke off at this video, by a fault of its own or of the machine
    faulty         the case is at fault: the benchmark's line, or a picture of it
"""

# Axes: T frames, Y X pixels

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import Case

Direction = Literal["higher", "lower"]  # which values are better
Need = Literal["video", "references", "prompt"]
Suite = Literal["opens2v", "vbench", "magref"]
# no weights; those of packages; the field's own; measured as a suite's own scripts do
Grade = Literal["exact", "small", "large", Suite]
Cause = Literal[
    "inapplicable", "unavailable", "undetected", "unreadable", "missing", "failed", "faulty"
]

Made = TypeVar("Made")

TOLERANCE = 1e-6  # of a value over the end of its range: float32 cosines


class NoMeasurementError(EvaluationError):
    """A value that is no measurement: it costs its metric this video, not the run."""


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """What a metric says of itself.

    Args:
        name: lower-case words with underscores, unique.
        about: what it measures, one sentence.
        direction: which values are better.
        low, high: ends of the range, both finite, so that the worst value is known.
        needs: what the score depends on besides the metric itself.
        grade: "small" for weights that packages ship, "large" for the field's own, "exact" for a
            metric without weights, which stands beside either; a suite's name for a metric that
            measures as its scripts do: only those count in its profiles.
        version: raised whenever a score may change; older scores are then not used.

    Raises:
        EvaluationError: for a range that is not finite and increasing, or no needs.
    """

    name: str
    about: str
    direction: Direction
    low: float
    high: float
    needs: frozenset[Need]
    grade: Grade
    version: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise EvaluationError(
                f"metric {self.name!r} has the range {self.low} to {self.high}; give two finite "
                "numbers, the smaller first"
            )
        if not self.needs:
            raise EvaluationError(f"metric {self.name!r} needs nothing; name at least 'video'")

    @property
    def worst(self) -> float:
        """The end of the range that no video can be worse than."""
        return self.low if self.direction == "higher" else self.high

    @property
    def best(self) -> float:
        """The other end."""
        return self.high if self.direction == "higher" else self.low


@dataclass(frozen=True)
class Score:
    """A value in the metric's range, and what it was made of (per reference, per frame ...).

    Args:
        details: of numbers, words, lists and mappings, as JSON has them.

    Raises:
        NoMeasurementError: for a value that is not a finite number.
    """

    value: float
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise NoMeasurementError(
                f"a score of {self.value} is no measurement; return Skipped with the reason"
            )


@dataclass(frozen=True)
class Skipped:
    """No value, and why: a sentence for people and a cause for those who count."""

    reason: str
    cause: Cause


Outcome = Score | Skipped


@dataclass(frozen=True, eq=False)
class Footage:
    """A decoded video that all metrics share, and what one of them found that others need.

    Args:
        frames: uint8 (T, Y, X, 3), RGB; not to be written to. fps: frames per second, 0 unknown.
        sha256: of the file.
    """

    frames: NDArray[np.uint8]
    fps: float
    sha256: str
    _made: dict[str, Any] = field(default_factory=dict, repr=False)

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` returns, made at the first call with this name and kept with the video."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]


class Metric(Protocol):
    """Scores one video of one case. Picklable, and loads weights at the first score."""

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""

    def applies(self, case: Case) -> Skipped | None:
        """Why the case cannot be scored whatever the video ("inapplicable", "unavailable")."""

    def score(self, case: Case, footage: Footage) -> Outcome:
        """The value of a case that applies; references are `case.request.references`.

        A metric of references finds out that they give nothing to measure before it looks at the
        video, so that a blank one tells what the case alone gives.

        Raises:
            AnyRefError: for weights that are broken, and the like, that stop the whole run. Any
                other exception costs the metric this video only.
        """


def checked(spec: MetricSpec, outcome: Outcome) -> Outcome:
    """The outcome, with a value that rounding put over the end of the range put back on it.

    Raises:
        NoMeasurementError: for a value outside the range.
    """
    if isinstance(outcome, Skipped) or spec.low <= outcome.value <= spec.high:
        return outcome
    within = min(max(outcome.value, spec.low), spec.high)
    if abs(within - outcome.value) > TOLERANCE * max(1.0, abs(within)):
        raise NoMeasurementError(
            f"metric {spec.name!r} gave {outcome.value}, outside its range {spec.low} to "
            f"{spec.high}; clip the value or widen the range"
        )
    return Score(within, outcome.details)
