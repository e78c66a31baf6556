"""Training the small VAE, and measuring the statistics that normalise its latents.

Axes: B batch, C channels, T frames, Y X pixels, F latent frames, H W latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanResidualBlock,
    patchify,
)
from torch import Tensor, nn
from torch.nn import functional as F

from anyref.errors import TrainingError

LATENT_NOISE = 0.05  # relative to the latents' own spread; the decoder must bear sampling errors
EDGE_WEIGHT = 0.5
CONSTANT = 100.0  # large beside the signal, so that an RMS norm divides by (nearly) itself


def codec_loss(vae: AutoencoderKLWan, frames: Tensor, generator: torch.Generator) -> Tensor:
    """L1 on pixels and on their neighbour differences, decoded from slightly noisy latents.

    The posterior's mode is trained, without a KL term: the latents are normalised by measured
    statistics afterwards, and sampling never draws from the posterior.

    Args:
        frames: (B, 3, T, Y, X) in [-1, 1], T = 4n + 1.

    Returns:
        a scalar.
    """
    latents = vae.encode(frames).latent_dist.mode()
    spread = latents.detach().std(dim=(0, 2, 3, 4), keepdim=True)
    noise = torch.randn(latents.shape, generator=generator)
    decoded = vae.decode(latents + LATENT_NOISE * spread * noise, return_dict=False)[0]
    pixel = F.l1_loss(decoded, frames)
    edge = sum(F.l1_loss(decoded.diff(dim=d), frames.diff(dim=d)) for d in (3, 4))
    return pixel + EDGE_WEIGHT * edge


@torch.no_grad()
def start_from_components(vae: AutoencoderKLWan, frames: Tensor) -> None:
    """Make a VAE without up- or downsampling compute principal components of pixel patches.

    Residual branches start at zero, so what is left of the network is its first convolution, an RMS
    norm, SiLU and its last convolution, twice. A large constant channel makes the norm a constant
    division, and silu(a) - silu(-a) = a makes pairs of opposite channels linear. A component of
    spread s becomes a latent of spread sqrt(s): between raw components and whitened ones.

    Args:
        frames: (B, 3, T, Y, X) in [-1, 1] to take the components from.

    Raises:
        TrainingError: when the network is too narrow for a pair per latent channel and a constant.
    """
    decoder_channels = vae.config.decoder_base_dim or vae.config.base_dim
    channels, pairs = min(vae.config.base_dim, decoder_channels), 2 * vae.z_dim
    if channels <= pairs or any(vae.config.temperal_downsample) or len(vae.config.dim_mult) > 1:
        raise TrainingError(
            f"components need base_dim above {pairs} and one resolution, got base_dim {channels} "
            f"and dim_mult {vae.config.dim_mult}"
        )
    patches = patchify(frames, vae.config.patch_size).transpose(0, 1).flatten(1)  # (C, N)
    mean = patches.mean(dim=1, keepdim=True)
    values, vectors = torch.linalg.eigh((patches - mean) @ (patches - mean).T / patches.shape[1])
    spread = values[-vae.z_dim :].flip(0).sqrt()  # (z,)
    basis = vectors[:, -vae.z_dim :].flip(1)  # (C, z)
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
        elif isinstance(module, WanAttentionBlock):
            nn.init.zeros_(module.proj.weight)
            nn.init.zeros_(module.proj.bias)
    scale = spread.sqrt()
    analysis = (basis / scale).T  # (z, C)
    _read_pairs(vae.encoder.conv_in, analysis, -(analysis @ mean)[:, 0])
    _write_pairs(vae.encoder, torch.eye(2 * vae.z_dim, vae.z_dim), torch.zeros(2 * vae.z_dim))
    _pointwise(vae.quant_conv, torch.eye(2 * vae.z_dim), torch.zeros(2 * vae.z_dim))
    _pointwise(vae.post_quant_conv, torch.eye(vae.z_dim), torch.zeros(vae.z_dim))
    _read_pairs(vae.decoder.conv_in, torch.eye(vae.z_dim), torch.zeros(vae.z_dim))
    _write_pairs(vae.decoder, basis * scale, mean[:, 0])


def _pointwise(conv: nn.Conv3d, weight: Tensor, bias: Tensor) -> None:
    """A convolution that looks at its own cell and frame only; the rest keeps a little noise."""
    nn.init.normal_(conv.weight, std=1e-4)
    conv.weight[:, :, -1, conv.weight.shape[3] // 2, conv.weight.shape[4] // 2] = weight
    conv.bias.data.copy_(bias)  # type: ignore[union-attr]


def _read_pairs(conv: nn.Conv3d, weight: Tensor, bias: Tensor) -> None:
    rest = conv.weight.shape[0] - 2 * weight.shape[0]
    rows = torch.cat([weight, -weight, weight.new_zeros(rest, weight.shape[1])])
    constant = bias.new_zeros(rest)
    constant[0] = CONSTANT
    _pointwise(conv, rows, torch.cat([bias, -bias, constant]))


def _write_pairs(half: Any, weight: Tensor, bias: Tensor) -> None:
    channels = half.conv_out.weight.shape[1]
    half.norm_out.gamma.fill_(CONSTANT / channels**0.5)
    rest = weight.new_zeros(weight.shape[0], channels - 2 * weight.shape[1])
    _pointwise(half.conv_out, torch.cat([weight, -weight, rest], dim=1), bias)


@torch.no_grad()
def measure_latents(vae: AutoencoderKLWan, batches: Iterable[Tensor]) -> None:
    """Write the statistics that normalise each latent channel into the VAE's configuration.

    Means are each channel's own; the spread is one number for all, so that the mean variance is one
    and coarse channels keep more of it than fine ones: sampling settles what is large first.

    Args:
        batches: (B, 3, T, Y, X) in [-1, 1] each.
    """
    rows = [vae.encode(frames).latent_dist.mode().transpose(0, 1).flatten(1) for frames in batches]
    values = torch.cat(rows, dim=1)  # (C, everything)
    spread = values.var(dim=1).mean().sqrt().item()
    vae.register_to_config(
        latents_mean=values.mean(dim=1).tolist(), latents_std=[spread] * vae.config.z_dim
    )


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKLWan, frames: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of decoded against given frames, in [-1, 1]."""
    decoded = vae.decode(vae.encode(frames).latent_dist.mode(), return_dict=False)[0]
    return float(-10 * torch.log10(F.mse_loss(decoded, frames) / 4.0))
