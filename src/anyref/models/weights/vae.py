"""The Wan 2.1 video autoencoder: `Wan2.1_VAE.pth` and diffusers' `AutoencoderKLWan`.

The official file numbers encoder and decoder blocks in one flat list; diffusers groups the
decoder's by level.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from math import isqrt
from typing import Any

import torch

from anyref.errors import ConvertError
from anyref.models.weights import keys
from anyref.models.weights.mapping import Component, meta_shapes
from anyref.models.weights.reader import Weights

_DOWN = "encoder.downsamples."


def vae_config(weights: Weights) -> dict[str, Any]:
    """The `AutoencoderKLWan` config of an official VAE file.

    Latent statistics are in no file: with 16 latent channels they are Wan 2.1's (the defaults of
    diffusers), otherwise latents are left as they are.

    Raises:
        ConvertError: when a key that tells a width is missing, or the widths are not Wan's.
    """
    base = weights.vote(
        ("encoder.conv1.weight", 0), ("encoder.conv1.bias", 0), ("decoder.head.0.gamma", 0)
    )
    in_channels = weights.vote(("encoder.conv1.weight", 1))
    z_dim = weights.vote(
        ("conv2.weight", 0), ("conv2.bias", 0), ("decoder.conv1.weight", 1), ("conv2.weight", 1)
    )
    levels, temporal = _read_levels(weights)
    widths = [_level_width(weights, level) for level in levels]
    if any(width % base for width in widths):
        raise ConvertError(
            f"vae: level widths {widths} are no multiples of {base}; give Wan2.1_VAE.pth"
        )
    patch = _patch_size(in_channels)
    config = {
        "base_dim": base,
        "z_dim": z_dim,
        "dim_mult": [width // base for width in widths],
        "num_res_blocks": max(len(level) for level in levels),
        "attn_scales": [],
        "temperal_downsample": temporal,
        "is_residual": False,
        "in_channels": in_channels,
        "out_channels": weights.vote(("decoder.head.2.weight", 0), ("decoder.head.2.bias", 0)),
        "patch_size": patch,
        "scale_factor_temporal": 2 ** sum(temporal),
        "scale_factor_spatial": 2 ** len(temporal) * (patch or 1),
    }
    mean, std = _latent_statistics(z_dim)
    return {**config, "latents_mean": mean, "latents_std": std}


def vae_component(config: Mapping[str, Any]) -> Component:
    """How the official file spells the `AutoencoderKLWan` with this config.

    Raises:
        ConvertError: when that autoencoder is not of the Wan 2.1 architecture.
    """
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        model = AutoencoderKLWan.from_config(dict(config))
    shapes = meta_shapes(model)
    return Component(
        what="vae",
        links=tuple(link for link in _links(config) if link.ours[0] in shapes),
        shapes=shapes,
        save_config=model.save_config,
    )


def _links(config: Mapping[str, Any]) -> list[keys.Link]:
    """Every link that a Wan VAE can have; the model says which of them it has."""
    levels, blocks = len(config["dim_mult"]), config["num_res_blocks"]
    rows = [*keys.VAE_ENDS]
    for half in ("encoder", "decoder"):
        rows += _nest(half, half, keys.VAE_HALF)
        for flat, ours in ((0, 0), (2, 1)):
            rows += _nest(
                f"{half}.middle.{flat}", f"{half}.mid_block.resnets.{ours}", keys.VAE_RESIDUAL
            )
    for number in range(levels * (blocks + 1) - 1):
        rows += _nest(
            f"{_DOWN}{number}",
            f"encoder.down_blocks.{number}",
            keys.VAE_RESIDUAL + keys.VAE_RESAMPLE,
        )
    for level in range(levels):
        first = level * (blocks + 2)
        for number in range(blocks + 1):
            rows += _nest(
                f"decoder.upsamples.{first + number}",
                f"decoder.up_blocks.{level}.resnets.{number}",
                keys.VAE_RESIDUAL,
            )
        rows += _nest(
            f"decoder.upsamples.{first + blocks + 1}",
            f"decoder.up_blocks.{level}.upsamplers.0",
            keys.VAE_RESAMPLE,
        )
    return keys.link_rows(rows)


def _nest(official: str, ours: str, rows: tuple[keys.Row, ...]) -> list[keys.Row]:
    return [(f"{official}.{left}", f"{ours}.{right}", leaves) for left, right, leaves in rows]


def _read_levels(weights: Weights) -> tuple[list[list[int]], list[bool]]:
    """Numbers of the residual blocks of each level; whether each step between also halves time."""
    count = weights.depth(_DOWN)

    def has(number: int, module: str) -> bool:
        return any(f"{_DOWN}{number}.{module}.{leaf}" in weights for leaf in keys.LINEAR)

    steps = [number for number in range(count) if has(number, "resample.1")]
    levels = [
        list(group)
        for is_step, group in groupby(range(count), key=lambda number: number in steps)
        if not is_step
    ]
    if not levels:
        raise ConvertError(
            f"vae: missing key {_DOWN + '0.residual.2.weight'!r}; give Wan2.1_VAE.pth"
        )
    return levels, [has(number, "time_conv") for number in steps]


def _level_width(weights: Weights, level: list[int]) -> int:
    places = [("residual.2.bias", 0), ("residual.6.bias", 0), ("residual.3.gamma", 0)]
    return weights.vote(
        *((f"{_DOWN}{number}.{name}", axis) for number in level for name, axis in places)
    )


def _patch_size(in_channels: int) -> int | None:
    """Wan 2.2's way of folding p x p pixels into channels, seen from 3 p^2 input channels."""
    side = isqrt(in_channels // 3)
    return side if side > 1 and 3 * side**2 == in_channels else None


def _latent_statistics(z_dim: int) -> tuple[list[float], list[float]]:
    from diffusers import AutoencoderKLWan

    if z_dim != 16:
        return [0.0] * z_dim, [1.0] * z_dim
    with torch.device("meta"):
        model: Any = AutoencoderKLWan(base_dim=2, num_res_blocks=1)
    return list(model.config.latents_mean), list(model.config.latents_std)
