from __future__ import annotations

import math

import numpy as np
import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.metric import Footage, MetricSpec, Score, Skipped, checked


def spec(**changed):
    said = {"name": "m", "about": "", "needs": frozenset({"video"}), "grade": "exact"}
    return MetricSpec(**{**said, "direction": "higher", "low": -1, "high": 1, **changed})


def test_the_direction_says_which_end_is_worst():
    assert (spec().worst, spec().best) == (-1, 1)
    lower = spec(direction="lower")
    assert (lower.worst, lower.best) == (1, -1)


@pytest.mark.parametrize("changed", [{"high": math.inf}, {"low": 1}, {"needs": frozenset()}])
def test_a_metric_has_a_finite_range_and_a_need(changed):
    with pytest.raises(EvaluationError):
        spec(**changed)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_is_a_finite_number(value):
    with pytest.raises(EvaluationError, match="return Skipped"):
        Score(value)


def test_rounding_over_the_range_is_put_back_and_more_is_refused():
    assert checked(spec(), Score(1 + 1e-7, {"k": 1})) == Score(1, {"k": 1})
    assert checked(spec(), Score(0.5)) == Score(0.5)
    skipped = Skipped("no face", "undetected")
    assert checked(spec(), skipped) is skipped
    with pytest.raises(EvaluationError, match="outside its range"):
        checked(spec(), Score(1.1))


def test_what_metrics_share_is_made_once_per_video():
    footage = Footage(np.zeros((1, 2, 2, 3), np.uint8), 8, "0")
    assert [footage.once("boxes", lambda k=k: k) for k in (1, 2)] == [1, 1]
