"""Flow matching on video latents, in the sign convention of Wan and both families' code.

    x_s = (1 - s) x + s e,   target v = e - x,   timestep 1000 s,   mean squared error

(MAGREF paper App. A with time reversed; Kaleido's loss in its released code.) The loss is on the
video's latents only: reference tokens leave the network before it (Kaleido), references on channels
never enter the target (MAGREF).

Axes: B batch, C channels, F latent frames, H W latent rows and columns, L text tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from anyref.pipelines.conditioning import Conditioning
from anyref.pipelines.sampling import predict_velocity
from anyref.training.recipe import ObjectiveSection


def resolution_shift(tokens_per_frame: int) -> float:
    """Kaleido's shift towards noise for larger frames: e^mu, mu = 0.5 + 0.65 (L - 256) / 3840.

    L counts the tokens of one latent frame; the number of frames does not enter (released code).
    """
    return math.exp(0.5 + 0.65 * (tokens_per_frame - 256) / 3840)


def sample_sigmas(
    batch: int,
    law: ObjectiveSection,
    tokens_per_frame: int,
    generator: torch.Generator,
) -> Tensor:
    """Noise levels (B,) in (0, 1), shifted towards noise.

    s' = shift s / (1 + (shift - 1) s), with s uniform or s = sigmoid(n), n ~ N(mean, std).
    Stratified: one stratum of the law per batch element keeps the batch's levels apart.
    """
    uniform = torch.rand(batch, generator=generator)
    if law.stratified:
        order = torch.randperm(batch, generator=generator)
        uniform = (torch.arange(batch)[order] + uniform) / batch
    s = uniform.clamp(1e-4, 1 - 1e-4)
    if law.timesteps == "logit_normal":
        s = torch.sigmoid(law.mean + law.std * torch.special.ndtri(s))
    shift = resolution_shift(tokens_per_frame) if law.shift == "resolution" else law.shift
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
    target = noise - latents
    error = (velocity.to(torch.promote_types(target.dtype, torch.float32)) - target).square()
    return (error if weight is None else error * weight).mean(dim=(1, 2, 3, 4))
