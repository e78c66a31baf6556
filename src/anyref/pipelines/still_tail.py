"""The encoding of one frame before an empty video, without computing what repeats itself.

MAGREF encodes its canvas as the first frame of a video whose other frames are zero. The VAE is
causal and works in chunks of four frames, so what the first frame did to a layer passes by, and
from then on the layer gives the same for every chunk. That happens one layer after another: at
stock depth the last one is still at it after 81 frames, but the first ones, at full resolution and
most of the work, are done after a few chunks. A layer whose input and whose kept features are those
of the chunk before is not run again, which changes no bit.

Axes: B batch, C channels, T frames, Y X pixels, F latent frames, H W latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import CACHE_T, patchify
from torch import Tensor

CHUNK = 4  # frames that the encoder takes at a time, after the first one


@dataclass(eq=False)
class _Layer:
    """A part of the encoder, and what it last did.

    Args:
        run: (x, features, index) to the output; keeps features for the next chunk.
        output: of the last chunk. still: the next chunk will give the same if it brings the same.
        slots: how many features it keeps.
    """

    run: Callable[[Tensor, list[Any], list[int]], Tensor]
    output: Tensor | None = None
    still: bool = False
    slots: int = 0

    def __call__(self, x: Tensor, repeats: bool, kept: list[Any], at: int) -> tuple[Tensor, bool]:
        """The output, and whether it is that of the chunk before.

        Args:
            repeats: x is that of the chunk before. kept: features of all layers, its own from `at`.
        """
        if repeats and self.still and self.output is not None:
            return self.output, True
        before, index = list(kept), [at]
        output = self.run(x, kept, index)
        self.slots = index[0] - at
        own = slice(at, index[0])
        self.still = all(_same(a, b) for a, b in zip(before[own], kept[own], strict=True))
        same = _same(self.output, output)
        self.output = output
        return output, same


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    return one is None and other is None


@torch.no_grad()
def encode_before_zeros(vae: Any, frame: Tensor, num_frames: int) -> Tensor:
    """The mode of the posterior of a frame with zeros after it, as `AutoencoderKLWan.encode`.

    Args:
        vae: `AutoencoderKLWan`. frame: (B, 3, 1, Y, X) in [-1, 1], in its dtype.
        num_frames: in all.

    Returns:
        (B, C, F, H, W), bit for bit what the whole video gives; the whole is encoded by a VAE that
        tiles or slices.
    """
    if vae.use_tiling or vae.use_slicing:
        tail = frame.new_zeros(*frame.shape[:2], num_frames - 1, *frame.shape[3:])
        return vae.encode(torch.cat([frame, tail], dim=2)).latent_dist.mode()
    offload = getattr(vae, "_hf_hook", None)
    if offload is not None and hasattr(offload, "pre_forward"):
        offload.pre_forward(vae)
    zeros = frame.new_zeros(*frame.shape[:2], CHUNK, *frame.shape[3:])
    if vae.config.patch_size is not None:
        frame, zeros = (patchify(x, patch_size=vae.config.patch_size) for x in (frame, zeros))
    vae.clear_cache()
    kept, layers = vae._enc_feat_map, _layers(vae.encoder)
    chunks = []
    for i in range(1 + (num_frames - 1) // CHUNK):
        x, repeats, at = frame if i == 0 else zeros, i > 1, 0
        for layer in layers:
            x, repeats = layer(x, repeats, kept, at)
            at += layer.slots
        chunks.append(x)
    moments = vae.quant_conv(torch.cat(chunks, dim=2))
    vae.clear_cache()
    return moments.chunk(2, dim=1)[0]


def _layers(encoder: Any) -> list[_Layer]:
    """The encoder's parts in order; together they are its forward."""

    def part(module: Any) -> _Layer:
        return _Layer(lambda x, kept, index: module(x, feat_cache=kept, feat_idx=index))

    def head(x: Tensor, kept: list[Any], index: list[int]) -> Tensor:
        x = encoder.nonlinearity(encoder.norm_out(x))
        return _causal(encoder.conv_out, x, kept, index)

    return [
        _Layer(lambda x, kept, index: _causal(encoder.conv_in, x, kept, index)),
        *(part(block) for block in encoder.down_blocks),
        part(encoder.mid_block),
        _Layer(head),
    ]


def _causal(conv: Any, x: Tensor, kept: list[Any], index: list[int]) -> Tensor:
    """A causal convolution after the frames of the chunk before, whose last ones it keeps."""
    at = index[0]
    last = x[:, :, -CACHE_T:].clone()
    if last.shape[2] < CACHE_T and kept[at] is not None:
        last = torch.cat([kept[at][:, :, -1:], last], dim=2)
    x = conv(x, kept[at])
    kept[at] = last
    index[0] += 1
    return x
