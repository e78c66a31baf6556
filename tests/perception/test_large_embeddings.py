from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from anyref.errors import PerceptionError
from anyref.perception.large_embeddings import ClipAesthetics, ClipPictures, ClipTexts, DinoV2
from tiny_large import pictures, save_clip, save_dinov2


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    return save_dinov2(tmp_path_factory.mktemp("dinov2"))


@pytest.mark.parametrize(("model", "width"), [(ClipPictures, 8), (DinoV2, 16)])
def test_pictures_of_any_sizes_become_unit_vectors_that_do_not_depend_on_the_batch(
    model, width, clip, dinov2
):
    embedder = model(clip if model is ClipPictures else dinov2, device="cpu", batch=2)
    some = pictures((20, 50), (40, 30), (28, 28))
    together = embedder.embed(some)
    assert together.shape == (3, width)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    alone = np.concatenate([embedder.embed([picture]) for picture in some])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-4
    assert embedder.embed([]).shape == (0, width)


def test_an_image_processor_in_the_format_of_the_first_checkpoints_is_the_same(clip, tmp_path):
    shutil.copytree(clip, tmp_path / "clip")
    file = tmp_path / "clip" / "preprocessor_config.json"
    now = json.loads(file.read_text())
    then = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 28, "crop_size": 28}
    same = ("do_center_crop", "do_normalize", "do_resize", "image_mean", "image_std", "resample")
    file.write_text(json.dumps(then | {key: now[key] for key in same}))
    some = pictures((20, 50))
    old = ClipPictures(tmp_path / "clip", device="cpu").embed(some)
    np.testing.assert_allclose(old, ClipPictures(clip, device="cpu").embed(some), atol=1e-6)


def test_the_edges_of_a_tall_picture_are_seen(dinov2):
    embedder = DinoV2(dinov2, device="cpu")
    (picture,) = pictures((60, 20))
    changed = picture.copy()
    changed[:8] = 255 - changed[:8]
    first, second = embedder.embed([picture, changed])
    assert np.abs(first - second).max() > 1e-4


def test_texts_become_vectors_in_the_space_of_the_pictures(clip):
    texts = ["a dog", "a much longer text about a red cat", "a dog"]
    embedder = ClipTexts(clip, device="cpu")
    together = embedder.embed(texts)
    assert together.shape == (3, ClipPictures(clip, device="cpu").embed([]).shape[1])
    np.testing.assert_allclose(together[0], together[2], atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 1e-4
    alone = np.concatenate([embedder.embed([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert embedder.embed([]).shape == (0, 8)


def test_looks_are_the_heads_linear_layers_on_clips_vector(clip, tmp_path):
    first, second = torch.randn(4, 8), torch.randn(1, 4)
    bias, last = torch.randn(4), torch.randn(1)
    tensors = {"layers.0.weight": first, "layers.0.bias": bias}
    tensors |= {"layers.2.weight": second, "layers.2.bias": last}
    save_file(tensors, tmp_path / "head.safetensors")
    scorer = ClipAesthetics(tmp_path / "head.safetensors", clip, device="cpu")
    (picture,) = pictures((28, 28))  # square, of the network's size: nothing to pad or cut
    vector = torch.from_numpy(ClipPictures(clip, device="cpu").embed([picture]))
    expected = float((vector @ first.T + bias) @ second.T + last)
    assert scorer.score([picture]) == pytest.approx([expected], abs=1e-4)
    assert scorer.higher_is_better
    assert scorer.card.name.endswith("+head")
    assert scorer.card.sha256 != scorer.checkpoint.card().sha256


def test_a_head_for_another_clip_is_refused(clip, tmp_path):
    tensors = {"weight": torch.zeros(1, 768), "bias": torch.zeros(1)}
    save_file(tensors, tmp_path / "head.safetensors")
    scorer = ClipAesthetics(tmp_path / "head.safetensors", clip, device="cpu")
    with pytest.raises(PerceptionError, match=r"\(1, 768\).*from 8 features"):
        scorer.score(pictures((28, 28)))
