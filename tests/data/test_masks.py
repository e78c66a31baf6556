from __future__ import annotations

import sys

import numpy as np
import pytest

from anyref.data.masks import area, area_fraction, decode, encode, pairwise_iou, tight_box
from anyref.data.record import Mask
from anyref.errors import DataError

SQUARE = np.zeros((4, 6), bool)
SQUARE[1:3, 2:5] = True


def test_pixels_go_to_a_string_and_back():
    generator = np.random.default_rng(0)
    for shape in ((1, 1), (7, 3), (60, 90)):
        for density in (0.0, 0.1, 0.9, 1.0):
            pixels = generator.random(shape) < density
            mask = encode(pixels, score=0.5)
            back = decode(mask)
            assert back.dtype == bool
            assert np.array_equal(back, pixels)
            assert area(mask) == pixels.sum()
            assert (mask.size, mask.score) == (shape, 0.5)


def test_the_string_is_the_one_of_the_coco_api():
    # by hand, column-major: 9 zeros, 2 ones, 2 zeros, then 2 - 2, 2 - 2, 2 - 2, 5 - 2
    assert encode(SQUARE).counts == "9220003"
    assert np.array_equal(decode(Mask(size=(4, 6), counts="9220003")), SQUARE)


def test_area_and_box_are_of_the_pixels():
    mask = encode(SQUARE)
    assert area(mask) == 6
    assert type(area(mask)) is int  # a uint64 would wrap when it is negated to sort by it
    assert area_fraction(mask) == 6 / 24
    assert tight_box(mask) == (2, 1, 5, 3)
    assert tight_box(encode(np.zeros((3, 3)))) is None
    assert tight_box(encode(np.ones((3, 5)))) == (0, 0, 5, 3)


def test_overlap_is_of_every_two():
    left, right, nothing = (np.zeros((4, 4), bool) for _ in range(3))
    left[:, :3] = True
    right[:, 1:] = True
    overlap = pairwise_iou([encode(left), encode(right), encode(nothing)])
    assert overlap.tolist() == [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 0]]
    assert pairwise_iou([]).shape == (0, 0)
    with pytest.raises(DataError, match=r"\[4, 4\] and \[3, 3\].*one frame"):
        pairwise_iou([encode(left), encode(np.ones((3, 3)))])


# "12": pycocotools decodes 3 of 16 pixels and leaves the others to chance. "0oooo0": an area of
# 1,048,575 in 16 pixels. "0@0": negative runs. "P", "o" at the end: a number that does not end.
@pytest.mark.parametrize(
    "counts", ["", "12", "0oooo0", "0@0", "0P", "0o", "é0", "0 ", "\n", "0" + "P" * 60 + "0"]
)
@pytest.mark.parametrize("read", [decode, area, tight_box, lambda mask: pairwise_iou([mask])])
def test_a_string_that_does_not_fill_the_size_is_refused(counts, read):
    with pytest.raises(DataError, match="not the runs of 4 x 4 pixels; encode"):
        read(Mask(size=(4, 4), counts=counts))


@pytest.mark.parametrize("size", [(0, 4), (4, -4), (10_000, 10_000)])
def test_a_size_out_of_bounds_is_refused(size):
    with pytest.raises(DataError, match="64,000,000"):
        area(Mask(size=size, counts="0"))


def test_other_formats_and_shapes_are_refused():
    with pytest.raises(DataError, match=r"'png'.*convert"):
        decode(Mask(size=(4, 6), counts="9220003", format="png"))
    with pytest.raises(DataError, match=r"\(2, 2, 3\)"):
        encode(np.zeros((2, 2, 3)))
    with pytest.raises(DataError, match=r"\(0, 3\)"):
        encode(np.zeros((0, 3)))


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(DataError, match=r"anyref\[data\]"):
        encode(SQUARE)
