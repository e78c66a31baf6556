"""Latents to pixels a latent frame at a time, so that a video can be written while it is made.

The frames are those of `AutoencoderKLWan.decode`, bit for bit: it decodes in the same chunks, and
holds all of them only to join them.

Axes: B batch, C channels, F latent frames, H W latent rows and columns, T frames, Y X pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from torch import Tensor


@torch.no_grad()
def decoded_chunks(vae: Any, latents: Tensor) -> Iterator[Tensor]:
    """Pixels (B, 3, t, Y, X) in [-1, 1], one chunk per latent frame.

    A VAE that tiles or slices gives the whole video as one chunk. The VAE keeps features between
    chunks in itself and must not be used for anything else before the last.

    Args:
        vae: `AutoencoderKLWan`. latents: (B, C, F, H, W), not normalised, in its dtype.
    """
    if vae.use_tiling or vae.use_slicing:
        yield vae.decode(latents, return_dict=False)[0]
        return
    offload = getattr(vae, "_hf_hook", None)
    if offload is not None and hasattr(offload, "pre_forward"):
        offload.pre_forward(vae)
    vae.clear_cache()
    features = vae.post_quant_conv(latents)  # (B, C, F, H, W)
    for i in range(features.shape[2]):
        vae._conv_idx = [0]
        first = {"first_chunk": True} if i == 0 else {}
        chunk = vae.decoder(
            features[:, :, i : i + 1], feat_cache=vae._feat_map, feat_idx=vae._conv_idx, **first
        )
        if vae.config.patch_size is not None:
            chunk = unpatchify(chunk, patch_size=vae.config.patch_size)
        yield chunk.clamp(min=-1.0, max=1.0)
    vae.clear_cache()


def without_lead(chunks: Iterator[Tensor], lead: int) -> Iterator[Tensor]:
    """The chunks (B, 3, t, Y, X) without the first `lead` frames of the video."""
    for chunk in chunks:
        dropped = min(lead, chunk.shape[2])
        lead -= dropped
        if dropped < chunk.shape[2]:
            yield chunk[:, :, dropped:]
