"""What suites measure without models, measured here as their own scripts do.

    opens2v    motion_amplitude       (opens2v_motion; one score of v1.0 and of v1.1)
    vbench     temporal_flickering

These alone count in a suite's profile where videos are scored: a metric of ours that has the name
of one of its columns measures something else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anyref.errors import PerceptionError
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, Metric, MetricSpec, Outcome, Score, Skipped, Suite
from anyref.evaluation.profiles.opens2v_motion import COARSE, motion_amplitude
from anyref.evaluation.profiles.vbench import flickering
from anyref.perception.runtimes import opencv, require

MOST_PIXELS = 1e4  # per frame: no picture is so wide


@dataclass(frozen=True)
class SuiteMetric:
    """A column of a suite.

    Args:
        measure: of uint8 frames (T, Y, X, 3), T at least 2.
        widest: frames that are more times as wide as high cannot be measured.
    """

    spec: MetricSpec
    measure: Callable[[NDArray[np.uint8]], float]
    widest: float = np.inf

    def applies(self, case: Case) -> Skipped | None:  # noqa: ARG002 - of the contract
        """Why it cannot run here, if it cannot."""
        try:
            require("cv2")
        except PerceptionError as error:
            return Skipped(str(error), "unavailable")
        return None

    def score(self, case: Case, footage: Footage) -> Outcome:  # noqa: ARG002 - of the contract
        """The value of all frames at their own size."""
        length, height, width = footage.frames.shape[:3]
        if length < 2 or width > self.widest * height:
            return Skipped(f"{length} frames of {width}x{height} have none", "undetected")
        with opencv(1):
            return Score(self.measure(footage.frames))


OPENS2V_MOTION = SuiteMetric(
    MetricSpec(
        name="motion_amplitude",
        about="Mean flow in pixels per frame, signed and so cancelling, as OpenS2V-Eval's.",
        direction="higher",
        low=0,
        high=MOST_PIXELS,
        needs=frozenset({"video"}),
        grade="opens2v",
    ),
    motion_amplitude,
    COARSE,
)
VBENCH_FLICKERING = SuiteMetric(
    MetricSpec(
        name="temporal_flickering",
        about="1 less the mean change of a pixel from frame to frame, as VBench's.",
        direction="higher",
        low=0,
        high=1,
        needs=frozenset({"video"}),
        grade="vbench",
    ),
    flickering,
)


def suite_metrics(suite: Suite) -> tuple[Metric, ...]:
    """The metrics of a suite that need no models; none of MAGREF's."""
    return tuple(m for m in (OPENS2V_MOTION, VBENCH_FLICKERING) if m.spec.grade == suite)
