"""A canvas before an empty video is encoded as the whole video is, in less work."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan

import tiny
from anyref.pipelines.still_tail import encode_before_zeros


def residual_vae():
    """The blocks of Wan 2.2's VAE, on patches."""
    torch.manual_seed(0)
    return AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[True],
        is_residual=True, patch_size=2, in_channels=12, out_channels=12, latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).eval()  # fmt: skip


def whole(vae, frame, num_frames):
    tail = torch.zeros(*frame.shape[:2], num_frames - 1, *frame.shape[3:])
    with torch.no_grad():
        return vae.encode(torch.cat([frame, tail], dim=2)).latent_dist.mode()


@pytest.mark.parametrize("make", [tiny.vae, residual_vae])
@pytest.mark.parametrize("num_frames", [1, 5, 81])
def test_the_latents_are_those_of_the_whole_video_bit_for_bit(make, num_frames):
    torch.manual_seed(0)
    vae, frame = make(), torch.rand(1, 3, 1, 32, 48) * 2 - 1
    expected = whole(vae, frame, num_frames)
    assert torch.equal(encode_before_zeros(vae, frame, num_frames), expected)
    assert torch.equal(whole(vae, frame, num_frames), expected)


def test_layers_rest_once_the_canvas_has_passed_them_the_first_ones_first():
    vae, runs = tiny.vae(), []
    blocks = vae.encoder.down_blocks
    for number, block in enumerate(blocks):
        block.register_forward_hook(lambda *_, number=number: runs.append(number))
    encode_before_zeros(vae, torch.rand(1, 3, 1, 32, 48), 81)
    counts = [runs.count(number) for number in range(len(blocks))]
    assert counts == sorted(counts)
    assert counts[0] <= 5  # of 21 chunks
    assert counts[-1] < 21


def test_a_tiling_vae_encodes_the_whole_video():
    vae, frame = tiny.vae(), torch.rand(1, 3, 1, 32, 48)
    vae.enable_tiling(16, 16, 8, 8)
    assert torch.equal(encode_before_zeros(vae, frame, 5), whole(vae, frame, 5))
