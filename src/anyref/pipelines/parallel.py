"""One video on several processes: diffusers context parallelism under torchrun.

Conditioning and noise are made on rank 0 and broadcast, so every rank starts from the same values
and N ranks give the video that one gives.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar
from unittest import mock

import torch
import torch.distributed as dist

from anyref.errors import RequestError

T = TypeVar("T")


def start() -> None:
    """Join the process group that torchrun announces; nothing on a single process."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def stop() -> None:
    """Leave the process group, if any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """Number of processes that make this video together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """True on rank 0 and without a process group."""
    return not dist.is_initialized() or dist.get_rank() == 0


def from_main(make: Callable[[], T]) -> T:
    """Call `make` on rank 0 only and give every rank its result, or its error."""
    if world_size() == 1:
        return make()
    box: list[Any] = [None, None]
    if is_main():
        try:
            box[0] = make()
        except Exception as error:
            box[1] = error
    dist.broadcast_object_list(box, src=0)
    if box[1] is not None:
        raise box[1]
    return box[0]


def shard(pipe: Any) -> None:
    """Split the transformer's sequence over all ranks (Ulysses).

    Raises:
        RequestError: when the number of attention heads does not divide by the number of ranks.
    """
    size = world_size()
    if size == 1:
        return
    heads = pipe.transformer.config.num_attention_heads
    if heads % size:
        raise RequestError(
            f"{heads} attention heads do not divide over {size} processes; "
            f"use one of {[n for n in range(1, heads + 1) if heads % n == 0]}"
        )
    from diffusers import ContextParallelConfig

    config = ContextParallelConfig(ulysses_degree=size)
    # diffusers divides by the number of accelerators, which is 0 on a CPU
    count = max(1, torch.accelerator.device_count())
    with mock.patch.object(torch.accelerator, "device_count", lambda: count):
        pipe.transformer.enable_parallelism(config=config)


def check_divisible(transformer: Any, num_tokens: int) -> None:
    """Raise RequestError when a transformer's sequence is split and its tokens do not divide."""
    size = world_size()
    if getattr(transformer, "_parallel_config", None) is not None and num_tokens % size:
        raise RequestError(
            f"{num_tokens} tokens do not divide over {size} processes; change the size or the "
            "number of references, or use fewer processes"
        )
