"""Known answers of VBench's arithmetic: by hand, or from its own scripts."""

from __future__ import annotations

import numpy as np
import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.metric import Score
from anyref.evaluation.profiles.profile import summarise
from anyref.evaluation.profiles.vbench import (
    MotionRule,
    flickering,
    frame_consistency,
    motion_rule,
    reference_consistency,
    scaled,
    vbench,
    vbench_i2v,
)
from anyref.evaluation.results import ScoreTable

DIMENSIONS = {
    "subject_consistency": 0.95,
    "background_consistency": 0.96,
    "temporal_flickering": 0.98,
    "motion_smoothness": 0.99,
    "dynamic_degree": 0.6,
    "aesthetic_quality": 0.62,
    "imaging_quality": 0.68,
    "object_class": 0.9,
    "multiple_objects": 0.7,
    "human_action": 0.95,
    "color": 0.88,
    "spatial_relationship": 0.65,
    "scene": 0.5,
    "appearance_style": 0.24,
    "temporal_style": 0.25,
    "overall_consistency": 0.27,
}
I2V = {
    "camera_motion": 0.5,
    "i2v_subject": 0.97,
    "i2v_background": 0.98,
    "subject_consistency": 0.95,
    "background_consistency": 0.96,
    "motion_smoothness": 0.985,
    "dynamic_degree": 0.4,
    "aesthetic_quality": 0.6,
    "imaging_quality": 0.7,
}


def turned(*degrees):
    """Vectors of various lengths at angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1) * np.arange(1, len(degrees) + 1)[:, None]


def test_the_total_is_four_parts_quality_and_one_part_semantics():
    profile, values = vbench(), scaled(DIMENSIONS)
    groups = profile.group_values(values)
    assert groups["quality"] == pytest.approx(0.8319374553, abs=5e-11)
    assert groups["semantic"] == pytest.approx(0.7729802740, abs=5e-11)
    assert profile.total(values) == pytest.approx(0.8201460191, abs=5e-11)


def test_the_i2v_total_is_half_quality():
    profile, values = vbench_i2v(), scaled(I2V)
    groups = profile.group_values(values)
    assert groups["quality"] == pytest.approx(0.7898895970, abs=5e-11)
    assert groups["i2v"] == pytest.approx(0.9465624013, abs=5e-11)
    assert profile.total(values) == pytest.approx(0.8682259992, abs=5e-11)


def test_scores_of_videos_give_the_same_totals():
    table = ScoreTable({name: {("a", 0): Score(value)} for name, value in I2V.items()})
    summary = summarise(vbench_i2v(), table)
    assert summary.total == pytest.approx(0.8682259992, abs=5e-11)
    assert summarise(vbench(), table).total is None
    assert "color: not measured" in summarise(vbench(), table).notes


def test_consistencies_are_means_over_frames_and_others_over_videos():
    short, long = Score(0.5, {"pairs": 1}), Score(1.0, {"pairs": 3})
    column = {("a", 0): short, ("b", 0): long}
    summary = summarise(vbench(), ScoreTable({"subject_consistency": column, "color": column}))
    assert summary.values["subject_consistency"] == pytest.approx((0.875 - 0.1462) / 0.8538)
    assert summary.values["color"] == 0.75


def test_an_unknown_dimension_is_refused():
    with pytest.raises(EvaluationError, match="VBench has no speed"):
        scaled({"speed": 1})


def test_subject_consistency_looks_at_the_frame_before_and_the_first():
    assert frame_consistency(turned(0, 60, 120)) == pytest.approx(0.375)
    assert frame_consistency(turned(0, 180)) == 0
    with pytest.raises(EvaluationError):
        frame_consistency(turned(0))


def test_consistency_to_a_picture_weighs_the_best_the_mean_and_the_worst():
    assert reference_consistency([0.9, 0.8, 0.7], [0.95, 0.85]) == pytest.approx(0.885)
    assert reference_consistency([-1, -0.5], [-0.5]) == 0
    with pytest.raises(EvaluationError):
        reference_consistency([0.9], [])


@pytest.mark.parametrize(
    ("video", "rule"),
    [
        ((81, 480, 832, 16), (2, 41, 11.25, 10)),
        ((129, 720, 1280, 24), (3, 43, 16.875, 11)),
        ((49, 480, 720, 8), (1, 49, 11.25, 12)),
        ((16, 512, 512, 8), (1, 16, 12, 4)),
        ((2, 256, 256, 8), (1, 2, 6, 0)),
        ((8, 256, 256, 4), (1, 8, 12, 2)),
    ],
)
def test_the_rule_for_dynamic_videos_follows_size_and_rate(video, rule):
    assert motion_rule(*video) == MotionRule(*rule)


def test_two_sampled_frames_are_always_dynamic():
    assert motion_rule(2, 256, 256, 8).is_dynamic([0.0])
    rule = MotionRule(1, 16, 12, 4)
    assert not rule.is_dynamic([13.0] * 3 + [12.0] * 12)
    assert rule.is_dynamic([13.0] * 4 + [0.0] * 11)
    assert not motion_rule(1, 256, 256, 8).is_dynamic([])
    for frames, fps in [(0, 8), (8, 0), (8, float("nan"))]:
        with pytest.raises(EvaluationError):
            motion_rule(frames, 256, 256, fps)


def test_flickering_is_the_mean_change_of_a_pixel():
    frames = np.zeros((3, 2, 2, 3), np.uint8)
    assert flickering(frames) == 1
    frames[1] = 51
    assert flickering(frames) == pytest.approx(0.8)
    with pytest.raises(EvaluationError):
        flickering(frames[:1])
