from __future__ import annotations

import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.metric import MetricSpec, Score, Skipped
from anyref.evaluation.profiles.profile import summarise
from anyref.evaluation.profiles.strict import strict
from anyref.evaluation.results import ScoreTable


def spec(name, low, high, direction, grade="small"):
    return MetricSpec(
        name=name,
        about="",
        direction=direction,
        low=low,
        high=high,
        needs=frozenset({"video"}),
        grade=grade,
    )


IDENTITY = spec("identity", -1, 1, "higher")
COPYING = spec("copying", 0, 10, "lower", "exact")


def test_one_is_best_and_the_missing_are_worst_whichever_way_a_metric_goes():
    table = ScoreTable(
        {
            "identity": {("a", 0): Score(0.5), ("b", 0): Skipped("", "undetected")},
            "copying": {("a", 0): Score(2.0), ("b", 0): Skipped("", "missing")},
        }
    )
    summary = summarise(strict([IDENTITY, COPYING]), table)
    assert summary.values == pytest.approx({"identity": 0.375, "copying": 0.4})
    assert summary.total == pytest.approx(0.3875)
    assert "counts as the worst score" in " ".join(summary.notes)
    assert "copying: 1 of 2 count as the worst" in summary.notes


def test_the_worst_is_zero_without_a_sign():
    table = ScoreTable({"copying": {("a", 0): Score(10.0)}})
    assert str(summarise(strict([COPYING]), table).values["copying"]) == "0.0"


def test_a_metric_that_cannot_run_leaves_no_total():
    table = ScoreTable(
        {
            "identity": {("a", 0): Skipped("no weights", "unavailable")},
            "copying": {("a", 0): Score(0.0)},
        }
    )
    summary = summarise(strict([IDENTITY, COPYING]), table)
    assert (summary.values, summary.total) == ({"copying": 1.0}, None)
    assert "identity: not measured" in summary.notes


def test_grades_are_not_mixed_and_nothing_is_not_counted():
    with pytest.raises(EvaluationError, match="one report"):
        strict([IDENTITY, spec("other", 0, 1, "higher", "large")])
    with pytest.raises(EvaluationError, match="no metrics"):
        strict([])
