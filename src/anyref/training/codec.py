"""Training the small VAE, and measuring the statistics that normalise its latents.

Axes: B batch, C channels, T frames, Y X pixels, F latent frames, H W latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from torch.nn import functional as F

LATENT_NOISE = 0.05  # relative to the latents' own spread; the decoder must bear sampling errors
EDGE_WEIGHT = 0.5


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
def measure_latents(vae: AutoencoderKLWan, batches: Iterable[Tensor]) -> None:
    """Write the mean and spread of each latent channel into the VAE's configuration.

    Args:
        batches: (B, 3, T, Y, X) in [-1, 1] each.
    """
    rows = [vae.encode(frames).latent_dist.mode().transpose(0, 1).flatten(1) for frames in batches]
    values = torch.cat(rows, dim=1)  # (C, everything)
    vae.register_to_config(
        latents_mean=values.mean(dim=1).tolist(), latents_std=values.std(dim=1).tolist()
    )


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKLWan, frames: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of decoded against given frames, in [-1, 1]."""
    decoded = vae.decode(vae.encode(frames).latent_dist.mode(), return_dict=False)[0]
    return float(-10 * torch.log10(F.mse_loss(decoded, frames) / 4.0))
