"""What the metrics of this package have in common: a grade of models, and frames they share."""

# Axes: T frames, K sampled frames, Y X pixels, y x pixels of the thumbs

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from anyref.data.clips import thumbs_of
from anyref.data.footage import USUAL_RATES
from anyref.errors import PerceptionError
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, MetricSpec, Outcome, Skipped
from anyref.media import fit
from anyref.perception.contracts import Perceiver
from anyref.perception.runtimes import opencv, require
from anyref.perception.small import Grade

Frames = NDArray[np.uint8]  # (K, Y, X, 3), RGB
Grading = Literal["small", "large"]
NOMINAL_FPS = 16.0  # of a video that does not say its own, or nothing to believe: Wan2.1's
NUM_VIEWS = 8  # sampled frames that are segmented, the slowest part
MAX_SIDE = 960  # pixels of their longer side


@dataclass(frozen=True, eq=False)
class PixelMetric:
    """A metric without models; `said` is its specification."""

    said: ClassVar[MetricSpec]
    modules: ClassVar[tuple[str, ...]] = ("cv2",)

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return self.said

    def applies(self, case: Case) -> Skipped | None:  # noqa: ARG002 - of the contract
        """Why it cannot run here, if it cannot."""
        return unavailable((), self.modules)


@dataclass(frozen=True, eq=False)
class GradeMetric(ABC):
    """A metric made of models of a grade.

    Args:
        models: shared by all metrics of a run, so that each loads once. grade: which one they are.
    """

    models: Grade
    grade: Grading = "small"
    modules: ClassVar[tuple[str, ...]] = ("cv2",)

    @property
    @abstractmethod
    def spec(self) -> MetricSpec:
        """What it says of itself."""

    @abstractmethod
    def uses(self) -> Sequence[Perceiver]:
        """The models that a score needs."""

    @abstractmethod
    def score(self, case: Case, footage: Footage) -> Outcome:
        """The value of a case that applies."""

    def suits(self, case: Case) -> Skipped | None:  # noqa: ARG002 - for those that ask nothing
        """Why the case gives nothing to measure, if it does not."""
        return None

    def applies(self, case: Case) -> Skipped | None:
        """Why the case cannot be scored, "inapplicable" before "unavailable"."""
        return self.suits(case) or unavailable(self.uses(), self.modules)


def unavailable(models: Iterable[Perceiver], modules: Iterable[str]) -> Skipped | None:
    """Why models or packages cannot be used here; None when they can."""
    try:
        for module in modules:
            require(module)
        for model in models:
            _ = model.card
    except PerceptionError as error:
        return Skipped(str(error), "unavailable")
    return None


def evenly(count: int, wanted: int) -> NDArray[np.int64]:
    """Up to `wanted` of `count` frame numbers, evenly spaced, the first and the last included."""
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64)


def sampled(footage: Footage, wanted: int) -> Frames:
    """Evenly spaced frames (K, Y, X, 3) at full size."""
    return footage.frames[evenly(len(footage.frames), wanted)]


def views(footage: Footage) -> Frames:
    """The sampled frames (K, Y, X, 3) in which subjects are looked for, 960 pixels at most."""

    def make() -> Frames:
        frames = sampled(footage, NUM_VIEWS)
        height, width = frames.shape[1:3]
        return frames if max(height, width) <= MAX_SIDE else shrunk(frames, MAX_SIDE)

    return footage.once("views", make)


def shrunk(frames: Frames, side: int) -> Frames:
    """Frames whose longer side is `side` pixels, by area."""
    size = fit(frames.shape[2], frames.shape[1], side, side)
    with opencv(1) as cv2:
        return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])


def thumbs(footage: Footage) -> NDArray[np.uint8]:
    """All frames in grey, their longer side 160 pixels: (T, y, x)."""
    return footage.once("thumbs", lambda: thumbs_of(footage.frames))


def rate(footage: Footage) -> float:
    """Frames per second; 16 for a video that does not say, or that says what none has."""
    return footage.fps if USUAL_RATES[0] <= footage.fps <= USUAL_RATES[1] else NOMINAL_FPS


def rounded(values: Any) -> list[float]:
    """Numbers as details have them."""
    return [round(float(value), 6) for value in values]


def mean(values: Iterable[float]) -> float:
    """Of at least one number."""
    return float(np.mean(list(values)))
