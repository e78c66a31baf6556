"""How the pictures of the video look."""

# Axes: K sampled frames, Y X pixels

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anyref.data.looks import MAX_BLUR, edge_widths
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
from anyref.perception.contracts import Perceiver, Picture
from anyref.perception.runtimes import opencv

NUM_FRAMES = 8
LOOK_SIDE = 512  # pixels of the longer side, as VBench's imaging quality
WORST = 100.0  # BRISQUE of the worst pictures
NOISY = 15.0  # levels of noise of the worst
NOISE_BLOCK, PLAINEST = 16, 10  # pixels; percentile of blocks
IMMERKAER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
VIDEO: frozenset[Need] = frozenset({"video"})


class ImagingQuality(GradeMetric):
    """The lesser of 1 - BRISQUE / 100 and 1 - noise / 15, 0 to 1, mean over eight frames of 512 px.

    BRISQUE (Mittal et al. 2012) sees noise, blur and compression of photographs; VBench's imaging
    quality is MUSIQ in its place. Plain pictures, such as a sky, look blurred to it, and noise then
    better than none, so noise is measured as well (`noise_of`). Drawings and pictures of few pixels
    are outside what BRISQUE knows.
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
            version=2,
        )

    def uses(self) -> Sequence[Perceiver]:
        """The quality model."""
        return (self.models.quality,)

    def score(self, case: Case, footage: Footage) -> Outcome:  # noqa: ARG002 - of the contract
        """The value, BRISQUE and the noise of each frame."""
        if min(footage.frames.shape[1:3]) < 16:
            return Skipped("frames of fewer than 16 pixels have no quality", "undetected")
        shown = _shown(footage)
        marks = self.models.quality.score(list(shown))
        noise = [noise_of(frame) for frame in shown]
        faults = np.maximum(np.array(marks) / WORST, np.array(noise) / NOISY)
        values = 1 - np.clip(faults, 0, 1)
        return Score(float(values.mean()), {"brisque": rounded(marks), "noise": rounded(noise)})


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
        """The value; a frame without an edge counts as the worst beside others that have some."""
        widths = edge_widths(_shown(footage))
        if not any(width is not None for width in widths):
            return Skipped("no sampled frame has an edge", "undetected")
        known = [MAX_BLUR if width is None else width for width in widths]
        return Score(min(MAX_BLUR, float(np.median(known))))


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


def noise_of(frame: Picture) -> float:
    """Deviation of a frame's noise in levels of grey, by Immerkaer's mask (1996) where it is plain.

    The mask answers neither to slopes nor to edges along an axis. Of the means of its answers over
    blocks of 16 pixels the 10th percentile is taken: texture elsewhere does not count.
    """
    with opencv(1) as cv2:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        answers = np.abs(cv2.filter2D(grey, -1, IMMERKAER))[1:-1, 1:-1]
        blocks = tuple(max(1, side // NOISE_BLOCK) for side in answers.shape[::-1])
        means = cv2.resize(answers, blocks, interpolation=cv2.INTER_AREA)
    return float(np.percentile(means, PLAINEST) * np.sqrt(np.pi / 2) / 6)


def _shown(footage: Footage) -> Frames:
    frames = sampled(footage, NUM_FRAMES)
    return shrunk(frames, LOOK_SIDE) if max(frames.shape[1:3]) > LOOK_SIDE else frames
