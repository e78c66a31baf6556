from __future__ import annotations

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
