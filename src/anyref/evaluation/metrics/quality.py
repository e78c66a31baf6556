"""How the pictures of the video look."""

# Axes: K sampled frames, Y X pixels

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anyref.data.looks import MAX_BLUR, blur
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, MetricSpec, Need, Outcome, Score, Skipped
from anyref.evaluation.metrics.base import (
    Frames,
    GradeMetric,
    PixelMetric,
    rounded,
    sampled,
    shrunk,
)
from anyref.perception.contracts import Perceiver

NUM_FRAMES = 8
LOOK_SIDE = 512  # pixels of the longer side, as VBench's imaging quality
WORST = 100.0  # BRISQUE of the worst pictures
VIDEO: frozenset[Need] = frozenset({"video"})


class ImagingQuality(GradeMetric):
    """1 - BRISQUE / 100, cut to 0 to 1, mean over eight frames of 512 pixels at most.

    BRISQUE (Mittal et al. 2012) sees noise, blur and compression of photographs; VBench's imaging
    quality is MUSIQ in its place. Drawings and pictures of few pixels are outside what it knows.
    """

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return MetricSpec(
            name="imaging_quality",
            about="How free the frames are of blur, noise and compression, by BRISQUE.",
            direction="higher",
            low=0,
            high=1,
            needs=VIDEO,
            grade=self.grade,
        )

    def uses(self) -> Sequence[Perceiver]:
        """The quality model."""
        return (self.models.quality,)

    def score(self, case: Case, footage: Footage) -> Outcome:  # noqa: ARG002 - of the contract
        """The value, and BRISQUE of each frame."""
        if min(footage.frames.shape[1:3]) < 16:
            return Skipped("frames of fewer than 16 pixels have no quality", "undetected")
        marks = self.models.quality.score(list(_shown(footage)))
        values = 1 - np.clip(np.array(marks) / WORST, 0, 1)
        return Score(float(values.mean()), {"brisque": rounded(marks)})


class EdgeBlur(PixelMetric):
    """How blurred the sharpest of the strong edges are: a Gaussian's deviation in pixels.

    `anyref.data.looks.blur`: at 512 pixels, median of eight frames; about 1 for a sharp picture.
    Other than the variance of the Laplacian it does not depend on how much there is to see.
    """

    said = MetricSpec(
        name="edge_blur",
        about="How wide the sharpest edges are, in pixels of a frame 512 wide.",
        direction="lower",
        low=0,
        high=MAX_BLUR,
        needs=VIDEO,
        grade="exact",
    )

    def score(self, case: Case, footage: Footage) -> Outcome:  # noqa: ARG002 - of the contract
        """The value."""
        return Score(min(MAX_BLUR, blur(_shown(footage))))


class Aesthetics(PixelMetric):
    """No package ships weights that know what looks beautiful; always skipped as unavailable."""

    said = MetricSpec(
        name="aesthetics",
        about="How beautiful the frames are.",
        direction="higher",
        low=0,
        high=1,
        needs=VIDEO,
        grade="small",
    )

    def applies(self, case: Case) -> Skipped | None:  # noqa: ARG002 - of the contract
        """Never."""
        return Skipped(
            "the small grade has no aesthetics model; use the large grade", "unavailable"
        )

    def score(self, case: Case, footage: Footage) -> Outcome:  # noqa: ARG002 - of the contract
        """Skipped."""
        return Skipped("the small grade has no aesthetics model", "unavailable")


def _shown(footage: Footage) -> Frames:
    frames = sampled(footage, NUM_FRAMES)
    return shrunk(frames, LOOK_SIDE) if max(frames.shape[1:3]) > LOOK_SIDE else frames
