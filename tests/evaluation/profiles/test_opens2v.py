"""Known answers of OpenS2V-Eval's arithmetic: figures published with it or computed by hand."""

from __future__ import annotations

import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.metric import Score
from anyref.evaluation.profiles.opens2v import (
    ORDER,
    WEIGHTS,
    arc_similarity,
    completed,
    curricular_similarity,
    expected_quality,
    face_reference,
    keeps_box,
    motion_smoothness,
    natural_score,
    nexus_references,
    nexus_score,
    opens2v,
    sampled_frames,
    smoothness_windows,
)
from anyref.evaluation.profiles.profile import counting_the_missing, summarise
from anyref.evaluation.results import ScoreTable

V1_1 = {  # leaderboard/file_v1.1/model_name_Open-Domain.json
    "aes_score": 0.44594517904800374,
    "motion_smoothness": 0.8693211435903602,
    "motion_amplitude": 0.4160163568750958,
    "facesim_cur": 0.4010164068564032,
    "gme_score": 0.6620000359470859,
    "nexus_score": 0.4588851569398767,
    "natural_score": 0.745910020449898,
}
V1_0 = {  # leaderboard/file_v1.0/model_name_Open-Domain.json
    "aes_score": 0.3343864281972249,
    "motion_amplitude": 0.1945268139243126,
    "facesim_cur": 0.9420197624713182,
    "gme_score": 0.6767578125,
    "nexus_score": 0.260009765625,
    "natural_score": 0.6666666666666667,
}
SHORT = ("aes", "ampl", "smooth", "face", "gme", "nexus", "nat")
LONG = (ORDER[0], ORDER[2], ORDER[1], *ORDER[3:])


def table(**cases):
    """A table from the values of cases, named by `SHORT`."""
    names = dict(zip(SHORT, LONG, strict=True))
    columns = {}
    for case, values in cases.items():
        for short, value in values.items():
            columns.setdefault(names[short], {})[case, 0] = Score(value)
    return ScoreTable(columns)


def test_totals_of_full_precision_are_exact():
    assert opens2v("v1.1", "Open-Domain").total(V1_1) == 0.562269546381486
    assert opens2v("v1.0", "Open-Domain").total(V1_0) == 0.5450864321738482


def test_values_are_clamped_averaged_and_scaled():
    a = dict(zip(SHORT, (8, -3, 0.5, 0.4, 0.7, 0.2, 0.5), strict=True))
    b = dict(zip(SHORT, (3, 0.2, 1, 0, 0.6, 0, 4), strict=True))
    summary = summarise(opens2v("v1.1", "Open-Domain"), table(a=a, b=b))
    expected = (0.5, 0.6, 0.75, 0.2, 0.65, 1.0, 0.375)
    assert summary.values == pytest.approx(dict(zip(LONG, expected, strict=True)))
    assert summary.total == pytest.approx(0.545)
    nexus = next(f for f in summary.figures if f.name == "nexus_score")
    assert (nexus.scored, nexus.left_out) == (1, 1)
    assert "nexus_score: 1 of 2 are left out" in summary.notes


def test_a_metric_that_nobody_measured_scales_to_less_than_nothing():
    profile = opens2v("v1.1", "Open-Domain")
    only = summarise(profile, table(a={"aes": 5.5}))
    assert only.values["aes_score"] == pytest.approx(0.5)
    assert only.values["natural_score"] == -0.25
    assert only.total == pytest.approx(0.02)
    empty = summarise(profile, ScoreTable({}))
    assert empty.values["aes_score"] == pytest.approx(-4 / 3)
    assert empty.total == pytest.approx(-0.27333, abs=5e-6)


def test_the_strict_form_refuses_an_empty_table_and_totals_nothing_that_is_absent():
    strict = counting_the_missing(opens2v("v1.1", "Open-Domain"))
    with pytest.raises(EvaluationError, match="nothing to count"):
        summarise(strict, ScoreTable({}))
    assert summarise(strict, table(a={"aes": 5.5})).total is None


@pytest.mark.parametrize(("version", "domain"), WEIGHTS)
def test_all_maxima_make_one(version, domain):
    best = dict(zip(SHORT, (7, 1, 1, 1, 1, 0.05, 5), strict=True))
    total = summarise(opens2v(version, domain), table(a=best)).total
    assert total == pytest.approx(1, abs=1e-15)


def test_human_domain_has_its_own_weights():
    values = {"aes": 5.5, "ampl": 0.3, "smooth": 0.9, "face": 0.5, "gme": 0.7, "nat": 3.5}
    summary = summarise(opens2v("v1.1", "Human-Domain"), table(a=values))
    assert summary.total == pytest.approx(0.5975)
    assert "nexus_score" not in summary.values


def test_no_other_version_or_domain_exists():
    with pytest.raises(EvaluationError, match="has no v2 Open-Domain"):
        opens2v("v2", "Open-Domain")


def test_what_the_benchmark_does_not_score_is_told_from_what_is_missing(benchmark):
    cases = benchmark("multihuman_1", "singlehuman_1")
    full = completed(table(multihuman_1={"aes": 5.0}), cases)
    figures = {f.name: f for f in summarise(opens2v("v1.1", "Open-Domain"), full).figures}
    assert (figures["aes_score"].scored, figures["aes_score"].left_out) == (1, 1)
    assert figures["facesim_cur"].inapplicable == 2  # no picture in a folder of people
    assert figures["natural_score"].left_out == 2
    strict = summarise(counting_the_missing(opens2v("v1.1", "Human-Domain")), full)
    assert strict.values["aes_score"] == pytest.approx((1 / 3 + 0) / 2)
    assert "aes_score: 1 of 2 count as the worst" in strict.notes


@pytest.mark.parametrize(
    ("ratings", "smoothness"),
    [
        ([0.8] * 5, 1.0),
        ([0.8] + [0.9] * 9, 0.8),
        ([0.5, 0.6, 0.5, 0.6], 0.0),
        ([0.5, 0.524, 0.548], 1.0),
        ([0.5] * 30 + [0.6] * 3 + [0.5] + [0.5] * 30 + [0.6] * 3 + [0.5, 0.5], None),
        ([0.5], 1.0),
    ],
)
def test_both_frames_of_a_step_in_quality_are_artefacts(ratings, smoothness):
    if smoothness is None:  # 7 artefact frames of 69, as published for faceobj_14
        steps = [0, 0.1, 0, 0.1, 0, 0.1, 0.2]
        ratings = [0.5] * 31 + [0.5 + s for s in steps[1:-1]] + [0.5] * 33
        assert len(ratings) == 69
        smoothness = 0.8985507246376812
    assert motion_smoothness(ratings) == pytest.approx(smoothness, abs=1e-15)


def test_no_rating_is_no_smoothness():
    with pytest.raises(EvaluationError):
        motion_smoothness([])


def test_frames_are_rated_in_windows_of_three():
    assert smoothness_windows(5) == [(0, 0, 0), (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 3, 4)]
    assert smoothness_windows(2) == [(0, 0, 0), (0, 1, 1)]
    assert smoothness_windows(1) == [(0, 0, 0)]
    assert smoothness_windows(3)[-1] == (1, 1, 2)


def test_a_rating_is_weighted_by_its_word():
    assert expected_quality([0.1, 0.6, 0.2, 0.08, 0.02]) == pytest.approx(0.67)


def test_each_metric_looks_at_its_own_frames():
    whole = sampled_frames("gme_score", 81)
    assert (len(whole), whole[:4], whole[-2:]) == (32, [0, 2, 5, 7], [77, 80])
    assert sampled_frames("natural_score", 81) == list(range(0, 76, 5))
    assert sampled_frames("natural_score", 49) == list(range(0, 46, 3))
    assert sampled_frames("motion_amplitude", 3) == [0, 1, 2]
    with pytest.raises(EvaluationError, match="no metric 'fid'"):
        sampled_frames("fid", 81)


def test_face_cosines_of_zero_drop_out_of_one_mean_and_not_of_the_other():
    cosines = [0.8, -0.1, 0.6, None]
    assert curricular_similarity(cosines) == pytest.approx(0.7)
    assert arc_similarity(cosines) == pytest.approx(0.466667, abs=5e-7)
    assert curricular_similarity([None, None]) == arc_similarity([None]) == 0.0


def test_the_first_picture_of_a_person_is_the_face_that_counts():
    pictures = ["Images/humanobj/environment/park/1.jpg", "Images/humanobj/human/man/a/1.jpg"]
    assert face_reference("humanobj_3", pictures) == 1
    assert face_reference("faceobj_3", ["Images/humanobj/human/crop_woman/b/1.jpg"]) == 0
    assert face_reference("singleface_1", ["Images/singleface/1.jpg"]) is None
    assert face_reference("multihuman_1", ["Images/multihuman/man/1.jpg"]) is None


def test_people_are_left_to_the_face_score_or_looked_for_as_human():
    assert nexus_references("faceobj_1", ["Man", "Dog", "School"]) == [(1, "Dog"), (2, "School")]
    assert nexus_references("humanobj_1", ["Woman", "Dog"]) == [(0, "human"), (1, "Dog")]
    assert nexus_references("singleface_1", ["Man"]) == []
    assert nexus_references("multiobject_1", ["Man"]) == [(0, "Man")]


def test_few_frames_with_boxes_score_higher_in_nexus():
    profile = opens2v("v1.1", "Open-Domain")

    def scaled(score):
        return summarise(profile, table(a={"nexus": score})).values["nexus_score"]

    assert nexus_score([0.7, 0.6, 0.5], 3) == pytest.approx(0.2)
    assert scaled(nexus_score([0.7, 0.6, 0.5], 3)) == 1.0
    assert nexus_score([0.6] * 9, 32) == pytest.approx(0.01875)
    assert scaled(nexus_score([0.6] * 9, 32)) == pytest.approx(0.375)
    assert nexus_score([0.6] * 9, 16) == pytest.approx(0.0375)
    assert scaled(nexus_score([0.6] * 9, 16)) == pytest.approx(0.75)
    assert nexus_score([], 5) == 0.0
    assert nexus_score([], 0) is None


@pytest.mark.parametrize(
    ("box", "kept"),
    [((0.61, 0.31, 0.5), True), ((0.6, 0.31, 0.5), False), ((0.61, 0.3, 0.5), False)],
)
def test_boxes_are_kept_over_both_thresholds(box, kept):
    assert keeps_box(*box) is kept
    assert not keeps_box(box[0], box[1], 0.0)


def test_the_judges_answers_are_averaged_unless_one_is_no_number():
    assert natural_score(["3", "3", "4"]) == pytest.approx(10 / 3)
    for answers in (["4", "error"], [], ["nan"]):
        with pytest.raises(EvaluationError, match="ask again"):
            natural_score(answers)
