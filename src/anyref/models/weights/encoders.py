"""The two encoders: umT5 (text) and open-clip's vision tower (MAGREF's canvas).

The CLIP file also holds a text tower, a temperature and the vision head, which no pipeline uses and
`CLIPVisionModel` has no place for: they are kept aside, so that the way back is complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch

from anyref.errors import ConvertError
from anyref.models.weights import keys
from anyref.models.weights.mapping import Component, meta_shapes
from anyref.models.weights.reader import Weights

CLIP_ASIDE_STEM = "official_only"
_CLIP_HEAD = "visual.head"
_TRANSFORMERS_STEM = "model"
_VISION_PREFIX = "vision_model."  # in files written by transformers before 5.0
_T5_TIED = "encoder.embed_tokens.weight"


def t5_config(weights: Weights) -> dict[str, Any]:
    """The `UMT5Config` fields of an official T5 encoder; all of them are read off the tensors.

    Raises:
        ConvertError: when a key that tells a width is missing, or the widths contradict each other.
    """
    depth = weights.depth("blocks.")
    blocks = [f"blocks.{block}." for block in range(max(depth, 1))]
    heads = weights.vote(*((b + "pos_embedding.embedding.weight", 1) for b in blocks))
    attention = weights.vote(
        *((f"{block}attn.{name}.weight", 0) for block in blocks for name in "qkv")
    )
    if attention % heads:
        raise ConvertError(
            f"text_encoder: {heads} heads do not split the attention width "
            f"{attention}; the file is not a umT5 encoder"
        )
    return {
        "vocab_size": weights.vote(("token_embedding.weight", 0)),
        "d_model": weights.vote(
            ("token_embedding.weight", 1),
            ("norm.weight", 0),
            *((block + "norm1.weight", 0) for block in blocks),
        ),
        "d_kv": attention // heads,
        "d_ff": weights.vote(
            *((block + "ffn.fc1.weight", 0) for block in blocks),
            *((block + "ffn.gate.0.weight", 0) for block in blocks),
            *((block + "ffn.fc2.weight", 1) for block in blocks),
        ),
        "num_layers": depth,
        "num_heads": heads,
        "relative_attention_num_buckets": weights.vote(
            *((block + "pos_embedding.embedding.weight", 0) for block in blocks)
        ),
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
    }


def t5_component(config: Mapping[str, Any], dtype: torch.dtype | None = None) -> Component:
    """How the official file spells the `UMT5EncoderModel` with this config."""
    from transformers import UMT5Config, UMT5EncoderModel

    settings = UMT5Config(**config)
    with torch.device("meta"):
        model = UMT5EncoderModel(settings)
    shapes = meta_shapes(model)
    shapes.pop(_T5_TIED, None)  # the same tensor as shared.weight
    _describe(settings, "UMT5EncoderModel", dtype)
    return Component(
        what="text_encoder",
        links=tuple(keys.link_rows(keys.T5, settings.num_layers)),
        shapes=shapes,
        save_config=settings.save_pretrained,
        stem=_TRANSFORMERS_STEM,
    )


def clip_config(weights: Weights, heads: int) -> dict[str, Any]:
    """The `CLIPVisionConfig` fields of open-clip's vision tower.

    Args:
        heads: number of attention heads, which no tensor tells (16 in ViT-H).

    Raises:
        ConvertError: when a key that tells a width is missing, or the widths contradict each other.
    """
    depth = weights.depth("visual.transformer.")
    blocks = [f"visual.transformer.{block}." for block in range(max(depth, 1))]
    dim = weights.vote(
        ("visual.cls_embedding", 2),
        ("visual.patch_embedding.weight", 0),
        ("visual.pre_norm.weight", 0),
        *((block + "norm1.weight", 0) for block in blocks),
    )
    if heads < 1 or dim % heads:
        raise ConvertError(
            f"image_encoder: {heads} heads do not split width {dim}; "
            "give the number the model was trained with (--clip-heads)"
        )
    patch = weights.vote(("visual.patch_embedding.weight", 2), ("visual.patch_embedding.weight", 3))
    return {
        "hidden_size": dim,
        "intermediate_size": weights.vote(
            *((block + "mlp.0.weight", 0) for block in blocks),
            *((block + "mlp.0.bias", 0) for block in blocks),
            *((block + "mlp.2.weight", 1) for block in blocks),
        ),
        "projection_dim": weights.vote((_CLIP_HEAD, 1)),
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_channels": weights.vote(("visual.patch_embedding.weight", 1)),
        "patch_size": patch,
        "image_size": isqrt(weights.vote(("visual.pos_embedding", 1)) - 1) * patch,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    }


def clip_component(config: Mapping[str, Any], dtype: torch.dtype | None = None) -> Component:
    """How the official file spells the `CLIPVisionModel` with this config."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    settings = CLIPVisionConfig(**config)
    with torch.device("meta"):
        model = CLIPVisionModel(settings)
    shapes = {
        name.removeprefix(_VISION_PREFIX): shape for name, shape in meta_shapes(model).items()
    }
    _describe(settings, "CLIPVisionModel", dtype)
    links = (*keys.link_rows(keys.CLIP, settings.num_hidden_layers), *keys.CLIP_LINKS_WITH_LEAD)
    return Component(
        what="image_encoder",
        links=links,
        shapes=shapes,
        save_config=settings.save_pretrained,
        stem=_TRANSFORMERS_STEM,
    )


def part_clip(weights: Weights) -> tuple[Weights, Weights]:
    """Part an official CLIP file into what `CLIPVisionModel` holds and what is kept aside.

    Raises:
        ConvertError: when the vision head is missing or does not fit.
    """
    aside = [
        name for name in weights if name in {_CLIP_HEAD, "log_scale"} or name.startswith("textual.")
    ]
    width = weights.vote(("visual.post_norm.weight", 0), ("visual.pre_norm.weight", 0))
    head = weights[_CLIP_HEAD].shape if _CLIP_HEAD in weights else None
    if head is None or len(head) != 2 or head[0] != width:
        found = "is missing" if head is None else f"has shape {head}"
        raise ConvertError(
            f"image_encoder: key {_CLIP_HEAD!r} {found}, expected ({width}, any); "
            "give the official open-clip file"
        )
    return weights.only(set(weights) - set(aside)), weights.only(aside)


def as_transformers_saves(weights: Weights) -> Weights:
    """A component's own weights without the variants in naming that transformers reads too."""
    return weights.without((_VISION_PREFIX,)).only(name for name in weights if name != _T5_TIED)


def _describe(settings: Any, architecture: str, dtype: torch.dtype | None) -> None:
    settings.architectures = [architecture]
    if dtype is not None:
        settings.dtype = dtype
