"""What references become before the first denoising step.

Axes: B batch, C channels, S image tokens, K references, F latent frames, H W latent rows and
columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image
from torch import Tensor

from anyref.models.disentanglement import Disentanglement, SubjectRegions
from anyref.models.strength import ReferenceStrength


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """One value for both families; a family fills what it uses.

    Args:
        channels: (B, C, F, H, W), joined to the noisy latents on the channel axis (MAGREF).
        image_embeds: (B, S, D), read by cross-attention (MAGREF's CLIP tokens).
        transformer_kwargs: further arguments of the transformer's forward (Kaleido's references).
        regions: bool (K, H, W), where each reference lies in latent frame 0 (MAGREF); for one
            sample, on the CPU.
        disentangle: that the words of references shall act on their regions, and how.
        subjects: regions and words of a batch, once the text is known; `predict_velocity` applies
            them.
        strength: that some references count more or less than as trained.
        pictures: what was conditioned on, for people to look at.
    """

    channels: Tensor | None = None
    image_embeds: Tensor | None = None
    transformer_kwargs: dict[str, Any] = field(default_factory=dict)
    regions: Tensor | None = None
    disentangle: Disentanglement | None = None
    subjects: SubjectRegions | None = None
    strength: ReferenceStrength | None = None
    pictures: dict[str, Image.Image] = field(default_factory=dict)

    def map(self, change: Any) -> Conditioning:
        """The same with `change` applied to every tensor but those of `regions` and `strength`."""
        kwargs = {
            name: [change(tensor) for tensor in value] if isinstance(value, list) else value
            for name, value in self.transformer_kwargs.items()
        }
        return replace(
            self,
            channels=None if self.channels is None else change(self.channels),
            image_embeds=None if self.image_embeds is None else change(self.image_embeds),
            subjects=None if self.subjects is None else self.subjects.map(change),
            transformer_kwargs=kwargs,
        )
