"""Wan's transformer with clean reference tokens in front of the video's.

The same parameters and the same blocks as `WanTransformer3DModel`; without references the stock
forward runs. With references, their latents are patch-embedded one by one, put before the video's
tokens, carried through every block under the same timestep modulation, and cut before unpatching
(Kaleido: end_concat False, image_cross_text True).

Axes: B batch, C channels, F latent frames, H W latent rows and columns, h w of a reference,
N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ModelMixin, WanTransformer3DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.utils import apply_lora_scale
from torch import Tensor

from anyref.models.positions import ReferenceOffset, ReferenceRotaryPosEmbed

# diffusers looks components up in this module and needs their base class beside them
__all__ = ["KaleidoTransformer3DModel", "ModelMixin"]


class KaleidoTransformer3DModel(WanTransformer3DModel):
    """`WanTransformer3DModel` whose forward also takes reference latents.

    The configuration is the stock one, written out because `from_pretrained` reads it off this
    signature.
    """

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
    ) -> None:
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            cross_attn_norm=cross_attn_norm,
            qk_norm=qk_norm,
            eps=eps,
            image_dim=image_dim,
            added_kv_proj_dim=added_kv_proj_dim,
            rope_max_seq_len=rope_max_seq_len,
            pos_embed_seq_len=pos_embed_seq_len,
        )
        self.rope = ReferenceRotaryPosEmbed(attention_head_dim, tuple(patch_size), rope_max_seq_len)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        reference_hidden_states: Sequence[Tensor] = (),
        reference_offset: ReferenceOffset = 80,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Velocity of the video's latents.

        Args:
            hidden_states: (B, C, F, H, W) noisy latents.
            timestep: (B,), 0 to 1000, shared by video and references.
            encoder_hidden_states: (B, L, D_text).
            reference_hidden_states: clean normalised latents, (B, C, 1, h, w) each, sizes free.
            reference_offset: patches between the video's origin and a reference's, or "video".

        Returns:
            (B, C, F, H, W), as the stock class.

        Raises:
            SizeError: when a reference's rotary position lies past the table.
        """
        if not reference_hidden_states:
            return super().forward(
                hidden_states,
                timestep,
                encoder_hidden_states,
                encoder_hidden_states_image,
                return_dict=return_dict,
                attention_kwargs=attention_kwargs,
            )
        sample = self._forward_with_references(
            hidden_states,
            timestep,
            encoder_hidden_states,
            reference_hidden_states,
            reference_offset,
            attention_kwargs=attention_kwargs,
        )
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    @apply_lora_scale("attention_kwargs")
    def _forward_with_references(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        reference_hidden_states: Sequence[Tensor],
        reference_offset: ReferenceOffset,
        attention_kwargs: dict[str, Any] | None = None,  # noqa: ARG002 - the decorator reads it
    ) -> Tensor:
        _, rows, columns = self.config.patch_size
        grids = [(r.shape[3] // rows, r.shape[4] // columns) for r in reference_hidden_states]
        rotary = self.rope(hidden_states, grids, reference_offset)
        tokens = torch.cat(
            [
                self.patch_embedding(latents).flatten(2).transpose(1, 2)
                for latents in (*reference_hidden_states, hidden_states)
            ],
            dim=1,
        )  # (B, N, D)
        temb, modulation, text, _ = self.condition_embedder(timestep, encoder_hidden_states)
        modulation = modulation.unflatten(1, (6, -1))  # (B, 6, D)
        for block in self.blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = self._gradient_checkpointing_func(block, tokens, text, modulation, rotary)
            else:
                tokens = block(tokens, text, modulation, rotary)
        shift, scale = (self.scale_shift_table.to(temb.device) + temb.unsqueeze(1)).chunk(2, dim=1)
        tokens = (self.norm_out(tokens.float()) * (1 + scale) + shift).type_as(tokens)
        tokens = self.proj_out(tokens)[:, sum(h * w for h, w in grids) :]  # (B, N_video, C * patch)
        return self._unpatchify(tokens, hidden_states.shape)

    def _unpatchify(self, tokens: Tensor, shape: torch.Size) -> Tensor:
        batch, _, frames, height, width = shape
        f, h, w = self.config.patch_size
        grid = tokens.reshape(batch, frames // f, height // h, width // w, f, h, w, -1)
        return grid.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(batch, -1, frames, height, width)
