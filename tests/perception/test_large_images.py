from __future__ import annotations

import numpy as np
import pytest

from anyref.errors import PerceptionError
from anyref.perception.large_images import FluxImages
from tiny_large import pictures, save_flux


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folders = save_flux(tmp_path_factory.mktemp("flux"))
    return FluxImages(*folders, device="cpu", dtype="float32", steps=1, max_side=24)


def test_only_what_the_mask_covers_is_painted(model):
    (picture,) = pictures((30, 45))
    mask = np.zeros((30, 45), np.float32)
    mask[:, 20:] = 1
    (painted,) = model.inpaint([picture], [mask], ["a beach"], [3])
    assert painted.shape == picture.shape
    assert painted.dtype == np.uint8
    np.testing.assert_array_equal(painted[:, :20], picture[:, :20])
    assert (painted[:, 20:] != picture[:, 20:]).mean() > 0.5


def test_the_same_seed_makes_the_same_picture_and_another_one_another(model):
    (picture,) = pictures((30, 45))
    first, again, other = model.vary([picture] * 3, ["it sits"] * 3, [1, 1, 2])
    assert first.shape == picture.shape
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_mask_of_another_size_is_refused(model):
    with pytest.raises(PerceptionError, match=r"mask 0 has shape \(5, 5\)"):
        model.inpaint(pictures((30, 45)), [np.zeros((5, 5), np.float32)], [""], [0])
    with pytest.raises(PerceptionError, match="0 seeds for 1 pictures"):
        model.vary(pictures((30, 45)), [""], [])


def test_the_card_names_all_three_models(model):
    card = model.card
    assert card.name == "fill+redux+base"
    assert len(card.sha256) == 64
