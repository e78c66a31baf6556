from __future__ import annotations

from dataclasses import replace

import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.metric import MetricSpec, Score
from anyref.evaluation.profiles.profile import summarise
from anyref.evaluation.results import ScoreTable
from anyref.evaluation.run_profile import Gate, check_gates, measured_profile, parse_gates, suite


def spec(name):
    return MetricSpec(
        name=name,
        about="A share.",
        direction="higher",
        low=0,
        high=1,
        needs=frozenset({"video"}),
        grade="small",
    )


def test_a_suite_of_which_a_part_is_measured_has_figures_and_no_total(benchmark):
    cases = replace(benchmark("singlehuman_1"), domain="Open-Domain")
    profile = measured_profile("opens2v-v1.1", cases, [spec("gme_score"), spec("other")])
    table = ScoreTable({"gme_score": {("singlehuman_1", 0): Score(0.4)}})
    summary = summarise(profile, table)
    assert summary.values == {"gme_score": 0.4} and summary.total is None


def test_a_suite_of_which_nothing_is_measured_is_refused(benchmark):
    with pytest.raises(EvaluationError, match="none of these is among"):
        measured_profile("vbench", benchmark("a"), [spec("other")])


def test_cases_without_a_lone_person_are_of_magrefs_second_table(benchmark):
    assert suite("magref", benchmark("a")).groups[0].name == "multi-subject"


def test_a_figure_that_is_not_measured_is_under_any_limit(benchmark):
    profile = measured_profile("strict", benchmark("a"), [spec("one"), spec("two")])
    summary = summarise(profile, ScoreTable({"one": {("a", 0): Score(0.5)}}))
    held = [gate.holds(summary) for gate in parse_gates(["one=0.5", "one=0.6", "two=-1"])]
    assert held == [True, False, False]
    assert not Gate("total", 0.0).holds(summary)


@pytest.mark.parametrize("text", ["one", "=1", "one=", "one=high", "one=nan"])
def test_a_gate_of_another_form_is_refused(text):
    with pytest.raises(EvaluationError, match="METRIC=VALUE"):
        parse_gates([text])


def test_a_gate_on_no_figure_names_those_there_are(benchmark):
    profile = measured_profile("strict", benchmark("a"), [spec("one")])
    with pytest.raises(EvaluationError, match="total, one"):
        check_gates([Gate("speed", 0.5)], profile)
