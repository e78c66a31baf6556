"""The way back: a diffusers folder of either family to the official files and names."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from anyref.errors import ConvertError
from anyref.models.weights import encoders, layout, transformer, vae
from anyref.models.weights.convert import RECORD
from anyref.models.weights.mapping import Component, Piece, copies, pieces_to_official
from anyref.models.weights.reader import Stored, Weights, find_weights, open_weights, read_json
from anyref.models.weights.writer import (
    MAX_SHARD_BYTES,
    whole_folder,
    write_json,
    write_pickled,
    write_shards,
)

Inferred = Callable[[Weights], Mapping[str, Any]]


def to_official(folder: Path, out: Path, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write the official files of a converted, trained or merged pipeline folder.

    MAGREF becomes the published layout. Kaleido becomes its SAT folder when there is only the
    transformer, and otherwise the published root (model/, Wan2.1_VAE.pth, umt5-xxl/). Tensors and
    dtypes are kept bit for bit.

    Args:
        folder: has model_index.json; parts it does not have are left out.
        out: must not exist, or be empty; it appears when it is complete.

    Raises:
        ConvertError: when the folder is of neither family, or holds something the official format
            cannot say; before anything is written.
    """
    pipeline = read_json(folder / "model_index.json").get("_class_name")
    writers = {"MagrefPipeline": _write_magref, "KaleidoPipeline": _write_kaleido}
    if pipeline not in writers:
        raise ConvertError(
            f"{str(folder)!r} holds a {pipeline!r}, expected one of {', '.join(writers)}"
        )
    record = read_json(folder / RECORD) if (folder / RECORD).is_file() else {}
    writers[str(pipeline)](folder, out, record, max_shard_bytes)


def _write_magref(folder: Path, out: Path, record: Mapping[str, Any], max_shard_bytes: int) -> None:
    config = _read_config(folder / "transformer")
    published = _published_config(config, record.get("config", {}))
    component = transformer.magref_component(config)
    weights = open_weights(find_weights(folder / "transformer", component.stem))
    pieces = _plan(component, weights, config, lambda w: transformer.magref_config(w, published))
    files = _plan_common(folder, text=layout.T5)
    if (folder / "image_encoder").is_dir():
        files[layout.CLIP] = _plan_clip(folder / "image_encoder")
    with whole_folder(out) as target:
        write_shards(target, layout.TRANSFORMER_STEM, pieces, max_shard_bytes=max_shard_bytes)
        write_json(target / layout.CONFIG, published)
        for name, planned in files.items():
            write_pickled(target / name, planned)
        _copy_tokenizer(folder, target / layout.TOKENIZER)


def _write_kaleido(
    folder: Path, out: Path, record: Mapping[str, Any], max_shard_bytes: int
) -> None:
    del max_shard_bytes  # a SAT checkpoint is one file
    config = _read_config(folder / "transformer")
    stem = layout.TRANSFORMER_STEM
    weights = open_weights(find_weights(folder / "transformer", stem))
    made_up = record.get("affine_norm") is False
    affine = not (made_up and transformer.norm_is_plain(weights, config["num_layers"]))
    component = transformer.kaleido_component(config, affine_norm=affine)
    heads = config["num_attention_heads"]
    planned = _plan(component, weights, config, lambda w: transformer.kaleido_config(w, heads))
    pieces = [_prefixed(piece, layout.SAT_PREFIX) for piece in planned]
    files = _plan_common(folder, text=f"{layout.KALEIDO_TEXT}/{layout.T5}")
    with whole_folder(out) as target:
        sat = target / layout.KALEIDO_MODEL if files else target
        write_pickled(sat / "1" / layout.SAT_STATES, pieces, wrap="module")
        (sat / "latest").write_text("1", encoding="utf-8")
        for name, listed in files.items():
            write_pickled(target / name, listed)
        _copy_tokenizer(folder, target / layout.KALEIDO_TEXT)


def _plan_common(folder: Path, text: str) -> dict[str, list[Piece]]:
    files: dict[str, list[Piece]] = {}
    if (folder / "vae").is_dir():
        config = _read_config(folder / "vae")
        component = vae.vae_component(config)
        weights = open_weights(find_weights(folder / "vae", component.stem))
        files[layout.VAE] = _plan(component, weights, config, vae.vae_config)
    if (folder / "text_encoder").is_dir():
        config = read_json(folder / "text_encoder" / "config.json")
        component = encoders.t5_component(config)
        weights = open_weights(find_weights(folder / "text_encoder", component.stem))
        plain = encoders.as_transformers_saves(weights)
        files[text] = _plan(component, plain, config, encoders.t5_config)
    return files


def _plan_clip(folder: Path) -> list[Piece]:
    config: dict[str, Any] = read_json(folder / "config.json")
    component = encoders.clip_component(config)
    plain = encoders.as_transformers_saves(open_weights(find_weights(folder, component.stem)))
    aside = open_weights(find_weights(folder, encoders.CLIP_ASIDE_STEM))
    heads = config["num_attention_heads"]
    pieces = _plan(component, plain, config, lambda w: encoders.clip_config(w | aside, heads))
    return pieces + copies(aside)


def _plan(
    component: Component, weights: Weights, config: Mapping[str, Any], inferred: Inferred
) -> list[Piece]:
    """Plan one official file, and see that reading it again would give the same config."""
    pieces = pieces_to_official(component, weights)
    official = {}
    for link in component.links:
        stored = weights[link.ours[0]]
        shape = component.official_shape(link)
        official[link.official] = Stored(stored.file, link.official, shape, stored.dtype)
    for name, value in inferred(Weights(official)).items():
        found = config.get(name, value)
        if (tuple(found) if isinstance(found, list) else found) != (
            tuple(value) if isinstance(value, list) else value
        ):
            raise ConvertError(
                f"{component.what}: the official format cannot say {name} = {found!r} "
                f"(it would be read as {value!r}); this folder has no official form"
            )
    return pieces


def _prefixed(piece: Piece, prefix: str) -> Piece:
    return Piece(
        tuple(prefix + name for name in piece.names),
        piece.num_bytes,
        lambda: {prefix + name: tensor for name, tensor in piece.make().items()},
    )


def _published_config(config: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """MAGREF's own config.json, with what the source had beyond the architecture."""
    return {
        "_class_name": "WanModel",
        "text_len": 512,
        **source,
        "model_type": "i2v" if config["image_dim"] else "t2v",
        "dim": config["num_attention_heads"] * config["attention_head_dim"],
        "eps": config["eps"],
        "ffn_dim": config["ffn_dim"],
        "freq_dim": config["freq_dim"],
        "in_dim": config["in_channels"],
        "num_heads": config["num_attention_heads"],
        "num_layers": config["num_layers"],
        "out_dim": config["out_channels"],
    }


def _read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = read_json(folder / "config.json")
    return config


def _copy_tokenizer(folder: Path, target: Path) -> None:
    if not (folder / "tokenizer").is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted((folder / "tokenizer").iterdir()):
        shutil.copyfile(path, target / path.name)
