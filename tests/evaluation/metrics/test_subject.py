from __future__ import annotations

import numpy as np
import pytest
from metric_world import (
    SKIN,
    blend,
    case_of,
    figure,
    footage_of,
    place,
    portrait,
    value,
    walk,
)

from anyref.evaluation.metric import Score, checked
from anyref.evaluation.metrics import sightings
from anyref.evaluation.metrics.subject import (
    Entanglement,
    SubjectConsistency,
    SubjectSimilarity,
    itself,
    steadiness,
)

ONE, OTHER, STRANGER = figure(2), figure(5), figure(8)


@pytest.fixture
def two():
    return case_of(portrait(ONE), portrait(OTHER))


def test_subjects_as_in_their_references_are_alike_and_strangers_are_not(models, two):
    metric = SubjectSimilarity(models)
    right = value(metric, two, walk(ONE, OTHER))
    assert right > 0.95
    assert value(metric, two, walk(ONE, STRANGER)) < right - 0.2


def test_one_subject_twice_or_two_as_one_costs_the_missing_one(models, two):
    metric = SubjectSimilarity(models)
    right = value(metric, two, walk(ONE, OTHER))
    twice = metric.score(two, footage_of(walk(ONE, ONE)))
    assert twice.value < right - 0.2
    assert twice.details["references"]["1 reference 1"] > 0.95
    merged = value(metric, two, walk(blend(ONE, OTHER)))
    assert merged < 0.55


def test_the_order_of_the_references_does_not_count(models, two):
    swapped = case_of(portrait(OTHER), portrait(ONE))
    metric = SubjectSimilarity(models)
    frames = walk(ONE, OTHER)
    assert value(metric, swapped, frames) == pytest.approx(value(metric, two, frames))


def test_a_subject_that_is_gone_half_of_the_time_counts_half(models):
    case = case_of(portrait(ONE))
    metric = SubjectSimilarity(models)
    frames = walk(ONE)
    gone = frames[:4] + [place(0)] * 4
    assert value(metric, case, gone) == pytest.approx(value(metric, case, frames) / 2, abs=0.02)


def test_nothing_to_see_is_undetected(models, two):
    for metric in (SubjectSimilarity(models), SubjectConsistency(models), Entanglement(models)):
        assert metric.score(two, footage_of([place(0)] * 3)).cause == "undetected"


def test_entanglement_is_0_apart_near_a_half_for_blends_and_near_1_exchanged(models, two):
    metric = Entanglement(models)
    apart = value(metric, two, walk(ONE, OTHER))
    blended = value(metric, two, walk(blend(ONE, OTHER), blend(OTHER, ONE)))
    twice = metric.score(two, footage_of(walk(ONE, ONE)))
    assert apart < 0.05
    assert 0.25 < blended < 0.6
    assert twice.details["references"]["2 reference 2"] > 0.9
    assert apart < value(metric, two, walk(ONE, None)) < twice.value


def test_a_region_is_itself_sharp_or_blurred_and_what_looks_like_neither_is_undecided():
    mutual = np.array([0.2])
    assert itself(1.0, np.array([0.2]), mutual) == itself(0.7, np.array([0.2]), mutual) == 1
    assert itself(0.2, np.array([1.0]), mutual) == -1
    assert itself(0.6, np.array([0.6]), mutual) == 0
    assert itself(0.39, np.array([0.1]), mutual) == 0
    assert itself(0.9, np.array([0.2, 0.9]), np.array([0.2, 0.2])) == 0


def test_alike_references_cannot_be_entangled(models):
    metric = Entanglement(models)
    case = case_of(portrait(ONE), portrait(ONE))
    assert metric.score(case, footage_of(walk(ONE, ONE))).cause == "inapplicable"
    assert metric.score(case, footage_of(walk())).cause == "inapplicable"


def test_a_subject_that_turns_into_another_is_not_consistent(models):
    case = case_of(portrait(ONE))
    metric = SubjectConsistency(models)
    assert value(metric, case, walk(ONE)) > 0.97
    turned = walk(ONE)[:4] + walk(OTHER)[4:]
    assert value(metric, case, turned) < 0.9


def test_steadiness_is_the_mean_with_the_frame_before_and_the_first():
    along = np.eye(2, dtype=np.float32)
    assert steadiness(along[[0, 0, 1]]) == pytest.approx((1 + 1 + 0 + 0) / 4)


def test_what_does_not_apply_is_said_before_any_video(models):
    background = case_of((portrait(ONE), "background"))
    assert SubjectSimilarity(models).applies(background).cause == "inapplicable"
    assert Entanglement(models).applies(case_of(portrait(ONE))).cause == "inapplicable"


def test_a_portrait_is_like_the_head_of_the_whole_person(models, monkeypatch):
    monkeypatch.setattr(sightings, "find_places", lambda frame, cutouts: [])
    body = np.zeros((48, 48, 3), np.uint8)
    body[...] = (120, 200, 40)
    body[::6] = (40, 90, 90)
    body[2:26, 12:36] = SKIN
    body[10:18, 20:28, 1] = 90
    person = body, np.ones((48, 48), bool)
    head = np.kron(body[2:26, 12:36], np.ones((2, 2, 1), np.uint8)), person[1]
    frames = walk(person)
    models.objects.detect = lambda pictures: [()] * len(pictures)  # or the head is a region
    as_human, as_thing = (
        value(SubjectSimilarity(models), case_of((portrait(head), kind)), frames)
        for kind in ("human", "object")
    )
    assert as_human > as_thing + 0.1


def test_scores_stay_in_range_and_are_the_same_again(models, two):
    for metric in (SubjectSimilarity(models), SubjectConsistency(models), Entanglement(models)):
        outcomes = [metric.score(two, footage_of(walk(ONE, OTHER))) for _ in range(2)]
        assert isinstance(checked(metric.spec, outcomes[0]), Score)
        assert outcomes[0] == outcomes[1]
