"""Frames come while they are decoded, and are those of the whole decode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

import tiny
from anyref import generate
from anyref.pipelines.decoding import decoded_chunks, without_lead


def patched_vae():
    """A VAE on patches, as the shipped models have it."""
    torch.manual_seed(0)
    return AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1], num_res_blocks=0, temperal_downsample=[], patch_size=4,
        in_channels=48, out_channels=48, latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        scale_factor_temporal=1, scale_factor_spatial=4,
    ).eval()  # fmt: skip


@pytest.mark.parametrize(("make", "channels"), [(tiny.vae, 16), (patched_vae, 4)])
def test_chunks_are_the_whole_decode_bit_for_bit(make, channels):
    torch.manual_seed(0)
    vae, latents = make(), torch.randn(1, channels, 4, 4, 6)
    whole = vae.decode(latents, return_dict=False)[0]
    chunks = list(decoded_chunks(vae, latents))
    assert len(chunks) == 4
    assert torch.equal(torch.cat(chunks, dim=2), whole)
    assert torch.equal(vae.decode(latents, return_dict=False)[0], whole)


def test_a_tiling_vae_gives_one_chunk():
    vae, latents = tiny.vae(), torch.zeros(1, 16, 2, 4, 6)
    vae.enable_tiling()
    assert len(list(decoded_chunks(vae, latents))) == 1


@pytest.mark.parametrize("lead", [0, 1, 3, 4])
def test_lead_frames_are_cut_across_chunks(lead):
    chunks = [torch.arange(n, n + 2.0).reshape(1, 1, 2, 1, 1) for n in (0, 2, 4)]
    kept = torch.cat(list(without_lead(iter(chunks), lead)), dim=2)
    assert kept.flatten().tolist() == list(range(lead, 6))


@pytest.mark.parametrize("family", ["magref", "kaleido"])
def test_frames_given_while_decoding_are_the_frames_returned(family):
    pipe, parts = getattr(tiny, family)(), []
    whole = generate(pipe, tiny.request())
    given = generate(pipe, tiny.request(), on_frames=parts.append)
    assert len(parts) > 1
    assert given.frames.size == 0
    assert np.array_equal(np.concatenate(parts), whole.frames)
    (array,) = pipe(
        "a @fox walks",
        references=tiny.request().references,
        generator=torch.Generator().manual_seed(0),
        return_dict=False,
    )
    assert np.array_equal((array[0] * 255.0).round().astype(np.uint8), whole.frames)
