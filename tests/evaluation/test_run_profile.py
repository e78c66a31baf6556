from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.metric import MetricSpec, Score
from anyref.evaluation.profiles.profile import summarise
from anyref.evaluation.results import ScoreTable
from anyref.evaluation.run_profile import (
    Gate,
    check_gates,
    measured_profile,
    name_of,
    parse_gates,
    read_scores,
    suite,
)


def spec(name, grade="small"):
    return MetricSpec(
        name=name,
        about="A share.",
        direction="higher",
        low=0,
        high=1,
        needs=frozenset({"video"}),
        grade=grade,
    )


def test_a_suite_of_which_a_part_is_measured_has_figures_and_no_total(benchmark):
    cases = replace(benchmark("singlehuman_1"), domain="Open-Domain")
    profile = measured_profile("opens2v-v1.1", cases, [spec("gme_score", "opens2v")])
    table = ScoreTable({"gme_score": {("singlehuman_1", 0): Score(0.4)}})
    summary = summarise(profile, table)
    assert summary.values == {"gme_score": 0.4} and summary.total is None


def test_a_suite_of_which_nothing_is_measured_is_refused(benchmark):
    with pytest.raises(EvaluationError, match="none of these is measured here"):
        measured_profile("vbench", benchmark("a"), [spec("other", "vbench")])


@pytest.mark.parametrize("grade", ["small", "exact", "large", "vbench"])
def test_a_metric_of_ours_never_stands_in_for_a_suites_of_the_same_name(benchmark, grade):
    cases = replace(benchmark("singlehuman_1"), domain="Open-Domain")
    ours = [spec("motion_amplitude", grade), spec("motion_smoothness", grade)]
    with pytest.raises(EvaluationError, match="its own scripts"):
        measured_profile("opens2v-v1.1", cases, ours)


def test_cases_without_a_lone_person_are_of_magrefs_second_table(benchmark):
    assert suite("magref", benchmark("a")).groups[0].name == "multi-subject"


def test_a_figure_that_is_not_measured_is_under_any_limit(benchmark):
    profile = measured_profile("strict", benchmark("a"), [spec("one"), spec("two")])
    summary = summarise(profile, ScoreTable({"one": {("a", 0): Score(0.5)}}))
    held = [gate.holds(summary) for gate in parse_gates(["one=0.5", "one=0.6", "two=-1"])]
    assert held == [True, False, False]
    assert not Gate("total", 0.0).holds(summary)


def test_a_limit_over_100_is_told_the_scale():
    with pytest.raises(EvaluationError, match=r"total=0\.5 for 50 of 100"):
        parse_gates(["total=50"])


def test_models_of_folders_whose_names_tell_nothing_are_named_with_the_folder_around(
    tmp_path, monkeypatch
):
    for name in ("fox/videos", "fox/model-a"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "fox")
    assert name_of(Path("videos")) == "fox/videos" and name_of(Path("model-a")) == "model-a"
    assert name_of(Path()) == "fox"


def test_scores_of_magref_are_read_from_a_table(tmp_path, benchmark):
    (tmp_path / "scores.csv").write_text(
        "case,id_sim,subj_sim,bg_sim,aesthetic,motion,gme_score\na,0.6,0.5,0.4,5.5,0.9,0.7\n"
    )
    cases = benchmark("a", "b")
    model = read_scores(tmp_path, "magref", cases)
    summary = summarise(suite("magref", cases), model.table)
    assert summary.total == pytest.approx((0.6 + 0.5 + 0.4 + 0.5 + 0.9 + 0.7) / 6)
    assert {f.left_out for f in summary.figures} == {1}
    assert read_scores(tmp_path / "nothing", "magref", cases) is None


def test_score_files_of_other_cases_are_refused(tmp_path, benchmark):
    (tmp_path / "gmescore.json").write_text('{"x_1": {"gme_score": 0.5}}')
    cases = replace(benchmark("singlehuman_1"), domain="Open-Domain")
    with pytest.raises(EvaluationError, match="0 cases"):
        read_scores(tmp_path, "opens2v-v1.1", cases)


@pytest.mark.parametrize("text", ["one", "=1", "one=", "one=high", "one=nan"])
def test_a_gate_of_another_form_is_refused(text):
    with pytest.raises(EvaluationError, match="METRIC=VALUE"):
        parse_gates([text])


def test_a_gate_on_no_figure_names_those_there_are(benchmark):
    profile = measured_profile("strict", benchmark("a"), [spec("one")])
    with pytest.raises(EvaluationError, match="total, one"):
        check_gates([Gate("speed", 0.5)], profile)
