"""The codec's loss, its latent statistics and its score."""

from __future__ import annotations

import pytest
import torch

import tiny
from anyref.errors import TrainingError
from anyref.models.presets import PATCH, tiny_codec
from anyref.training.codec import (
    codec_loss,
    measure_latents,
    reconstruction_psnr,
    start_from_components,
)


def frames():
    return torch.rand(2, 3, 5, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_loss_trains_encoder_and_decoder():
    vae = tiny.vae().train()
    codec_loss(vae, frames(), torch.Generator().manual_seed(0)).backward()
    assert vae.encoder.conv_in.weight.grad.abs().sum() > 0
    assert vae.decoder.conv_out.weight.grad.abs().sum() > 0


def test_measured_statistics_normalise_the_latents():
    pipe = tiny.magref()
    measure_latents(pipe.vae, [frames()])
    latents = pipe.encode_video(frames())
    assert latents.mean(dim=(0, 2, 3, 4)).abs().max() < 1e-3
    assert latents.var(dim=(0, 2, 3, 4)).mean().item() == pytest.approx(1.0, abs=1e-3)


def test_a_codec_that_starts_from_components_reconstructs_what_they_span():
    vae = tiny_codec()
    spanned = torch.randn(8, 3 * PATCH**2, generator=torch.Generator().manual_seed(0)) * 0.1
    mix = torch.randn(256, 8, generator=torch.Generator().manual_seed(1))
    pictures = (mix @ spanned).reshape(256, 3, 1, PATCH, PATCH)
    start_from_components(vae, pictures)
    assert reconstruction_psnr(vae, pictures[:32]) > 35
    with pytest.raises(TrainingError, match="one resolution"):
        start_from_components(tiny.vae(), pictures)


def test_psnr_is_that_of_the_decoded_frames():
    vae = tiny.vae()
    with torch.no_grad():
        decoded = vae.decode(vae.encode(frames()).latent_dist.mode(), return_dict=False)[0]
    mse = ((decoded - frames()) / 2).square().mean()
    assert reconstruction_psnr(vae, frames()) == pytest.approx(
        -10 * torch.log10(mse).item(), abs=1e-3
    )
