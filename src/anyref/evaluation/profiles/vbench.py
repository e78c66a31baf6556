"""VBench and VBench-I2V: how dimensions are made of model outputs, and the totals.

From the repository Vchitect/VBench: vbench/*.py, vbench2_beta_i2v/*.py, scripts/constant.py and
scripts/cal_final_score.py. Videos without a score drop out of the means.
"""

# Axes: T frames, D features

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from anyref.errors import EvaluationError
from anyref.evaluation.profiles.profile import Column, Group, Profile

PAIRS = "pairs"  # detail of a consistency score: frames less one, its weight in the mean

# floor and ceiling of each dimension (scripts/constant.py)
SCALES: dict[str, tuple[float, float]] = {
    "subject_consistency": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0),
    "temporal_flickering": (0.6293, 1.0),
    "motion_smoothness": (0.706, 0.9975),
    "dynamic_degree": (0.0, 1.0),
    "aesthetic_quality": (0.0, 1.0),
    "imaging_quality": (0.0, 1.0),
    "object_class": (0.0, 1.0),
    "multiple_objects": (0.0, 1.0),
    "human_action": (0.0, 1.0),
    "color": (0.0, 1.0),
    "spatial_relationship": (0.0, 1.0),
    "scene": (0.0, 0.8222),
    "appearance_style": (0.0009, 0.2855),
    "temporal_style": (0.0, 0.364),
    "overall_consistency": (0.0, 0.364),
    "camera_motion": (0.0, 1.0),
    "i2v_subject": (0.1462, 1.0),
    "i2v_background": (0.2615, 1.0),
}
QUALITY = {
    "subject_consistency": 1.0,
    "background_consistency": 1.0,
    "temporal_flickering": 1.0,
    "motion_smoothness": 1.0,
    "aesthetic_quality": 1.0,
    "imaging_quality": 1.0,
    "dynamic_degree": 0.5,
}
SEMANTIC = dict.fromkeys(
    (
        "object_class",
        "multiple_objects",
        "human_action",
        "color",
        "spatial_relationship",
        "scene",
        "appearance_style",
        "temporal_style",
        "overall_consistency",
    ),
    1.0,
)
I2V = {"camera_motion": 0.1, "i2v_subject": 1.0, "i2v_background": 1.0}
I2V_QUALITY = {name: w for name, w in QUALITY.items() if name != "temporal_flickering"}
CONSISTENCIES = ("subject_consistency", "background_consistency")


def vbench() -> Profile:
    """The profile "vbench": Total = (4 Quality + Semantic) / 5 of 16 dimensions."""
    groups = (Group("quality", QUALITY, 6.5), Group("semantic", SEMANTIC, 9.0))
    return _profile("vbench", groups, {"quality": 4.0, "semantic": 1.0}, 5.0)


def vbench_i2v() -> Profile:
    """The profile "vbench-i2v": Total = (I2V + Quality) / 2 of 9 dimensions."""
    groups = (Group("i2v", I2V, 2.1), Group("quality", I2V_QUALITY, 5.5))
    return _profile("vbench-i2v", groups, {"i2v": 1.0, "quality": 1.0}, 2.0)


def _profile(
    name: str, groups: tuple[Group, ...], weights: Mapping[str, float], divisor: float
) -> Profile:
    columns = tuple(
        Column(
            name=dimension,
            floor=SCALES[dimension][0],
            ceiling=SCALES[dimension][1],
            weight_by=PAIRS if dimension in CONSISTENCIES else None,
        )
        for group in groups
        for dimension in group.weights
    )
    return Profile(
        name=name,
        columns=columns,
        groups=groups,
        total_weights=weights,
        total_divisor=divisor,
        by_video=True,
        notes=(
            "consistencies are means over frames, as on one GPU; VBench on several GPUs takes "
            "the mean over videos",
        ),
    )


def scaled(raw: Mapping[str, float]) -> dict[str, float]:
    """Dimensions as VBench prints them (imaging quality over 100), scaled for its totals.

    Raises:
        EvaluationError: for a dimension that VBench does not have.
    """
    if unknown := sorted(set(raw) - set(SCALES)):
        raise EvaluationError(f"VBench has no {', '.join(unknown)}; it has {', '.join(SCALES)}")
    return {
        name: (value - SCALES[name][0]) / (SCALES[name][1] - SCALES[name][0])
        for name, value in raw.items()
    }


def frame_consistency(features: NDArray[np.floating]) -> float:
    """Subject and background consistency of a video from its frames' features.

    The mean over frames from the second on of half the cosine to the frame before and half that
    to the first, negative ones as 0 (subject_consistency.py).

    Args:
        features: (T, D), of any length, T at least 2.

    Raises:
        EvaluationError: for fewer than 2 frames.
    """
    if len(features) < 2:
        raise EvaluationError(f"{len(features)} frames have no consistency; 2 or more are needed")
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)  # (T, D)
    before = np.maximum((unit[1:] * unit[:-1]).sum(1), 0)  # (T - 1,)
    first = np.maximum(unit[1:] @ unit[0], 0)  # (T - 1,)
    return float(((before + first) / 2).mean())


def reference_consistency(to_reference: Sequence[float], between_frames: Sequence[float]) -> float:
    """i2v_subject and i2v_background of a video (vbench2_beta_i2v/i2v_subject.py).

    Args:
        to_reference: cosine of each frame to the picture. between_frames: of each frame to the
            one before; one fewer. Negative ones count as 0.

    Raises:
        EvaluationError: for fewer than 2 frames.
    """
    if not len(to_reference) or not len(between_frames):
        raise EvaluationError("a video of 1 frame has no consistency; 2 or more are needed")
    conformity = np.maximum(to_reference, 0)
    steps = np.maximum(between_frames, 0)
    return float(0.4 * conformity.max() + 0.3 * steps.mean() + 0.3 * steps.min())


@dataclass(frozen=True)
class MotionRule:
    """When a video counts as dynamic.

    Args:
        interval: every n-th frame is looked at. sampled: how many that are. threshold: a pair of
            them moves when the mean of its largest 5 % of flows, in pixels, is over this.
        pairs: that must move; with 0, as for 2 sampled frames, every video is dynamic.
    """

    interval: int
    sampled: int
    threshold: float
    pairs: int

    def is_dynamic(self, flows: Sequence[float]) -> bool:
        """Whether enough pairs move (RAFT's flows; dynamic_degree.py)."""
        if not len(flows):
            return False
        return sum(flow > self.threshold for flow in flows) >= self.pairs


def motion_rule(num_frames: int, height: int, width: int, fps: float) -> MotionRule:
    """The rule for a video of a size in pixels and a rate (dynamic_degree.py).

    Raises:
        EvaluationError: for no frames, or a rate that is not positive.
    """
    if num_frames < 1 or not fps > 0:
        raise EvaluationError(f"{num_frames} frames at {fps} fps are no video; give both")
    interval = max(1, round(fps / 8))
    sampled = len(range(0, num_frames, interval))
    threshold = max(1.0, 8 / fps) * 6.0 * (min(height, width) / 256)
    return MotionRule(interval, sampled, threshold, round(4 * (sampled / 16)))


def flickering(frames: NDArray[np.uint8]) -> float:
    """Temporal flickering of a video, 1 without any (temporal_flickering.py).

    Args:
        frames: uint8 (T, Y, X, 3), T at least 2.

    Raises:
        EvaluationError: for fewer than 2 frames.
    """
    if len(frames) < 2:
        raise EvaluationError(f"{len(frames)} frames do not flicker; 2 or more are needed")
    steps = [
        float(np.abs(after.astype(np.int16) - before).mean()) for before, after in pairwise(frames)
    ]
    return (255 - float(np.mean(steps))) / 255
