from __future__ import annotations

import numpy as np
import pytest
from metric_world import SIDE, case_of, figure, place, plain, portrait, put

from anyref.evaluation.metrics.cutouts import cut_references
from anyref.evaluation.metrics.search import APART, box_pixels, find_places, outline
from anyref.perception.contracts import Box

THING = figure(2)


@pytest.fixture
def cutouts(models):
    (wanted,) = cut_references(case_of(portrait(THING)), models)
    return wanted.cutouts


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_subject_is_found_where_it_is(cutouts, mirrored):
    pixels, mask = (part[:, ::-1] if mirrored else part for part in THING)
    frame = put(place(0), (pixels, mask), 30, 90)
    found = find_places(frame, cutouts)[0]
    assert found.box.overlap(Box(90, 30, 90 + SIDE, 30 + SIDE)) > 0.5
    assert found.alike > 0.6


def test_places_are_apart_and_best_first(cutouts):
    frame = put(put(place(0), THING, 30, 4), THING, 30, 100)
    first, second = find_places(frame, cutouts)
    assert first.alike >= second.alike > 0.6
    assert first.box.overlap(second.box) < APART


def test_a_plain_frame_has_no_place(cutouts):
    assert find_places(plain(), cutouts) == []


def test_tiny_and_long_frames_are_searched(cutouts):
    for size in ((4, 4), (9, 300)):
        find_places(np.zeros((*size, 3), np.uint8), cutouts)


def test_what_is_unlike_its_surroundings_is_outlined():
    frame = put(plain(), THING, 30, 60)
    box = Box(58, 28, 62 + SIDE, 32 + SIDE)
    found, true = outline(frame, box), box_pixels(frame, box) & (frame != 230).any(-1)
    assert (found & true).sum() / (found | true).sum() > 0.85
    assert outline(plain(), box) is None
    assert outline(frame, Box(0, 0, 160, 96)) is None
