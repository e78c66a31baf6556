from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from metric_world import Masks, case_of, figure, footage_of, place, portrait, put, walk

from anyref.evaluation.metrics.sightings import assign, matches_of, scene_of
from anyref.evaluation.metrics.subject import Entanglement, SubjectSimilarity


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (3, 3)])
def test_the_assignment_has_the_largest_sum(shape):
    values = np.random.default_rng(sum(shape)).random(shape)
    wide = np.pad(values, [(0, 0), (0, shape[0])])  # columns of nobody
    best = max(
        sum(wide[r, c] for r, c in enumerate(order))
        for order in permutations(range(wide.shape[1]), shape[0])
    )
    given = assign(values)
    assert sum(values[r, c] for r, c in enumerate(given) if c >= 0) == pytest.approx(best)
    assert len(set(given) - {-1}) == sum(c >= 0 for c in given)


def test_many_references_get_places_of_their_own_in_no_time():
    draw = np.random.default_rng(0)
    values, same = draw.random((8, 42)), draw.random((42, 42)) > 0.9
    given = assign(values, same)
    taken = [column for column in given if column >= 0]
    assert len(set(taken)) == len(taken) >= 4
    assert not any((same | same.T)[a, b] for a in taken for b in taken if a != b)


def test_what_is_unlike_is_given_to_nobody():
    assert assign(np.array([[-0.1, 0.0], [0.2, 0.3]])) == [-1, 1]
    assert assign(np.zeros((2, 0))) == [-1, -1]


def test_two_that_touch_are_also_seen_as_two(models):
    one, other = figure(2), figure(4)  # both discs
    frame = put(put(place(0), one, 20, 20), other, 20, 20 + 46)
    case = case_of(portrait(one), portrait(other))
    footage = footage_of([frame] * 2)
    matches = matches_of(case, footage, models)
    assert len(scene_of(footage, models).regions[0]) == 3
    assert (matches.own > 0.9).all()


def test_regions_of_one_place_are_not_given_twice():
    values = np.array([[0.9, 0.8, 0.3], [0.85, 0.8, 0.4]])
    same = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], bool)
    assert assign(values) == [0, 1]
    assert assign(values, same) == [0, 2]


def test_a_subject_that_nothing_else_finds_is_found_by_its_reference(models):
    thing, other = figure(2), figure(5)
    models.masks.segment = lambda pictures, boxes=None: [
        Masks().segment([picture])[0] * (picture.shape[0] == 64) for picture in pictures
    ]  # references are cut out, frames show nothing
    frames = walk(thing, count=3)
    case = case_of(portrait(thing))
    matches = matches_of(case, footage_of(frames), models)
    assert not any(scene_of(footage_of(frames), models).regions)
    assert (matches.own > 0.8).all()
    others = matches_of(case_of(portrait(other)), footage_of(frames), models)
    assert others.own.mean() < matches.own.mean() - 0.2


def test_one_subject_twice_takes_both_places(models):
    one, other = figure(2), figure(5)
    case = case_of(portrait(one), portrait(other))
    matches = matches_of(case, footage_of(walk(one, one, count=2)), models)
    assert (matches.anyones >= 0).all()
    taken = [matches.scores[k][0, column] for k in range(2) for column in matches.anyones[k]]
    assert min(taken) > 0.8


def test_the_video_is_segmented_once_for_all_metrics(models):
    case = case_of(portrait(figure(2)), portrait(figure(5)))
    footage = footage_of(walk(figure(2), figure(5)))
    SubjectSimilarity(models).score(case, footage)
    before = models.masks.calls
    Entanglement(models).score(case, footage)
    assert models.masks.calls == before == 8 + 2
