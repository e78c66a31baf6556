"""Flow matching on video latents, in the sign convention of Wan and both families' code.

    x_s = (1 - s) x + s e,   target v = e - x,   timestep 1000 s,   mean squared error

(MAGREF paper App. A with time reversed; Kaleido's loss in its released code.) The loss is on the
video's latents only: reference tokens leave the network before it (Kaleido), references on channels
never enter the target (MAGREF).

Axes: B batch, C channels, F latent frames, H W latent rows and columns, L text tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anyref.pipelines.conditioning import Conditioning
from anyref.pipelines.sampling import predict_velocity


def sample_sigmas(batch: int, shift: float, generator: torch.Generator) -> Tensor:
    """Noise levels (B,) in (0, 1): logit-normal, then shifted towards noise.

    s' = shift s / (1 + (shift - 1) s) with s = sigmoid(n), n ~ N(0, 1); Kaleido's law is
    shift = e^mu (released code). One stratum per batch element keeps the batch's levels apart.
    """
    strata = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
    order = torch.randperm(batch, generator=generator)
    normal = torch.special.ndtri(strata[order].clamp(1e-4, 1 - 1e-4))
    s = torch.sigmoid(normal)
    return shift * s / (1 + (shift - 1) * s)


def flow_matching_loss(
    transformer: nn.Module,
    latents: Tensor,
    conditioning: Conditioning,
    text: Tensor,
    sigmas: Tensor,
    noise: Tensor,
    weight: Tensor | None = None,
) -> Tensor:
    """Squared error of the predicted velocity, per clip.

    Args:
        latents: (B, C, F, H, W) clean and normalised. noise: the same shape, standard normal.
        text: (B, L, D). sigmas: (B,) in (0, 1).
        weight: (B, 1, F, H, W) of each cell, mean 1; all ones when absent.

    Returns:
        (B,) mean over channels, frames and cells.
    """
    s = sigmas.view(-1, 1, 1, 1, 1)
    noisy = (1 - s) * latents + s * noise
    velocity = predict_velocity(transformer, noisy, 1000 * sigmas, text, conditioning)
    error = (velocity.float() - (noise - latents)).square()
    return (error if weight is None else error * weight).mean(dim=(1, 2, 3, 4))
