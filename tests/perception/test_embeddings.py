from __future__ import annotations

import numpy as np
import pytest

from anyref.perception import sources
from anyref.perception.embeddings import EfficientNetLite0, MobileNetV2

NETWORKS = [EfficientNetLite0, MobileNetV2]


@pytest.fixture
def untrained(monkeypatch):
    """A function that makes an embedder with random weights."""
    import torch

    def make(kind):
        torch.manual_seed(0)
        embedder = kind()
        embedder.network = embedder._empty().eval()
        for module in embedder.network.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.data.mul_(6**0.5)  # what rectifiers need for signals not to fade
        return embedder

    return make


@pytest.mark.parametrize("kind", NETWORKS)
def test_pictures_of_any_size_become_unit_vectors(untrained, kind):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((40, 60), (300, 20))]
    vectors = untrained(kind).embed(pictures)
    assert vectors.shape == (2, 1280)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1], rtol=1e-5)


def test_no_pictures_give_no_vectors(untrained):
    assert untrained(MobileNetV2).embed([]).shape == (0, 1280)


def test_probabilities_of_a_picture_sum_to_one(untrained, blank):
    (probabilities,) = untrained(EfficientNetLite0).classify([blank()])
    assert probabilities.shape == (1000,)
    assert probabilities.sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(EfficientNetLite0, 1.0), (MobileNetV2, (1 - 0.485) / 0.229)],
)
def test_values_are_scaled_as_in_training(kind, expected):
    scaled = kind()._normalise(np.full((1, 2, 2, 3), 255, np.float32))
    assert scaled[0, 0, 0, 0] == pytest.approx(expected, rel=1e-5)


def test_same_padding_puts_the_odd_column_last():
    import torch

    from anyref.perception.backbones import SameConv2d

    layer = SameConv2d(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(layer.weight)
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    assert layer(ramp).shape == (1, 1, 2, 2)
    assert layer(ramp)[0, 0, 0].tolist() == [9.0, 15.0]  # columns 0-2, then 2-3 and a zero


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "share"),
    [(EfficientNetLite0, "efficientnet-lite0", 0.77), (MobileNetV2, "mobilenet-v2", 0.70)],
)
def test_published_weights_load_whole_and_know_a_cat(fetched, photograph, kind, name, share):
    fetched(name)
    embedder = kind()
    cat, astronaut = photograph("chelsea"), photograph("astronaut")
    (probabilities,) = embedder.classify([cat])
    assert probabilities.argmax() == 285  # Egyptian cat
    assert probabilities.max() == pytest.approx(share, abs=0.06)
    vectors = embedder.embed([cat, np.ascontiguousarray(cat[:, ::-1]), astronaut])
    flipped, other = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert flipped > 0.85
    assert other < flipped - 0.2
    assert embedder.card.sha256.startswith(sources.SOURCES[name].package.sha256[0][1])
