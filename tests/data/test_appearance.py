from __future__ import annotations

import numpy as np
import pytest

from anyref.data import appearance as module
from anyref.data.appearance import COLOUR_BINS, Appearance, count_colours, read_cutout
from anyref.errors import DataError
from casts import cutout, direction, png


def painted(colour, ground=(0, 0, 0), light=1.0):
    pixels = cutout(1)
    pixels[..., :3] = np.where(pixels[..., 3:] > 0, np.array(colour) * light, np.array(ground))
    return count_colours(png(pixels))


def test_colours_know_the_subject_in_another_light_and_before_another_ground():
    orange = painted((200, 110, 40))
    assert orange.shape == (COLOUR_BINS,)
    assert orange @ painted((200, 110, 40), ground=(0, 200, 0)) == pytest.approx(1)
    assert orange @ painted((200, 110, 40), light=0.9) > 0.9
    assert orange @ painted((60, 70, 200)) < 0.1


def test_upper_and_lower_half_are_counted_apart():
    pixels = cutout(1)
    pixels[:32, :, :3], pixels[32:, :, :3] = (200, 30, 30), (30, 30, 200)
    flipped = pixels[::-1].copy()
    assert count_colours(png(pixels)) @ count_colours(png(flipped)) < 0.3


def test_similarity_is_the_weighted_mean_of_features_and_colours():
    features = np.stack([direction(1), direction(2)])
    colours = np.stack([painted((200, 110, 40)), painted((190, 110, 50))])
    described = Appearance.fit(features, 0.25).describe(features, colours)
    expected = 0.75 * features[0] @ features[1] + 0.25 * colours[0] @ colours[1]
    assert described[0] @ described[1] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [20, 200])
def test_fewer_directions_keep_the_similarities_of_features_that_lie_in_them(monkeypatch, count):
    monkeypatch.setattr(module, "DIRECTIONS", 12)
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(count, 10)) @ rng.normal(size=(10, 64))).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    described = Appearance.fit(features, 0.0).describe(features, np.zeros((count, 1), np.float32))
    assert described.shape == (count, 13)
    np.testing.assert_allclose(described @ described.T, features @ features.T, atol=1e-4)


def test_bytes_that_are_no_picture_are_an_error():
    with pytest.raises(DataError, match="not a readable picture"):
        read_cutout(b"nothing", 64)
