"""How a pipeline's parts are held: one value that loading, placing and predicting share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from anyref.pipelines.memory.sizes import Form

Placement = Literal["device", "parts", "blocks", "disk"]
EIGHT_BIT_PARTS = ("transformer", "text_encoder")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a pipeline's parts are held.

    Args:
        placement: "device": all there. "parts": each part comes while it works. "blocks": blocks of
            the transformer and layers of the encoders come one by one, from memory. "disk": the
            same from files.
        eight_bit: linear layers of transformer and text encoder are stored as int8.
        dtype: of the transformer's other weights, and of its products; as stored when None.
        keeps: what stays the same over the steps of a video (keys and values of text and image)
            is kept; otherwise every pass computes it anew, to the same bits.
        tiled: the VAE works on tiles of 256 pixels, blended where they overlap.
    """

    placement: Placement = "device"
    eight_bit: bool = False
    dtype: torch.dtype | None = None
    keeps: bool = True
    tiled: bool = False

    @property
    def name(self) -> str:
        """What `--memory` calls it: full, parts, blocks or disk, with -int8."""
        where = "full" if self.placement == "device" else self.placement
        return f"{where}-int8" if self.eight_bit else where

    @property
    def exact(self) -> bool:
        """True when the video's latents are those of the model as it is stored."""
        return not self.eight_bit and self.dtype is None

    def form(self, part: str) -> Form:
        """What a part's weights become."""
        narrow = self.eight_bit and part in EIGHT_BIT_PARTS
        return Form(self.dtype if part == "transformer" else None, narrow)


NAMES = tuple(
    Plan(placement=placement, eight_bit=narrow).name
    for narrow in (False, True)
    for placement in ("device", "parts", "blocks", "disk")
)
