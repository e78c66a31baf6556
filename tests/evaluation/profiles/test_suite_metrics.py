from __future__ import annotations

import numpy as np
import pytest

from anyref.evaluation.benchmark import Case
from anyref.evaluation.cache import score_key
from anyref.evaluation.metric import Footage
from anyref.evaluation.metrics.motion import MotionAmplitude
from anyref.evaluation.profiles.opens2v_motion import signed_motion
from anyref.evaluation.profiles.suite_metrics import suite_metrics
from anyref.request import Request

CASE = Case(id="a", request=Request(prompt="p"))


def moving(shape=(96, 128), count=4, step=3):
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 255, (shape[0] // 4 + 1, shape[1] // 4 + 1, 3))
    noise = np.kron(tiles, np.ones((4, 4, 1))).astype(np.uint8)[: shape[0], : shape[1]]
    return Footage(np.stack([np.roll(noise, step * t, 1) for t in range(count)]), 8.0, "")


def test_opens2vs_amplitude_is_its_scripts_and_no_score_of_ours():
    (metric,) = suite_metrics("opens2v")
    footage = moving()
    assert metric.spec.name == "motion_amplitude" and metric.applies(CASE) is None
    assert metric.score(CASE, footage).value == abs(signed_motion(footage.frames)) > 0.5
    assert score_key(metric.spec, CASE, "") != score_key(MotionAmplitude().spec, CASE, "")


def test_vbenchs_flickering_is_measured_and_nothing_of_magrefs():
    (metric,) = suite_metrics("vbench")
    assert metric.score(CASE, moving(step=0)).value == 1
    assert metric.score(CASE, moving()).value < 0.9
    assert suite_metrics("magref") == ()


@pytest.mark.parametrize(("suite", "footage"), [
    ("opens2v", {"count": 1}), ("opens2v", {"shape": (4, 128)}), ("vbench", {"count": 1}),
])  # fmt: skip
def test_what_a_script_cannot_measure_is_undetected(suite, footage):
    (metric,) = suite_metrics(suite)
    assert metric.score(CASE, moving(**footage)).cause == "undetected"
