from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anyref.evaluation.metric import Score, Skipped
from anyref.evaluation.profiles.profile import Column, Group, Profile, contributions, summarise
from anyref.evaluation.results import ScoreTable

CAUSES = ("inapplicable", "unavailable", "undetected", "unreadable", "missing")


def profile(missing, **column):
    return Profile(
        name="p",
        columns=(Column(name="m", **column),),
        groups=(Group("g", {"m": 2.0}, 4.0),),
        total_weights={"g": 1.0},
        missing=missing,
    )


def table(*outcomes):
    return ScoreTable({"m": {(f"c{k}", 0): outcome for k, outcome in enumerate(outcomes)}})


def test_only_a_profile_that_counts_the_missing_is_hurt_by_them():
    skips = [Skipped("", cause) for cause in CAUSES]
    scores = table(Score(0.8), *skips)
    dropping = summarise(profile("drop"), scores).figures[0]
    assert (dropping.value, dropping.scored, dropping.left_out) == (0.8, 1, 4)
    counting = summarise(profile("worst"), scores).figures[0]
    assert counting.value == pytest.approx(0.2)
    assert (counting.scored, counting.penalised, counting.left_out) == (1, 3, 1)
    assert counting.inapplicable == 1
    assert counting.causes == dict.fromkeys(sorted(CAUSES), 1)


def test_takes_of_a_case_are_averaged_before_cases_are():
    column = {("a", 0): Score(0.0), ("a", 1): Score(1.0), ("b", 0): Score(1.0)}
    assert summarise(profile("drop"), ScoreTable({"m": column})).figures[0].value == 0.75


def test_a_missing_take_counts_within_its_case():
    column = {("a", 0): Score(1.0), ("a", 1): Skipped("", "missing"), ("b", 0): Score(1.0)}
    figure = summarise(profile("worst"), ScoreTable({"m": column})).figures[0]
    assert (figure.value, figure.penalised) == (0.75, 1)


def test_groups_and_totals_are_weighted_and_divided():
    summary = summarise(profile("drop"), table(Score(0.5)))
    assert (summary.groups, summary.total) == ({"g": 0.25}, 0.25)


def test_floor_and_ceiling_may_be_upside_down_for_metrics_where_less_is_better():
    summary = summarise(profile("worst", floor=10, ceiling=0), table(Score(2.5), Score(7.5)))
    assert summary.values == {"m": 0.5}


def test_contributions_are_the_terms_of_the_means():
    scores = table(Score(0.8), Skipped("", "missing"), Score(0.0))
    terms = contributions(profile("drop", drops_zero=True), scores)
    assert terms.cases == ("c0", "c1", "c2")
    np.testing.assert_array_equal(terms.weights, [[1], [0], [0]])
    terms = contributions(profile("worst"), scores)
    assert float((terms.values * terms.weights).sum() / terms.weights.sum()) == pytest.approx(
        0.8 / 3
    )


def test_a_profile_by_video_weighs_a_case_by_its_takes():
    column = {("a", take): Score(1.0) for take in range(3)} | {("b", 0): Score(0.4)}
    by_case = profile("drop")
    by_video = replace(by_case, by_video=True)
    values = [summarise(p, ScoreTable({"m": column})).figures[0].value for p in (by_case, by_video)]
    assert values == pytest.approx([0.7, 0.85])


def test_faulty_cases_count_nowhere_and_are_told():
    scores = table(Score(0.8), Skipped("", "faulty"), Skipped("", "faulty"))
    summary = summarise(profile("worst"), scores)
    assert (summary.figures[0].value, summary.figures[0].faulty) == (0.8, 2)
    assert any("2 cases are at fault" in note for note in summary.notes)


def test_a_metric_that_failed_at_a_video_counts_as_the_worst_and_is_told():
    summary = summarise(profile("worst"), table(Score(0.8), Skipped("", "failed")))
    assert summary.figures[0].value == pytest.approx(0.4)
    assert any("1 times a metric failed" in note for note in summary.notes)


def test_what_a_suite_printed_stands_for_our_mean():
    scores = replace(table(Score(0.8)), printed={"m": 0.5})
    assert summarise(profile("drop"), scores).values == {"m": 0.5}
