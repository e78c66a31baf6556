from __future__ import annotations

import numpy as np
import pytest
from metric_world import (
    case_of,
    figure,
    footage_of,
    place,
    plain,
    portrait,
    value,
    walk,
)
from PIL import Image

from anyref.evaluation.metrics.background import (
    BackgroundConsistency,
    BackgroundSimilarity,
    Decoupling,
)

THING = figure(2)


def test_the_same_place_is_alike_and_another_is_not(models):
    case = case_of(portrait(THING), (Image.fromarray(place(0)), "background"))
    metric = BackgroundSimilarity(models)
    same = value(metric, case, walk(THING))
    assert same > 0.9
    assert value(metric, case, walk(THING, ground=place(1))) < same - 0.2


def test_subjects_hardly_count_in_a_place(models):
    case = case_of((Image.fromarray(place(0)), "background"))
    metric = BackgroundSimilarity(models)
    with_subject, without = value(metric, case, walk(THING)), value(metric, case, [place(0)] * 8)
    assert without == pytest.approx(1, abs=1e-4)
    assert with_subject == pytest.approx(without, abs=0.1)


def test_a_place_that_changes_is_not_consistent(models):
    case = case_of(portrait(THING))
    metric = BackgroundConsistency(models)
    still = value(metric, case, walk(THING))
    changed = walk(THING)[:4] + walk(THING, ground=place(3))[4:]
    assert still > 0.9
    assert value(metric, case, changed) < still - 0.05


def test_a_place_that_comes_along_from_the_reference_is_not_decoupled(models):
    case = case_of(portrait(THING, place(5)))
    metric = Decoupling(models)
    apart, coupled = (value(metric, case, walk(THING, ground=g)) for g in (place(0), place(5)))
    assert coupled < apart - 0.1


def test_cases_without_a_place_in_a_reference_do_not_apply(models):
    case = case_of(portrait(THING), (Image.fromarray(place(0)), "background"))
    assert Decoupling(models).applies(case).cause == "inapplicable"
    assert BackgroundSimilarity(models).applies(case_of(portrait(THING))).cause == "inapplicable"


def test_a_subject_that_fills_the_frames_leaves_no_place(models):
    full = plain(0)
    full[...] = (200, 60, 20)
    case = case_of(portrait(THING), (Image.fromarray(place(0)), "background"))
    for metric in (BackgroundSimilarity(models), BackgroundConsistency(models)):
        assert metric.score(case, footage_of([full] * 3)).cause == "undetected"


def test_references_without_a_place_are_told_before_the_video_is_looked_at(models):
    ground = place(5)
    full = np.zeros_like(ground)
    full[...] = (200, 60, 20)  # all of it subject
    full[::3] = (90, 30, 10)
    metric = Decoupling(models)
    case = case_of(Image.fromarray(full))
    for frames in (walk(THING), [plain(0)] * 3, [full] * 3):
        assert metric.score(case, footage_of(frames)).cause == "inapplicable"
