from __future__ import annotations

import numpy as np
import pytest

from anyref.errors import PerceptionError
from anyref.perception.contracts import Box
from anyref.perception.large_masks import Sam2
from tiny_large import pictures, save_sam2


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return Sam2(save_sam2(tmp_path_factory.mktemp("sam2")), device="cpu", batch=2)


class Everything:
    """Says that all of a picture stands out."""

    def segment(self, pictures, boxes=None):
        return [np.ones(picture.shape[:2], np.float32) for picture in pictures]


def test_a_mask_has_its_pictures_size_and_ends_near_its_box(segmenter):
    some = pictures((60, 90), (50, 40))
    masks = segmenter.segment(some, [Box(20, 10, 60, 50), Box(0, 0, 40, 50)])
    assert [mask.shape for mask in masks] == [(60, 90), (50, 40)]
    for mask in masks:
        assert mask.dtype == np.float32
        assert 0 <= mask.min() < mask.max() <= 1
    outside = masks[0].copy()
    outside[6:54, 16:64] = 0
    assert outside.max() == 0


def test_several_boxes_of_one_picture_are_cut_out_as_each_alone(segmenter):
    first, second = pictures((60, 90), (50, 40))
    asked = [first, second, first, first]
    boxes = [Box(20, 10, 60, 50), Box(0, 0, 40, 50), Box(0, 0, 30, 30), Box(50, 20, 90, 60)]
    together = segmenter.segment(asked, boxes)
    for picture, box, mask in zip(asked, boxes, together, strict=True):
        (alone,) = segmenter.segment([picture], [box])
        np.testing.assert_allclose(mask, alone, atol=1e-4)


def test_a_picture_without_a_box_goes_to_the_model_for_whole_pictures(segmenter):
    some = pictures((60, 90), (50, 40))
    both = Sam2(segmenter.checkpoint, device="cpu", whole=Everything())
    masks = both.segment(some, [Box(20, 10, 60, 50), None])
    assert masks[0].min() == 0
    assert masks[1].shape == (50, 40)
    assert masks[1].min() == 1
    with pytest.raises(PerceptionError, match="no box"):
        segmenter.segment(some)


def test_a_box_outside_its_picture_is_refused(segmenter):
    with pytest.raises(PerceptionError, match="covers nothing of a picture of 90x60"):
        segmenter.segment(pictures((60, 90)), [Box(100, 0, 120, 20)])
