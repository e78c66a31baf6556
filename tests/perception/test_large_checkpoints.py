from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from anyref.errors import PerceptionError
from anyref.perception.large_checkpoints import QWEN_VL, Checkpoint, checkpoint
from anyref.perception.large_embeddings import DinoV2
from tiny_large import pictures, save_dinov2


@pytest.fixture
def folder(tmp_path):
    return save_dinov2(tmp_path / "dinov2")


def test_the_card_has_the_name_the_licence_and_the_digest_of_the_weights(folder):
    given = Checkpoint(source=str(folder), licence="Apache-2.0", doubt="")
    card = DinoV2(given, device="cpu").card
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert (card.name, card.version, card.sha256) == ("dinov2", "local", digest)
    assert (card.licence, card.doubt) == ("Apache-2.0", "")
    assert "not looked up" in DinoV2(folder, device="cpu").card.doubt


def test_a_snapshot_of_the_hub_has_its_commit_as_version(tmp_path):
    commit = tmp_path / "snapshots" / "0123abc"
    commit.mkdir(parents=True)
    save_file({"a": torch.zeros(1)}, commit / "one.safetensors")
    save_file({"a": torch.ones(1)}, commit / "two.safetensors")
    save_file({"a": torch.ones(1)}, commit / "flux1-other.safetensors")
    card = Checkpoint(source=str(commit), skip=("flux1-*",)).card()
    files = (commit / "one.safetensors", commit / "two.safetensors")
    digests = "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert card.version == "0123abc"
    assert card.sha256 == hashlib.sha256(digests.encode()).hexdigest()


def test_a_known_name_brings_its_licence_along():
    assert checkpoint(QWEN_VL.source) == QWEN_VL
    assert checkpoint("someone/something").licence == "not stated"


def test_a_model_that_was_not_fetched_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = DinoV2("nobody/has-this-model", device="cpu")
    with pytest.raises(PerceptionError, match=r"fetch\(\['nobody/has-this-model'\]\)"):
        model.embed(pictures((28, 28)))
    with pytest.raises(PerceptionError, match="nobody/has-this-model"):
        _ = model.card


def test_weights_in_other_formats_are_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(PerceptionError, match=r"no \.safetensors file"):
        _ = DinoV2(folder, device="cpu").network


def test_a_missing_weight_is_no_random_one(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["layernorm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PerceptionError, match=r"lacks 1 weights of Dinov2Model, 'layernorm"):
        _ = DinoV2(folder, device="cpu").network


def test_a_missing_gpu_and_an_unknown_dtype_are_named(folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(PerceptionError, match="device='cpu'"):
        _ = DinoV2(folder).network
    with pytest.raises(PerceptionError, match=r"'float7'.*bfloat16"):
        _ = DinoV2(folder, device="cpu", dtype="float7").network
