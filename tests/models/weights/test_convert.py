"""Folders in and out: strict about keys, nothing lost, nothing half-written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import official_folders as official
import pytest
import torch
from official_folders import identical
from safetensors.torch import load_file, save_file
from torch import Tensor

from anyref.errors import ConvertError
from anyref.models.kaleido_transformer import KaleidoTransformer3DModel
from anyref.models.weights import convert_kaleido, convert_magref, to_official

NOTHING_ELSE = frozenset({"text_encoder", "image_encoder", "vae"})
DIT = "diffusion_pytorch_model.safetensors"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
T5 = "models_t5_umt5-xxl-enc-bf16.pth"
VAE = "Wan2.1_VAE.pth"


def magref(source: Path, out: Path, **options: object) -> None:
    convert_magref(source, out, clip_heads=official.CLIP_HEADS, **options)


def kaleido(source: Path, out: Path, **options: object) -> None:
    options = {"num_heads": official.KALEIDO_HEADS, "allow_missing": NOTHING_ELSE, **options}
    convert_kaleido(source, out, **options)


def edit(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    pickled = path.suffix == ".pth"
    weights = torch.load(path, weights_only=True) if pickled else load_file(path)
    change(weights)
    torch.save(weights, path) if pickled else save_file(weights, path)


def test_magref_there_and_back_is_identical(tmp_path: Path) -> None:
    source = official.write_magref(tmp_path / "official")
    magref(source, tmp_path / "folder")
    to_official(tmp_path / "folder", tmp_path / "back")
    assert identical(load_file(source / DIT), load_file(tmp_path / "back" / DIT))
    for name in (VAE, T5, CLIP):
        before, after = (
            torch.load(folder / name, weights_only=True) for folder in (source, tmp_path / "back")
        )
        assert identical(before, after), name
    before, after = (
        json.loads((folder / "config.json").read_text()) for folder in (source, tmp_path / "back")
    )
    assert before.items() <= after.items()
    assert (tmp_path / "back" / "google" / "umt5-xxl" / "tokenizer.json").is_file()


@pytest.mark.parametrize("affine", [False, True])
def test_kaleido_there_and_back_is_identical(tmp_path: Path, affine: bool) -> None:
    weights = official.kaleido_weights(affine)
    kaleido(official.write_sat(tmp_path / "sat", weights), tmp_path / "folder")
    to_official(tmp_path / "folder", tmp_path / "back")
    assert identical(weights, official.read_sat(tmp_path / "back"))


def test_a_norm_that_was_trained_after_conversion_goes_back_too(tmp_path: Path) -> None:
    weights = official.kaleido_weights()
    kaleido(official.write_sat(tmp_path / "sat", weights), tmp_path / "folder")
    edit(
        tmp_path / "folder" / "transformer" / DIT,
        lambda trained: trained["blocks.1.norm2.bias"].add_(0.5),
    )
    to_official(tmp_path / "folder", tmp_path / "back")
    found = official.read_sat(tmp_path / "back")
    name = "transformer.layers.1.post_cross_attention_layernorm.bias"
    assert found.keys() - weights.keys() == official.kaleido_weights(True).keys() - weights.keys()
    assert torch.equal(found[name], torch.full((96,), 0.5))


def test_kaleido_root_with_every_part_goes_there_and_back(tmp_path: Path) -> None:
    root = tmp_path / "root"
    official.write_sat(root / "model", official.kaleido_weights())
    torch.save(official.magref_weights("vae."), root / VAE)
    official.write_tokenizer(root / "umt5-xxl")
    torch.save(official.golden(official.T5, "weights"), root / "umt5-xxl" / T5)
    kaleido(root, tmp_path / "folder", allow_missing=frozenset())
    to_official(tmp_path / "folder", tmp_path / "back")
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    back = tmp_path / "back"
    assert files == sorted(
        str(path.relative_to(back)) for path in back.rglob("*") if path.is_file()
    )
    assert identical(official.read_sat(root / "model"), official.read_sat(back / "model"))


def test_stored_dtypes_are_kept_unless_asked_otherwise(tmp_path: Path) -> None:
    source = official.write_magref(tmp_path / "official", encoders=False)
    magref(source, tmp_path / "kept", allow_missing=NOTHING_ELSE)
    magref(source, tmp_path / "float", allow_missing=NOTHING_ELSE, dtype=torch.float32)
    dtypes = {
        name: {value.dtype for value in load_file(tmp_path / name / "transformer" / DIT).values()}
        for name in ("kept", "float")
    }
    assert dtypes == {"kept": {torch.bfloat16}, "float": {torch.float32}}


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model."])
def test_comfyui_prefix_and_any_file_name_are_read(tmp_path: Path, prefix: str) -> None:
    plain = official.write_magref(tmp_path / "plain", encoders=False)
    comfy = official.write_magref(tmp_path / "comfy", encoders=False)
    (comfy / DIT).unlink()
    weights = {prefix + key: value for key, value in official.magref_weights("dit.").items()}
    save_file(weights, comfy / "Wan2_1-MAGREF.safetensors")
    for source in (plain, comfy):
        magref(source, tmp_path / f"{source.name}-out", allow_missing=NOTHING_ELSE)
    found, expected = (
        load_file(tmp_path / name / "transformer" / DIT) for name in ("comfy-out", "plain-out")
    )
    assert identical(found, expected)


def test_shards_and_index_are_read_and_written(tmp_path: Path) -> None:
    single = official.write_magref(tmp_path / "single", encoders=False)
    magref(single, tmp_path / "folder", allow_missing=NOTHING_ELSE, max_shard_bytes=500_000)
    shards = sorted((tmp_path / "folder" / "transformer").glob("*.safetensors"))
    assert len(shards) > 1
    to_official(tmp_path / "folder", tmp_path / "sharded", max_shard_bytes=500_000)
    assert (tmp_path / "sharded" / f"{DIT}.index.json").is_file()
    magref(tmp_path / "sharded", tmp_path / "again", allow_missing=NOTHING_ELSE)
    to_official(tmp_path / "again", tmp_path / "back")
    assert identical(load_file(single / DIT), load_file(tmp_path / "back" / DIT))


def test_widths_are_read_off_the_tensors_when_config_leaves_them_out(tmp_path: Path) -> None:
    source = official.write_magref(tmp_path / "official", encoders=False)
    magref(source, tmp_path / "full", allow_missing=NOTHING_ELSE)
    (source / "config.json").write_text(json.dumps({"num_heads": 3}))
    magref(source, tmp_path / "bare", allow_missing=NOTHING_ELSE)
    full, bare = (
        json.loads((tmp_path / name / "transformer" / "config.json").read_text())
        for name in ("full", "bare")
    )
    assert full == bare


def drop(key: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda weights: weights.pop(key)


def add(key: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda weights: weights.update({key: torch.zeros(7)})


def bend(key: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda weights: weights.update({key: torch.zeros(7, 5)})


MAGREF_KEYS = [
    (DIT, "blocks.1.cross_attn.norm_k_img.weight"),
    (DIT, "blocks.0.ffn.0.weight"),
    (DIT, "patch_embedding.weight"),
    (DIT, "head.modulation"),
    (VAE, "decoder.upsamples.3.time_conv.bias"),
    (VAE, "encoder.downsamples.3.shortcut.weight"),
    (VAE, "encoder.conv1.weight"),
    (T5, "blocks.1.pos_embedding.embedding.weight"),
    (T5, "token_embedding.weight"),
    (CLIP, "visual.transformer.2.attn.to_qkv.bias"),
    (CLIP, "visual.cls_embedding"),
    (CLIP, "visual.head"),
]


@pytest.mark.parametrize(("file", "key"), MAGREF_KEYS)
@pytest.mark.parametrize("change", [drop, bend])
def test_a_missing_or_misshapen_key_is_named(
    tmp_path: Path, file: str, key: str, change: Callable[..., Callable]
) -> None:
    source = official.write_magref(tmp_path / "official")
    edit(source / file, change(key))
    with pytest.raises(ConvertError) as raised:
        magref(source, tmp_path / "out")
    assert key in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["official"]


@pytest.mark.parametrize("file", [DIT, VAE, T5, CLIP])
@pytest.mark.parametrize("key", ["blocks.9.surprise", "surprise"])
def test_an_extra_key_is_named(tmp_path: Path, file: str, key: str) -> None:
    source = official.write_magref(tmp_path / "official")
    edit(source / file, add(key))
    with pytest.raises(ConvertError, match=key):
        magref(source, tmp_path / "out")


@pytest.mark.parametrize("change", [drop, bend, add])
@pytest.mark.parametrize(
    "key",
    [
        "transformer.layers.1.attention.query_key_value.weight",
        "transformer.layers.0.mlp.dense_h_to_4h.weight",
        "mixins.patch_embed.proj.weight",
        "time_embed.0.weight",
    ],
)
def test_a_sat_key_that_does_not_fit_is_named(
    tmp_path: Path, key: str, change: Callable[..., Callable]
) -> None:
    weights = official.kaleido_weights()
    key = f"{key}.surprise" if change is add else key
    change(key)(weights)
    sat = official.write_sat(tmp_path / "sat", weights)
    with pytest.raises(ConvertError) as raised:
        kaleido(sat, tmp_path / "out")
    assert key in str(raised.value)


def test_half_of_the_affine_norm_is_refused(tmp_path: Path) -> None:
    weights = official.kaleido_weights(affine=True)
    key = "transformer.layers.1.post_cross_attention_layernorm.bias"
    del weights[key]
    with pytest.raises(ConvertError, match=key):
        kaleido(official.write_sat(tmp_path / "sat", weights), tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "part"),
    [(VAE, "vae"), (T5, "text_encoder"), (CLIP, "image_encoder")],
)
def test_a_missing_part_names_its_file_and_option(tmp_path: Path, file: str, part: str) -> None:
    source = official.write_magref(tmp_path / "official")
    (source / file).unlink()
    with pytest.raises(ConvertError) as raised:
        magref(source, tmp_path / "out")
    assert file in str(raised.value)
    assert f"--allow-missing {part}" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["official"]
    magref(source, tmp_path / "out", allow_missing=frozenset({part}))
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert index[part] == [None, None]
    assert index["tokenizer"][0] == (None if part == "text_encoder" else "transformers")


def test_a_tokenizer_is_required_with_the_text_encoder(tmp_path: Path) -> None:
    source = official.write_magref(tmp_path / "official")
    (source / "google").rename(source / "elsewhere")
    with pytest.raises(ConvertError, match="google/umt5-xxl"):
        magref(source, tmp_path / "out")


def test_a_part_that_cannot_be_missing_is_refused(tmp_path: Path) -> None:
    source = official.write_magref(tmp_path / "official")
    with pytest.raises(ConvertError, match="transformer"):
        magref(source, tmp_path / "out", allow_missing=frozenset({"transformer"}))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    for number, zipped in enumerate((True, False)):
        source = official.write_magref(tmp_path / str(number))
        torch.save({"x": Malicious()}, source / VAE, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ConvertError, match="refused"):
            magref(source, tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_torch_files_from_before_the_zip_format_are_read(tmp_path: Path) -> None:
    source = official.write_magref(tmp_path / "official")
    weights = torch.load(source / VAE, weights_only=True)
    torch.save(weights, source / VAE, _use_new_zipfile_serialization=False)
    magref(source, tmp_path / "folder")
    to_official(tmp_path / "folder", tmp_path / "back")
    assert identical(weights, torch.load(tmp_path / "back" / VAE, weights_only=True))


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    source = official.write_magref(tmp_path / "official", encoders=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(ConvertError, match="not an empty folder"):
        magref(source, tmp_path / "out", allow_missing=NOTHING_ELSE)
    assert (tmp_path / "out" / "mine").read_text() == "precious"


def test_a_killed_conversion_is_started_over(tmp_path: Path) -> None:
    source = official.write_magref(tmp_path / "official", encoders=False)
    (tmp_path / "out.partial" / "transformer").mkdir(parents=True)
    (tmp_path / "out.partial" / "leftover").write_text("half")
    magref(source, tmp_path / "out", allow_missing=NOTHING_ELSE)
    assert not (tmp_path / "out" / "leftover").exists()
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("heads", [None, 5])
def test_impossible_head_counts_name_the_option(tmp_path: Path, heads: int | None) -> None:
    sat = official.write_sat(tmp_path / "sat", official.kaleido_weights())
    with pytest.raises(ConvertError, match="--num-heads"):
        kaleido(sat, tmp_path / "out", num_heads=heads)


def test_what_the_official_format_cannot_say_is_refused(tmp_path: Path) -> None:
    source = official.write_magref(tmp_path / "official", encoders=False)
    magref(source, tmp_path / "folder", allow_missing=NOTHING_ELSE)
    path = tmp_path / "folder" / "vae" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "latents_mean": [0.0] * 16}))
    with pytest.raises(ConvertError, match="latents_mean"):
        to_official(tmp_path / "folder", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_the_index_names_the_classes_of_each_family(tmp_path: Path) -> None:
    magref(official.write_magref(tmp_path / "official"), tmp_path / "magref")
    kaleido(official.write_sat(tmp_path / "sat", official.kaleido_weights()), tmp_path / "kaleido")
    indexes = {
        name: json.loads((tmp_path / name / "model_index.json").read_text())
        for name in ("magref", "kaleido")
    }
    assert indexes["magref"]["_class_name"] == "MagrefPipeline"
    assert indexes["magref"]["image_encoder"] == ["transformers", "CLIPVisionModel"]
    assert indexes["kaleido"]["transformer"] == [
        KaleidoTransformer3DModel.__module__,
        "KaleidoTransformer3DModel",
    ]
    assert indexes["kaleido"]["vae"] == [None, None]
    config = json.loads((tmp_path / "kaleido" / "transformer" / "config.json").read_text())
    assert config["_class_name"] == "KaleidoTransformer3DModel"
