from __future__ import annotations

from dataclasses import replace

import pytest

import scored
from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import Benchmark, load_benchmark
from anyref.evaluation.metric import Score, Skipped
from anyref.evaluation.profiles.strict import strict
from anyref.evaluation.results import Scorer, ScoreTable
from anyref.evaluation.run import Scored, make_evaluation, score_in_processes
from anyref.evaluation.run_profile import measured_profile
from anyref.evaluation.videos import find_videos


def small(tmp_path):
    benchmark = load_benchmark(scored.write_benchmark(tmp_path))
    scored.write_clip(tmp_path / "videos/one.mp4")
    return benchmark, find_videos(benchmark, tmp_path / "videos")


def specs(*names, grade="exact"):
    return [scored.Grey(name, grade=grade).spec for name in names]


def test_a_metric_that_cannot_go_on_ends_the_run_with_its_reason(tmp_path):
    benchmark, results = small(tmp_path)
    with pytest.raises(EvaluationError, match="fetch them again"):
        score_in_processes(benchmark, results, Scorer((scored.Broken(),)))
    with pytest.raises(EvaluationError, match="0 workers"):
        score_in_processes(benchmark, results, Scorer(scored.metrics()), 0)


def test_the_total_of_our_own_profile_is_of_what_was_measured(benchmark):
    away = Skipped("its weights are not there", "unavailable")
    table = ScoreTable({"one": {("a", 0): Score(0.5)}, "two": {("a", 0): away}})
    made = make_evaluation(benchmark("a"), strict(specs("one", "two")), Scored("m", table))
    assert made.figures.summary.total == 0.5
    assert any("two: not measured" in note for note in made.figures.summary.notes)
    assert any(note.endswith("mean of 1 metrics: one") for note in made.figures.summary.notes)


def test_a_missing_video_is_the_worst_of_our_own_profile_and_no_part_of_a_suites(benchmark):
    gap = Skipped("there is no video", "missing")
    cases = benchmark("a", "b")
    table = ScoreTable({"gme_score": {("a", 0): Score(0.6), ("b", 0): gap}})
    own = make_evaluation(cases, strict(specs("gme_score")), Scored("m", table))
    assert own.figures.summary.total == pytest.approx(0.3)
    assert own.case_scores == {"a": pytest.approx(0.6), "b": 0.0}
    suite = make_evaluation(
        cases,
        measured_profile("magref", cases, specs("gme_score", grade="magref")),
        Scored("m", table),
    )
    assert suite.figures.summary.values == {"gme_score": pytest.approx(0.6)}
    assert "b" not in suite.case_scores and suite.published


def test_cases_of_one_category_have_no_parts(benchmark):
    table = ScoreTable({"one": {("a", 0): Score(0.5), ("b", 0): Score(0.7)}})
    made = make_evaluation(benchmark("a", "b"), strict(specs("one")), Scored("m", table))
    assert made.parts == {"category": {}, "references": {}}


def test_a_total_of_a_part_is_of_the_metrics_that_apply_to_it(benchmark):
    away = Skipped("one subject", "inapplicable")
    cases = (
        *benchmark("a", "b", category="one").cases,
        *benchmark("c", "d", category="two").cases,
    )
    both = Benchmark("x", cases, None)
    column = {(c.id, 0): Score(0.5) for c in cases}
    entangled = {**column, ("a", 0): away, ("b", 0): away}
    table = ScoreTable({"m": column, "n": entangled})
    other = ScoreTable({"m": dict.fromkeys(column, Score(0.25)), "n": entangled})
    made = make_evaluation(both, strict(specs("m", "n")), Scored("x", table), Scored("y", other))
    one, two = (made.parts["category"][name] for name in ("one", "two"))
    assert (one.summary.total, two.summary.total) == (0.5, 0.5)
    assert one.comparison.total.difference == pytest.approx(0.25)
    assert two.comparison.total.difference == pytest.approx(0.125)


def test_too_many_categories_and_a_stray_take_are_told(tmp_path, benchmark):
    cases = tuple(replace(c, category=c.id) for c in benchmark(*(f"c{k}" for k in range(41))).cases)
    for case in cases:
        (tmp_path / f"{case.id}.mp4").write_bytes(b"x")
    (tmp_path / "c2-3.mp4").write_bytes(b"x")
    many = Benchmark("x", cases, None)
    table = ScoreTable({"m": {(c.id, 0): Score(0.5) for c in cases}})
    model = Scored("m", table, find_videos(many, tmp_path))
    made = make_evaluation(many, strict(specs("m")), model)
    said = " ".join(made.figures.summary.notes)
    assert made.parts["category"] == {} and "41 categories" in said
    assert "take 3 is there of 1 cases only" in said
