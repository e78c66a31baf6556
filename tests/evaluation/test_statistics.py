from __future__ import annotations

import math

import numpy as np
import pytest

from anyref.evaluation.benchmark import Benchmark, Case
from anyref.evaluation.metric import Score, Skipped
from anyref.evaluation.profiles.opens2v import opens2v
from anyref.evaluation.profiles.profile import Column, Group, Profile, summarise
from anyref.evaluation.profiles.vbench import vbench
from anyref.evaluation.results import ScoreTable
from anyref.evaluation.statistics import (
    compare,
    intervals,
    needed_cases,
    paired,
    parts,
    restricted,
    sign_flip_p,
)
from anyref.lab.statistics import wilson
from anyref.request import Request

TWO = Profile(
    name="two",
    columns=(Column(name="m"), Column(name="n", ceiling=2.0)),
    groups=(Group("all", {"m": 1.0, "n": 1.0}, 2.0),),
    total_weights={"all": 1.0},
)


def table(m, n=None):
    columns = {"m": m, "n": m if n is None else n}
    return ScoreTable(
        {
            name: {(f"c{k:03d}", 0): Score(float(v)) for k, v in enumerate(values)}
            for name, values in columns.items()
        }
    )


def drawn(count, mean=0.5, spread=0.1, seed=0):
    return np.clip(np.random.default_rng(seed).normal(mean, spread, count), 0, 2)


def test_intervals_hold_their_value_and_repeat_by_seed():
    scores = table(drawn(60), drawn(60, seed=1))
    one, two = intervals(TWO, scores), intervals(TWO, scores)
    assert one == two and one != intervals(TWO, scores, seed=1)
    summary = summarise(TWO, scores)
    for estimate, value in [
        (one.metrics["m"], summary.values["m"]),
        (one.metrics["n"], summary.values["n"]),
        (one.total, summary.total),
    ]:
        assert estimate.value == value
        assert estimate.low < value < estimate.high
        assert estimate.count == 60
    assert one.metrics["m"].high - one.metrics["m"].low == pytest.approx(
        2 * 1.96 * np.std(drawn(60)) / math.sqrt(60), rel=0.1
    )


def test_the_total_keeps_that_metrics_of_a_case_go_together():
    up, down = drawn(200), 2 * (1 - drawn(200))  # the second mirrors the first
    together, apart = intervals(TWO, table(up, 2 * up)).total, intervals(TWO, table(up, down)).total
    assert together.high - together.low > 0.02
    assert apart.high - apart.low < 1e-9


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(100):
        total = intervals(TWO, table(rng.uniform(0, 1, 50), rng.uniform(0, 2, 50))).total
        held += total.low <= 0.5 <= total.high
    assert 87 <= held <= 100


def test_rates_get_wilsons_interval():
    found = intervals(TWO, table([1, 0, 1, 0])).metrics["m"]
    assert (found.low, found.high) == pytest.approx(wilson(2, 4))


def test_frame_weighted_means_have_intervals_of_weighted_means():
    column = {(f"c{k}", 0): Score(v, {"pairs": 1 + k % 9}) for k, v in enumerate(drawn(40))}
    scores = ScoreTable({"subject_consistency": column})
    found = intervals(vbench(), scores)
    estimate = found.metrics["subject_consistency"]
    assert estimate.value == summarise(vbench(), scores).values["subject_consistency"]
    assert estimate.low < estimate.value < estimate.high
    assert found.total is None


def test_a_table_without_scores_has_no_intervals():
    found = intervals(opens2v("v1.1", "Open-Domain"), ScoreTable({}))
    assert (found.metrics, found.total) == ({}, None)


def test_a_difference_on_the_same_cases_is_seen_where_the_cases_differ_more():
    base = drawn(40, spread=0.2)
    better = table(base + 0.03 + drawn(40, 0, 0.01, seed=5))
    found = compare(TWO, better, table(base))
    for result in (*found.metrics.values(), found.total):
        assert result.low > 0 and result.p < 0.01 and result.effect > 2
    assert found.metrics["m"].difference == pytest.approx(0.03, abs=0.01)
    assert found.metrics["n"].difference == pytest.approx(0.015, abs=0.005)  # on its own scale
    assert found.total.difference == pytest.approx(
        (found.metrics["m"].difference + found.metrics["n"].difference) / 2
    )
    assert found == compare(TWO, better, table(base))


def test_no_difference_is_rarely_found():
    found = [
        compare(TWO, table(drawn(30, seed=k)), table(drawn(30, seed=k + 50))) for k in range(40)
    ]
    for ps in ([f.metrics["m"].p for f in found], [f.total.p for f in found]):
        assert sum(p < 0.05 for p in ps) <= 6
        assert sum(p < 0.5 for p in ps) >= 8


def test_equal_models_do_not_differ():
    found = compare(TWO, table(drawn(20)), table(drawn(20)))
    assert found.total.difference == 0 and found.total.p == 1
    assert found.metrics["m"].effect is None and found.metrics["m"].needed is None
    assert "no difference" in found.metrics["m"].note


def test_models_are_compared_on_the_takes_that_both_have():
    one = {("a", 0): Score(0.5), ("a", 1): Score(0.9), ("b", 0): Score(0.6), ("c", 0): Score(1.0)}
    other = {("a", 0): Score(0.4), ("b", 0): Score(0.4), ("d", 0): Score(0.0)}
    other["c", 0] = Skipped("no face", "undetected")
    found = compare(TWO, ScoreTable({"m": one}), ScoreTable({"m": other}))
    assert found.metrics["m"].count == 2
    assert found.metrics["m"].difference == pytest.approx(0.15)
    assert "n" not in found.metrics and found.total is None


def test_one_case_is_no_comparison():
    assert paired([0.5]) is None
    assert compare(TWO, table([0.5]), table([0.4])).total is None


@pytest.mark.parametrize(
    ("differences", "p"), [([1, 1, 1], 0.25), ([1, 2, 3, 4], 0.125), ([1, -1], 1.0), ([0, 0], 1.0)]
)
def test_sign_flips_of_few_cases_are_exact(differences, p):
    assert sign_flip_p(np.array(differences, float)) == p


def test_sign_flips_of_many_cases_agree_with_the_normal_distribution():
    values = np.random.default_rng(2).normal(0.012, 0.1, 200)
    z = values.mean() / math.sqrt((values**2).sum()) * len(values)
    assert sign_flip_p(values) == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.02)


@pytest.mark.parametrize(("effect", "cases"), [(0.2, 199), (0.5, 34), (0.8, 15), (-0.5, 34)])
def test_the_cases_needed_are_those_of_the_t_test(effect, cases):
    assert needed_cases(effect) == cases  # as G*Power gives for two-sided paired t tests


def test_the_note_says_how_many_cases_would_do():
    rng = np.random.default_rng(0)
    few = paired(rng.normal(0.1, 1, 30))
    assert few.needed > 30 and f"about {few.needed} are needed" in few.note
    assert paired(rng.normal(2, 1, 30)).note == "30 cases are enough"


def test_cases_are_parted_by_category_and_number_of_references():
    request = Request(prompt="p", references=[{"images": ["a.png"]}])
    cases = (
        Case(id="a", request=request, category="x"),
        Case(id="b", request=Request(prompt="p"), category="y"),
        Case(id="c", request=request, category="y"),
        Case(id="d", request=None, category="", fault="broken"),
    )
    benchmark = Benchmark("b", cases, None)
    assert parts(benchmark, "category") == {"x": ["a"], "y": ["b", "c"], "": ["d"]}
    assert parts(benchmark, "references") == {"1": ["a", "c"], "0": ["b", "d"]}
    scores = ScoreTable({"m": {("a", 0): Score(1), ("b", 1): Score(0)}})
    assert restricted(scores, ["b"]).outcomes("m") == {("b", 1): Score(0)}


def test_the_total_of_one_metric_has_the_effect_of_the_metric():
    one = Profile(
        name="one", columns=(Column(name="m"),), groups=(Group("all", {"m": 1.0}),),
        total_weights={"all": 1.0},
    )  # fmt: skip
    for count in (2, 5, 40):
        found = compare(one, table(drawn(count, 0.6)), table(drawn(count, 0.5, seed=9)))
        assert found.total.effect == pytest.approx(found.metrics["m"].effect, rel=0.06)


def test_a_difference_that_is_the_same_in_all_cases_is_said_as_one():
    found = paired([0.2] * 5)
    assert found.effect is None and found.note == "all 5 cases differ by the same amount"


def test_resamples_without_a_scored_case_are_no_part_of_a_suites_interval():
    profile = opens2v("v1.1", "Open-Domain")
    full = {f"c{k}": Score(0.6) for k in range(2)}
    columns = {c.name: {(case, 0): s for case, s in full.items()} for c in profile.columns}
    columns["aes_score"] = {("c0", 0): Score(5.5), ("c1", 0): Skipped("", "missing")}
    found = intervals(profile, ScoreTable(columns))
    total = summarise(profile, ScoreTable(columns)).total
    assert "aes_score" not in found.metrics  # of one case
    assert (found.total.low, found.total.high) == pytest.approx((total, total))


def test_one_case_has_no_interval():
    assert intervals(TWO, table([0.5])).metrics == {} and intervals(TWO, table([0.5])).total is None


def test_a_repeated_id_is_of_the_first_case_alone():
    request = Request(prompt="p", references=[{"images": ["a.png"]}])
    first = Case(id="a", request=request, category="x")
    again = Case(id="a", request=None, category="y", fault="id 'a' is used before")
    benchmark = Benchmark("b", (first, again), None)
    assert parts(benchmark, "category") == {"x": ["a"]}
    assert parts(benchmark, "references") == {"1": ["a"]}


def test_a_figure_that_a_suite_printed_has_the_interval_of_its_videos_around_it():
    column = {(f"c{k}", 0): Score(float(v)) for k, v in enumerate(drawn(40))}
    own = intervals(vbench(), ScoreTable({"color": column})).metrics["color"]
    printed = intervals(
        vbench(), ScoreTable({"color": column}, printed={"color": own.value + 0.01})
    )
    found = printed.metrics["color"]
    assert found.value == pytest.approx(own.value + 0.01)
    assert (found.low, found.high) == pytest.approx((own.low + 0.01, own.high + 0.01), abs=0.01)
