from __future__ import annotations

import numpy as np
import pytest

from anyref.errors import PerceptionError
from anyref.perception.contracts import Box
from anyref.perception.masks import IsNet, SelfieSegmenter


def bright(square):
    """Plays a network: the mask is where the picture is bright."""
    return (square.mean(-1) > 0.5).astype(np.float32)


@pytest.fixture
def segmenter():
    selfie = SelfieSegmenter()
    selfie.network = lambda values: bright(values)[..., None]
    return selfie


def with_spot(height=90, width=160):
    picture = np.zeros((height, width, 3), np.uint8)
    picture[30:60, 100:130] = 255
    return picture


def test_a_mask_has_the_size_of_its_picture_and_lies_on_the_subject(segmenter):
    picture = with_spot()
    (mask,) = segmenter.segment([picture])
    assert (mask.dtype, mask.shape) == (np.float32, (90, 160))
    assert np.abs(mask - (picture[..., 0] > 0)).mean() < 0.01


def test_given_a_box_the_mask_is_empty_beyond_its_margin(segmenter):
    picture = np.full((100, 200, 3), 255, np.uint8)
    (mask,) = segmenter.segment([picture], [Box(100, 20, 140, 70)])
    assert mask[15:75, 96:144].min() == 1
    assert mask.sum() == 60 * 48


def test_a_picture_without_a_box_may_stand_beside_one_with(segmenter):
    picture = with_spot()
    whole, part = segmenter.segment([picture, picture], [None, Box(0, 0, 50, 50)])
    assert whole.max() == 1
    assert part.max() == 0


def test_a_box_outside_the_picture_is_refused(segmenter):
    with pytest.raises(PerceptionError, match="covers nothing of a picture of 160x90"):
        segmenter.segment([with_spot()], [Box(300, 0, 310, 10)])


def test_isnet_gets_its_square_channels_first_around_zero():
    seen = []
    isnet = IsNet()
    isnet.network = lambda inputs: (
        seen.append(inputs["input"]) or np.zeros((1, 1, 1024, 1024), np.float32)
    )
    isnet.segment([np.full((30, 40, 3), 255, np.uint8)])
    assert seen[0].shape == (1, 3, 1024, 1024)
    assert seen[0].max() == np.float32(127 / 256)


@pytest.mark.slow
def test_isnet_cuts_out_the_astronaut_and_the_cup(fetched, photograph):
    fetched("isnet")
    astronaut, coffee = IsNet().segment([photograph("astronaut"), photograph("coffee")])
    assert astronaut[150, 220] > 0.9  # her face
    assert astronaut[5, 5] < 0.1
    assert 0.02 < (coffee > 0.5).mean() < 0.7
    soft = [((mask > 0.1) & (mask < 0.9)).mean() for mask in (astronaut, coffee)]
    assert max(soft) < 0.1


@pytest.mark.slow
def test_the_fast_segmenter_finds_the_astronaut(fetched, photograph):
    fetched("selfie")
    (mask,) = SelfieSegmenter().segment([photograph("astronaut")])
    assert mask[150, 220] > 0.9
    assert mask[60, 20] < 0.3
