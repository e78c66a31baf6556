"""Where this process stands when diffusers splits a transformer's sequence over several."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def sequence_place(transformer: Any) -> tuple[int, int]:
    """Which part of the sequence this process holds, and of how many; (0, 1) when it is whole."""
    if getattr(transformer, "_parallel_config", None) is None:
        return 0, 1
    return dist.get_rank(), dist.get_world_size()
