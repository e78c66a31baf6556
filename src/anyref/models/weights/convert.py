"""Published checkpoints to diffusers folders and back, both without loss.

What the model classes have no place for travels beside them: `official.json` (facts of the source)
and `image_encoder/official_only.safetensors` (tensors that no pipeline reads).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from anyref.errors import ConvertError
from anyref.models.weights import encoders, layout, transformer, vae
from anyref.models.weights.layout import OfficialParts
from anyref.models.weights.mapping import Component, Piece, copies, pieces_to_ours
from anyref.models.weights.reader import Weights, open_weights, read_json
from anyref.models.weights.writer import MAX_SHARD_BYTES, whole_folder, write_json, write_shards

RECORD = "official.json"
MAGREF_FLOW_SHIFT = 3.0  # the official default at 480p
KALEIDO_FLOW_SHIFT = 7.0

Plan = tuple[Component, Weights, list[Piece]]


def convert_magref(
    source: Path,
    out: Path,
    *,
    clip_heads: int = 16,
    num_heads: int | None = None,
    allow_missing: frozenset[str] = frozenset(),
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Convert a published MAGREF folder to a diffusers folder.

    Args:
        source: config.json, the transformer (one .safetensors file or shards with their index; keys
            may have ComfyUI's prefix), Wan2.1_VAE.pth, the T5 and CLIP .pth files, google/umt5-xxl.
        out: must not exist, or be empty; it appears when it is complete.
        clip_heads: attention heads of the image encoder (16 in ViT-H).
        num_heads: attention heads of the transformer, where config.json does not say.
        allow_missing: parts that need not be there: "text_encoder" (with its tokenizer),
            "image_encoder", "vae".
        dtype: what the weights become; None keeps what is stored.
        max_shard_bytes: larger components are written as several files.

    Raises:
        ConvertError: for any missing file, and for any missing, unexpected or misshapen key; before
            anything is written.
    """
    _check_folder(source)
    published = read_json(source / layout.CONFIG)
    image = published.get("model_type", "i2v") == "i2v"
    parts = layout.find_magref(source, allow_missing, image=image)
    weights = open_weights(parts.transformer).without(transformer.COMFYUI_PREFIXES)
    config = transformer.magref_config(weights, published, num_heads)
    component = transformer.magref_component(config)
    plans = [_plan(component, weights, dtype), *_plan_common(parts, dtype)]
    aside = None
    if parts.image_encoder is not None:
        clip, aside = encoders.part_clip(open_weights(parts.image_encoder))
        described = encoders.clip_config(clip | aside, clip_heads)
        component = encoders.clip_component(described, dtype or _main_dtype(clip))
        plans.append(_plan(component, clip, dtype))
    with whole_folder(out) as folder:
        _write_plans(folder, plans, max_shard_bytes)
        if aside:
            _write_aside(folder / "image_encoder", aside, max_shard_bytes)
        _copy_tokenizer(parts, folder)
        _magref_scheduler().save_pretrained(folder / "scheduler")
        write_json(folder / RECORD, {"family": "magref", "config": published})
        index = {
            "transformer": ["diffusers", "WanTransformer3DModel"],
            "image_encoder": ["transformers", "CLIPVisionModel"],
            "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        }
        _write_index(folder, "MagrefPipeline", index)


def convert_kaleido(
    source: Path,
    out: Path,
    *,
    num_heads: int | None = None,
    allow_missing: frozenset[str] = frozenset(),
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Convert a published Kaleido root, or its SAT folder alone, to a diffusers folder.

    Args:
        source: model/ (or its contents), Wan2.1_VAE.pth, umt5-xxl/.
        num_heads: attention heads of the transformer; None means 40 at the released width, and is
            an error at any other.
        out, allow_missing, dtype, max_shard_bytes: as for `convert_magref`.

    Raises:
        ConvertError: as `convert_magref`.
    """
    parts = layout.find_kaleido(source, allow_missing)
    weights = open_weights(parts.transformer, inside="module").without((layout.SAT_PREFIX,))
    config = transformer.kaleido_config(weights, num_heads)
    affine = transformer.has_affine_norm(weights)
    component = transformer.kaleido_component(config, affine_norm=affine)
    plans = [_plan(component, weights, dtype), *_plan_common(parts, dtype)]
    with whole_folder(out) as folder:
        _write_plans(folder, plans, max_shard_bytes)
        _copy_tokenizer(parts, folder)
        _kaleido_scheduler().save_pretrained(folder / "scheduler")
        write_json(folder / RECORD, {"family": "kaleido", "affine_norm": affine})
        index = {
            "transformer": ["anyref.models.kaleido_transformer", "KaleidoTransformer3DModel"],
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        }
        _write_index(folder, "KaleidoPipeline", index)


def _check_folder(source: Path) -> None:
    if not source.is_dir():
        raise ConvertError(f"{str(source)!r} is not a folder; give the published one")


def _plan_common(parts: OfficialParts, dtype: torch.dtype | None) -> list[Plan]:
    plans: list[Plan] = []
    if parts.vae is not None:
        weights = open_weights(parts.vae)
        plans.append(_plan(vae.vae_component(vae.vae_config(weights)), weights, dtype))
    if parts.text_encoder is not None:
        weights = open_weights(parts.text_encoder)
        config = encoders.t5_config(weights)
        component = encoders.t5_component(config, dtype or _main_dtype(weights))
        plans.append(_plan(component, weights, dtype))
    return plans


def _plan(component: Component, weights: Weights, dtype: torch.dtype | None) -> Plan:
    return component, weights, pieces_to_ours(component, weights, dtype)


def _write_plans(folder: Path, plans: list[Plan], max_shard_bytes: int) -> None:
    for component, weights, pieces in plans:
        target = folder / component.what
        write_shards(
            target,
            component.stem,
            pieces,
            max_shard_bytes=max_shard_bytes,
            after_shard=weights.release,
        )
        component.save_config(target)


def _write_aside(folder: Path, aside: Weights, max_shard_bytes: int) -> None:
    write_shards(
        folder,
        encoders.CLIP_ASIDE_STEM,
        copies(aside),
        max_shard_bytes=max_shard_bytes,
        after_shard=aside.release,
    )


def _copy_tokenizer(parts: OfficialParts, folder: Path) -> None:
    if parts.tokenizer is None:
        return
    (folder / "tokenizer").mkdir()
    for path in sorted(parts.tokenizer.iterdir()):
        if path.is_file() and path != parts.text_encoder:
            shutil.copyfile(path, folder / "tokenizer" / path.name)


def _write_index(folder: Path, pipeline: str, classes: Mapping[str, list[str]]) -> None:
    import diffusers

    common = {
        "vae": ["diffusers", "AutoencoderKLWan"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
    }
    components: dict[str, Any] = {
        name: entry if (folder / name).is_dir() else [None, None]
        for name, entry in sorted({**common, **classes}.items())
    }
    header = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__}
    write_json(folder / "model_index.json", {**header, **components})


def _magref_scheduler() -> Any:
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=MAGREF_FLOW_SHIFT
    )


def _kaleido_scheduler() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=KALEIDO_FLOW_SHIFT)


def _main_dtype(weights: Weights) -> torch.dtype:
    """The dtype of most of the numbers, which transformers wants to read in config.json."""
    sizes: dict[torch.dtype, int] = {}
    for stored in weights.values():
        sizes[stored.dtype] = sizes.get(stored.dtype, 0) + prod(stored.shape)
    return max(sizes, key=lambda dtype: sizes[dtype])
