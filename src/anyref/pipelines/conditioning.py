"""What references become before the first denoising step.

Axes: B batch, C channels, S image tokens, F latent frames, H W latent rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """One value for both families; a family fills what it uses.

    Args:
        channels: (B, C, F, H, W), joined to the noisy latents on the channel axis (MAGREF).
        image_embeds: (B, S, D), read by cross-attention (MAGREF's CLIP tokens).
        transformer_kwargs: further arguments of the transformer's forward (Kaleido's references).
        pictures: what was conditioned on, for people to look at.
    """

    channels: Tensor | None = None
    image_embeds: Tensor | None = None
    transformer_kwargs: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, Image.Image] = field(default_factory=dict)

    def map(self, change: Any) -> Conditioning:
        """The same conditioning with `change` applied to every tensor."""
        kwargs = {
            name: [change(tensor) for tensor in value] if isinstance(value, list) else value
            for name, value in self.transformer_kwargs.items()
        }
        return replace(
            self,
            channels=None if self.channels is None else change(self.channels),
            image_embeds=None if self.image_embeds is None else change(self.image_embeds),
            transformer_kwargs=kwargs,
        )
