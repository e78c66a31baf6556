from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from anyref.errors import EvaluationError, PerceptionError
from anyref.evaluation.benchmark import Case
from anyref.evaluation.large_metrics import ArcFace, Backbones, device_of, large_metrics, models_of
from anyref.evaluation.metric import Footage
from anyref.perception.contracts import Box, Face
from anyref.request import Reference, Request
from tiny_large import save_clip, save_dinov2

LANDMARKS = ((38.3, 51.7), (73.5, 51.5), (56.0, 71.7), (41.5, 92.4), (70.7, 92.2))  # aligned


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    save_clip(folder / "clip")
    save_dinov2(folder / "dinov2")
    torch.manual_seed(1)
    layers = {
        "layers.0.weight": torch.randn(4, 8),
        "layers.0.bias": torch.zeros(4),
        "layers.2.weight": torch.randn(1, 4),
        "layers.2.bias": torch.full((1,), 5.0),
    }
    save_file(layers, folder / "head.safetensors")
    (folder / "arcface.onnx").write_bytes(b"weights")
    return Backbones(
        clip=str(folder / "clip"),
        dinov2=str(folder / "dinov2"),
        aesthetics=str(folder / "head.safetensors"),
        arcface=str(folder / "arcface.onnx"),
        device="cpu",
    )


@pytest.fixture
def footage():
    frames = np.random.default_rng(0).integers(0, 255, (40, 24, 32, 3), dtype=np.uint8)
    return Footage(frames, 8.0, "")


@pytest.fixture
def case():
    fox = Reference(Image.new("RGB", (20, 20), "red"), "fox")
    return Case(id="a", request=Request(prompt="a @fox walks", references=(fox,)))


def named(metrics):
    return {metric.spec.name: metric for metric in metrics}


def test_backbones_that_are_given_have_their_metrics_all_of_the_large_grade(backbones):
    every = named(large_metrics(backbones))
    assert {"face_similarity", "subject_similarity", "clip_score", "aesthetics"} <= set(every)
    assert {m.spec.grade for m in every.values()} == {"large", "exact"}
    only = named(large_metrics(Backbones(clip=backbones.clip, device="cpu")))
    assert "clip_score" in only
    assert not {"subject_similarity", "face_similarity", "aesthetics"} & set(only)


def test_the_text_and_the_beauty_of_frames_are_clips(backbones, case, footage):
    every = named(large_metrics(backbones))
    fits = every["clip_score"].score(case, footage)
    assert -1 <= fits.value <= 1 and len(fits.details["frames"]) == 32
    other = case.request.model_copy(
        update={"prompt": "@fox", "references": case.request.references}
    )
    changed = every["clip_score"].score(Case(id="a", request=other), footage)
    assert abs(changed.value - fits.value) > 1e-4
    looks = every["aesthetics"].score(case, footage)
    assert 1 <= looks.value <= 10 and looks.value == pytest.approx(
        np.mean(looks.details["frames"]), abs=1e-5
    )


def test_faces_reach_the_network_aligned_and_come_back_as_unit_vectors(backbones):
    recogniser = ArcFace(backbones.arcface)
    seen = []

    def network(faces):
        seen.append(faces)
        return faces.reshape(1, -1)[:, :64]

    recogniser.network = network
    picture = np.full((112, 112, 3), (255, 0, 127), np.uint8)
    face = Face(box=Box(20, 20, 90, 110), score=1.0, landmarks=LANDMARKS)
    vectors = recogniser.embed([picture, picture], [face, face])
    assert vectors.shape == (2, 64) and np.linalg.norm(vectors[0]) == pytest.approx(1)
    assert seen[0].shape == (1, 3, 112, 112) and seen[0].dtype == np.float32
    assert seen[0][0, :, 56, 56] == pytest.approx([1, -1, -0.004], abs=0.01)
    with pytest.raises(PerceptionError, match="is no file"):
        ArcFace("nowhere.onnx").embed([picture], [face])


def test_scores_of_other_weights_are_told_apart(backbones, tmp_path):
    clip = Backbones(clip=backbones.clip, device="cpu")
    known = models_of(large_metrics(clip))
    assert known == models_of(large_metrics(clip))
    torch.manual_seed(7)
    other = save_clip(tmp_path / "clip")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert models_of(large_metrics(Backbones(clip=str(other), device="cpu"))) != known
    with pytest.raises(PerceptionError):
        models_of(large_metrics(Backbones(clip=str(tmp_path / "none"), device="cpu")))


def test_parts_are_read_from_words():
    found = Backbones.parse(["clip=a/b", "arcface=x=y.onnx"], "cpu")
    assert (found.clip, found.arcface, found.dinov2, found.device) == (
        "a/b",
        "x=y.onnx",
        None,
        "cpu",
    )
    for wrong in (["clip"], ["gme=x"], ["clip="], [], ["aesthetics=h.safetensors"]):
        with pytest.raises(EvaluationError):
            Backbones.parse(wrong, "cpu")


def test_folders_of_one_name_are_two_models(backbones, tmp_path):
    other = save_dinov2(tmp_path / "clip")  # dinov2 in a folder named as clip's is
    both = Backbones(clip=backbones.clip, dinov2=str(other), device="cpu")
    digests = {digest for _, digest in models_of(large_metrics(both))}
    for alone in ({"clip": backbones.clip}, {"dinov2": str(other)}):
        found = models_of(large_metrics(Backbones(**alone, device="cpu")))
        assert {digest for _, digest in found} <= digests


def test_a_gpu_is_used_where_there_is_one_and_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(None) == device_of("cpu") == "cpu"
    with pytest.raises(EvaluationError, match="not here"):
        device_of("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of(None) == "cuda" and device_of("cuda:1") == "cuda:1"
