"""Where this process stands when diffusers splits a transformer's sequence over several.

Axes: B batch, N tokens of the whole sequence, n of them on this process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class SequencePlace:
    """Which part of the sequence this process holds, and of how many.

    The first parts hold one token more where the sequence does not divide, as diffusers splits it.

    Args:
        group: processes that hold the parts, in their order; None when the sequence is whole.
    """

    rank: int = 0
    count: int = 1
    group: Any = None

    def first(self, total: int) -> int:
        """Number of this part's first token in a sequence of `total`."""
        return self.rank * (total // self.count) + min(self.rank, total % self.count)

    def own(self, x: Tensor) -> Tensor:
        """This process's part (B, n, ...) of x (B, N, ...)."""
        return x.tensor_split(self.count, dim=1)[self.rank]

    def total(self, size: int, device: torch.device) -> int:
        """N, when this part holds `size` tokens; every process must call it."""
        if self.count == 1:
            return size
        sizes = torch.tensor(size, device=device)
        dist.all_reduce(sizes, group=self.group)
        return int(sizes)

    def whole(self, part: Tensor, total: int) -> Tensor:
        """All parts (B, n, ...) joined, (B, N, ...); every process must call it.

        Args:
            total: N.
        """
        if self.count == 1:
            return part
        longest = -(-total // self.count)
        padded = F.pad(part.movedim(1, -1), (0, longest - part.shape[1])).movedim(-1, 1)
        padded = padded.contiguous()
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded, group=self.group)
        sizes = [total // self.count + (rank < total % self.count) for rank in range(self.count)]
        return torch.cat([x[:, :size] for x, size in zip(parts, sizes, strict=True)], dim=1)


WHOLE = SequencePlace()


def sequence_place(transformer: Any) -> SequencePlace:
    """The place of this process in a transformer's split sequence."""
    config = getattr(transformer, "_parallel_config", None)
    context = None if config is None else config.context_parallel_config
    if context is None:
        return WHOLE
    group = context._flattened_mesh.get_group()
    return SequencePlace(dist.get_rank(group), dist.get_world_size(group), group)
