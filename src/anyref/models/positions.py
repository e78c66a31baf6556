"""Rotary positions of reference tokens beside the video's (R-RoPE).

Kaleido places patch (y, x) of reference k at (k, y + offset_h, x + offset_w), with the video at
(t, y, x) as in plain Wan. Released weights: offset 80 patches on both axes (Kaleido config max_h,
max_w with overloop); the paper's figure: the video's own height and width in patches.

Axes: N tokens, D head channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from torch import Tensor

from anyref.errors import SizeError

ReferenceOffset = int | Literal["video"]
Grid = tuple[int, int]  # rows and columns of one reference, in patches


def spatial_offset(offset: ReferenceOffset, video_grid: Grid) -> Grid:
    """Rows and columns, in patches, by which every reference is moved past the video."""
    return video_grid if offset == "video" else (int(offset), int(offset))


class ReferenceRotaryPosEmbed(WanRotaryPosEmbed):
    """Wan's rotary embedding, with rows for reference tokens in front.

    Rows are gathered per axis from Wan's own tables of `max_seq_len` positions, so nothing larger
    than the sequence itself is ever built. Without references the result is Wan's.
    """

    def forward(
        self,
        hidden_states: Tensor,
        reference_grids: Sequence[Grid] = (),
        reference_offset: ReferenceOffset = 80,
    ) -> tuple[Tensor, Tensor]:
        """Cosines and sines of every token, references first.

        Args:
            hidden_states: (B, C, F, H, W), the video's latents; only the shape is used.
            reference_grids: rows and columns of each reference, in patches.
            reference_offset: patches, or "video" for the video's own size.

        Returns:
            two tensors (1, N, 1, D).

        Raises:
            SizeError: when a position lies past the table.
        """
        cos, sin = super().forward(hidden_states)  # (1, N_video, 1, D) each
        if not reference_grids:
            return cos, sin
        _, rows_patch, columns_patch = self.patch_size
        video_grid = (
            hidden_states.shape[3] // rows_patch,
            hidden_states.shape[4] // columns_patch,
        )
        offset = spatial_offset(reference_offset, video_grid)
        furthest = max(max(k, *_last(grid, offset)) for k, grid in enumerate(reference_grids))
        if furthest >= self.max_seq_len:
            raise SizeError(
                f"reference positions reach {furthest} patches, the rotary table holds "
                f"{self.max_seq_len}; use a smaller reference_offset or smaller references"
            )
        index = torch.cat(
            [_positions(k, grid, offset) for k, grid in enumerate(reference_grids)]
        )  # (N_reference, 3)
        index = index.to(cos.device)
        return (
            torch.cat([self._rows(self.freqs_cos, index), cos], dim=1),
            torch.cat([self._rows(self.freqs_sin, index), sin], dim=1),
        )

    def _rows(self, table: Tensor, index: Tensor) -> Tensor:
        parts = table.split([self.t_dim, self.h_dim, self.w_dim], dim=1)
        rows = [part[index[:, axis]] for axis, part in enumerate(parts)]
        return torch.cat(rows, dim=-1)[None, :, None]  # (1, N, 1, D)


def _last(grid: Grid, offset: Grid) -> Grid:
    """Row and column of a reference's last patch."""
    return offset[0] + grid[0] - 1, offset[1] + grid[1] - 1


def _positions(k: int, grid: Grid, offset: Grid) -> Tensor:
    """(rows * columns, 3) integer positions (t, h, w) of reference k, row by row."""
    rows = torch.arange(grid[0]) + offset[0]
    columns = torch.arange(grid[1]) + offset[1]
    h, w = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([torch.full_like(h, k), h, w], dim=-1).flatten(0, 1)
