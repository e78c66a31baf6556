"""The diffusion transformers: MAGREF's official Wan keys and Kaleido's SAT keys.

Both become the parameters of diffusers' `WanTransformer3DModel`. Widths are read off the tensors;
the number of attention heads cannot be.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch

from anyref.errors import ConvertError
from anyref.models.weights import keys
from anyref.models.weights.mapping import Component, meta_shapes
from anyref.models.weights.reader import Weights

COMFYUI_PREFIXES = ("model.diffusion_model.", "diffusion_model.")
RELEASED_WIDTH, RELEASED_HEADS = 5120, 40
_SAT_LAYER = "transformer.layers."
_SAT_NORM = "post_cross_attention_layernorm"


def magref_config(
    weights: Weights, published: Mapping[str, object], num_heads: int | None = None
) -> dict[str, Any]:
    """The `WanTransformer3DModel` config of a published MAGREF checkpoint.

    Args:
        published: its config.json; widths it leaves out are read off the tensors.
        num_heads: used when `published` has none.

    Raises:
        ConvertError: for a model type that is not Wan's text or image one, or impossible heads.
    """
    kind = published.get("model_type", "i2v")
    if kind not in {"i2v", "t2v"}:
        raise ConvertError(f"model_type {kind!r} in config.json, supported: 'i2v' and 't2v'")
    depth = _given(published, "num_layers") or weights.depth("blocks.")
    blocks = [f"blocks.{block}." for block in range(depth)]
    patch = _patch_size(weights, "patch_embedding.weight")
    dim = _given(published, "dim") or weights.vote(
        ("patch_embedding.weight", 0),
        ("patch_embedding.bias", 0),
        ("text_embedding.2.bias", 0),
        ("time_embedding.2.bias", 0),
        ("head.head.weight", 1),
    )
    ffn = _given(published, "ffn_dim") or weights.vote(
        *((block + "ffn.0.weight", 0) for block in blocks),
        *((block + "ffn.0.bias", 0) for block in blocks),
        *((block + "ffn.2.weight", 1) for block in blocks),
    )
    out = _given(published, "out_dim") or weights.vote(
        ("head.head.weight", 0), ("head.head.bias", 0)
    ) // prod(patch)
    image = [(f"img_emb.proj.{name}", axis) for name, axis in _IMAGE_WIDTHS]
    return _config(
        dim=dim,
        num_heads=_given(published, "num_heads") or num_heads,
        patch_size=patch,
        in_channels=_given(published, "in_dim") or weights.vote(("patch_embedding.weight", 1)),
        out_channels=out,
        text_dim=weights.vote(("text_embedding.0.weight", 1)),
        freq_dim=_given(published, "freq_dim") or weights.vote(("time_embedding.0.weight", 1)),
        ffn_dim=ffn,
        num_layers=depth,
        eps=_epsilon(published),
        image_dim=weights.vote(*image) if kind == "i2v" else None,
    )


def kaleido_config(weights: Weights, num_heads: int | None) -> dict[str, Any]:
    """The `WanTransformer3DModel` config of a Kaleido checkpoint in SAT keys.

    Args:
        num_heads: None means the released 40, for the released width only.

    Raises:
        ConvertError: when a key that tells a width is missing, or the heads cannot be.
    """
    depth = weights.depth(_SAT_LAYER)
    mlps = [f"{_SAT_LAYER}{block}.mlp." for block in range(depth)]
    patch = _patch_size(weights, "mixins.patch_embed.proj.weight")
    out_rows = weights.vote(
        ("mixins.final_layer.linear.weight", 0), ("mixins.final_layer.linear.bias", 0)
    )
    return _config(
        dim=weights.vote(
            ("mixins.patch_embed.proj.weight", 0),
            ("mixins.patch_embed.proj.bias", 0),
            ("text_embedding.2.bias", 0),
            ("time_embed.2.bias", 0),
            ("mixins.final_layer.linear.weight", 1),
        ),
        num_heads=num_heads,
        patch_size=patch,
        in_channels=weights.vote(("mixins.patch_embed.proj.weight", 1)),
        out_channels=out_rows // prod(patch),
        text_dim=weights.vote(("text_embedding.0.weight", 1)),
        freq_dim=weights.vote(("time_embed.0.weight", 1)),
        ffn_dim=weights.vote(
            (_SAT_LAYER + "0.mlp.dense_h_to_4h.weight", 0),
            *((mlp + "dense_h_to_4h.weight", 0) for mlp in mlps),
            *((mlp + "dense_h_to_4h.bias", 0) for mlp in mlps),
            *((mlp + "dense_4h_to_h.weight", 1) for mlp in mlps),
        ),
        num_layers=depth,
        eps=1e-6,
        image_dim=None,
    )


def magref_component(config: Mapping[str, Any]) -> Component:
    """How the official MAGREF file spells the transformer with this config."""
    from diffusers import WanTransformer3DModel

    rows = keys.WAN + (keys.WAN_IMAGE if config["image_dim"] else ())
    return _component(WanTransformer3DModel, config, rows)


def kaleido_component(config: Mapping[str, Any], *, affine_norm: bool) -> Component:
    """How the SAT file spells the transformer with this config.

    Args:
        affine_norm: whether it has weights in the norm before cross-attention. Without them that
            norm only standardises, which is our norm with ones and zeros.
    """
    from anyref.models.kaleido_transformer import KaleidoTransformer3DModel

    if affine_norm:
        return _component(KaleidoTransformer3DModel, config, keys.SAT + keys.SAT_AFFINE_NORM)
    ours = keys.link_rows(keys.SAT_AFFINE_NORM, config["num_layers"])
    filled = {name: float(name.endswith("weight")) for link in ours for name in link.ours}
    return _component(KaleidoTransformer3DModel, config, keys.SAT, filled)


def has_affine_norm(weights: Weights) -> bool:
    """Whether a SAT file has weights in the norm before cross-attention."""
    return any(_SAT_NORM in name for name in weights)


def norm_is_plain(weights: Weights, num_layers: int) -> bool:
    """Whether the norm before cross-attention of our model holds nothing but ones and zeros."""
    for link in keys.link_rows(keys.SAT_AFFINE_NORM, num_layers):
        (name,) = link.ours
        if name in weights and not bool((weights.tensor(name) == name.endswith("weight")).all()):
            return False
    return True


_IMAGE_WIDTHS = (
    ("0.weight", 0),
    ("0.bias", 0),
    ("1.weight", 0),
    ("1.weight", 1),
    ("1.bias", 0),
    ("3.weight", 1),
)


def _config(
    *, dim: int, num_heads: int | None, image_dim: int | None, **rest: object
) -> dict[str, Any]:
    if num_heads is None and dim == RELEASED_WIDTH:
        num_heads = RELEASED_HEADS
    if num_heads is None:
        raise ConvertError(
            f"the number of attention heads at width {dim} is in no file; give --num-heads"
        )
    if num_heads < 1 or dim % num_heads or dim // num_heads % 2:
        raise ConvertError(
            f"{num_heads} heads do not split width {dim} into even parts; "
            "give the number the model was trained with (--num-heads)"
        )
    return {
        "num_attention_heads": num_heads,
        "attention_head_dim": dim // num_heads,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "image_dim": image_dim,
        "added_kv_proj_dim": dim if image_dim else None,
        "pos_embed_seq_len": None,
        **rest,
    }


def _component(
    model_class: Any,
    config: Mapping[str, Any],
    rows: tuple[keys.Row, ...],
    filled: Mapping[str, float] | None = None,
) -> Component:
    with torch.device("meta"):
        model = model_class.from_config(dict(config))
    return Component(
        what="transformer",
        links=tuple(keys.link_rows(rows, config["num_layers"])),
        shapes=meta_shapes(model),
        save_config=model.save_config,
        filled=filled or {},
    )


def _patch_size(weights: Weights, name: str) -> tuple[int, int, int]:
    return (weights.vote((name, 2)), weights.vote((name, 3)), weights.vote((name, 4)))


def _given(published: Mapping[str, object], name: str) -> int | None:
    value = published.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConvertError(f"{name} is {value!r} in config.json, expected a positive whole number")
    return value


def _epsilon(published: Mapping[str, object]) -> float:
    value = published.get("eps", 1e-6)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise ConvertError(f"eps is {value!r} in config.json, expected a positive number")
    return float(value)
