from __future__ import annotations

import numpy as np
import pytest

from anyref.errors import PerceptionError
from anyref.perception.contracts import (
    Box,
    TextLine,
    check_pairs,
    check_pictures,
    compare,
    unit,
)


def test_boxes_overlap_by_their_common_share():
    assert Box(0, 0, 10, 10).overlap(Box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert Box(0, 0, 10, 10).overlap(Box(20, 20, 30, 30)) == 0
    assert Box(0, 0, 0, 0).overlap(Box(0, 0, 0, 0)) == 0


def test_a_box_covers_the_pixels_it_touches_and_none_outside_the_picture():
    rows, columns = Box(-5.5, 2.5, 200, 7.1).pixels(np.zeros((20, 30, 3)))
    assert (rows, columns) == (slice(2, 8), slice(0, 30))


def test_a_grown_box_keeps_its_centre():
    assert Box(10, 20, 30, 60).grown(0.5) == Box(0, 0, 40, 80)


def test_a_line_of_text_has_the_upright_box_of_its_corners():
    corners = ((1.0, 5.0), (9.0, 3.0), (9.5, 8.0), (1.5, 9.0))
    assert TextLine(text="a", corners=corners, score=1.0).box == Box(1.0, 3.0, 9.5, 9.0)


def test_cosines_are_high_and_distances_low_for_the_same_vector():
    first, second = np.float32([[2, 0], [0, 3]]), np.float32([[1, 0]])
    np.testing.assert_allclose(compare(first, second, "cosine"), [[1], [0]])
    np.testing.assert_allclose(compare(first, second, "euclidean"), [[1], [np.sqrt(10)]], rtol=1e-6)


def test_a_zero_vector_stays_zero():
    assert unit(np.zeros((1, 4))).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), "a.png"],
)
def test_anything_but_rgb_pictures_is_refused(picture):
    with pytest.raises(PerceptionError, match=r"picture 1 is .*, not uint8 \(Y, X, 3\)"):
        check_pictures([np.zeros((4, 4, 3), np.uint8), picture])


def test_one_box_too_few_is_refused(blank):
    with pytest.raises(PerceptionError, match="1 boxes for 2 pictures"):
        check_pairs([blank(), blank()], [None], "boxes")
