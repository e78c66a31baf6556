from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from metric_world import case_of, figure, footage_of, place, portrait, put, walk

from anyref.evaluation.metrics.sightings import assign, matches_of
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


def test_what_is_unlike_is_given_to_nobody():
    assert assign(np.array([[-0.1, 0.0], [0.2, 0.3]])) == [-1, 1]
    assert assign(np.zeros((2, 0))) == [-1, -1]


def test_two_that_touch_are_also_seen_as_two(models):
    one, other = figure(2), figure(4)  # both discs
    frame = put(put(place(0), one, 20, 20), other, 20, 20 + 46)
    case = case_of(portrait(one), portrait(other))
    matches = matches_of(case, footage_of([frame] * 2), models)
    assert len(matches.scene.regions[0]) == 3
    assert (matches.own > 0.9).all()


def test_the_video_is_segmented_once_for_all_metrics(models):
    case = case_of(portrait(figure(2)), portrait(figure(5)))
    footage = footage_of(walk(figure(2), figure(5)))
    SubjectSimilarity(models).score(case, footage)
    before = models.masks.calls
    Entanglement(models).score(case, footage)
    assert models.masks.calls == before == 8 + 2
