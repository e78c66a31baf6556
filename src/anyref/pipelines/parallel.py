"""Videos on several processes under torchrun: how they share the work, and what they exchange.

    videos    groups of processes that make a video each (of a list)
    cfg       the two passes of guidance, on a half of a video's processes each
    ring      parts of the sequence; keys and values go round (ring attention)
    ulysses   parts of the sequence; attention by heads (Ulysses)
    weights   besides, the blocks' weights are kept in parts by those who share a sequence (FSDP2)

Their product is the number of processes; neighbours are in the same Ulysses group. Text,
conditioning and noise are made by the first process of a video and broadcast, so every one starts
from the same values and N give the video that one gives.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from unittest import mock

import torch
import torch.distributed as dist

from anyref.errors import RequestError
from anyref.models.sequence import sequence_place
from anyref.pipelines.sampling import BOTH, GuidancePlace

T = TypeVar("T")
AXES = ("videos", "cfg", "ring", "ulysses")


@dataclass(frozen=True)
class ProcessLayout:
    """How many processes share each kind of work; see the module."""

    videos: int = 1
    cfg: int = 1
    ring: int = 1
    ulysses: int = 1
    weights: bool = False

    @property
    def size(self) -> int:
        """Number of processes."""
        return math.prod(getattr(self, axis) for axis in AXES)

    def __str__(self) -> str:
        parts = [f"{axis}={getattr(self, axis)}" for axis in AXES if getattr(self, axis) > 1]
        return ",".join([*parts, *(["weights"] if self.weights else [])]) or "alone"


def parse_layout(text: str, world: int) -> ProcessLayout:
    """Read `ulysses=2,ring=2,cfg=2,videos=2,weights`; what is left of the processes is Ulysses'.

    Args:
        world: number of processes.

    Raises:
        RequestError: for text that is not of that form, or another number of processes.
    """
    given: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, number = part.strip().partition("=")
        if name == "weights" and not equals:
            given["weights"] = True
        elif name in AXES and number.isascii() and number.isdigit() and 0 < int(number) <= world:
            given[name] = int(number)
        else:
            raise RequestError(
                f"parallel {text!r}: {part!r} is not AXIS=NUMBER with an axis of "
                f"{', '.join(AXES)} and a number up to the {world} processes, nor weights; "
                "write --parallel ulysses=2,cfg=2"
            )
    layout = ProcessLayout(**given)
    if "ulysses" not in given and world % layout.size == 0:
        layout = replace(layout, ulysses=world // layout.size)
    if layout.size != world:
        raise RequestError(
            f"parallel {text!r} is {layout.size} processes, torchrun started {world}; "
            f"use --nproc-per-node {layout.size} or another product"
        )
    return layout


def plan_layout(text: str | None, world: int, heads: int, videos: int = 1) -> ProcessLayout:
    """The layout that a text asks for; without one, a list is spread and one video split.

    Args:
        heads: attention heads of the transformer. videos: that are to be made.

    Raises:
        RequestError: for a layout that cannot be, naming what fits.
    """
    if world == 1:
        return ProcessLayout()
    if text is None:
        spread = max(n for n in range(1, min(world, max(1, videos)) + 1) if world % n == 0)
        layout = ProcessLayout(videos=spread, ulysses=world // spread)
    else:
        layout = parse_layout(text, world)
    if layout.cfg > 2:
        raise RequestError(f"cfg={layout.cfg}: guidance has two passes; use cfg=2")
    if heads % layout.ulysses:
        fits = [n for n in range(1, heads + 1) if heads % n == 0]
        raise RequestError(
            f"{heads} attention heads do not divide over {layout.ulysses} processes; use one of "
            f"{fits} for ulysses, and cfg=2, ring or videos for the rest"
        )
    if layout.weights and layout.ring * layout.ulysses == 1:
        raise RequestError(
            "weights are kept in parts by processes that share a sequence, and each has its own; "
            "add ulysses=2 or more, or leave weights out"
        )
    return layout


@dataclass(frozen=True)
class _Groups:
    """This process's place: which videos are its own, and whom it makes them with."""

    layout: ProcessLayout
    mesh: Any
    video: Any
    guidance: Any


_groups: list[_Groups] = []  # of this process, once `arrange` has been called


def announced() -> int:
    """Number of processes that torchrun says it starts."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def start() -> None:
    """Join the process group that torchrun announces; nothing on a single process."""
    if announced() > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def stop() -> None:
    """Leave the process group, if any."""
    _groups.clear()
    if dist.is_initialized():
        dist.destroy_process_group()


def arrange(layout: ProcessLayout) -> None:
    """Form the groups of a layout; every process must call it."""
    _groups.clear()
    if not dist.is_initialized():
        return
    kind = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shape = tuple(getattr(layout, axis) for axis in AXES)
    mesh = dist.device_mesh.init_device_mesh(kind, shape, mesh_dim_names=AXES)
    video = mesh["cfg", "ring", "ulysses"]._flatten("video").get_group()
    _groups.append(_Groups(layout, mesh, video, mesh["cfg"].get_group()))


def current_layout() -> ProcessLayout:
    """The layout of this run."""
    return _groups[0].layout if _groups else ProcessLayout()


def _video_group() -> Any:
    return _groups[0].video if _groups else None  # None is all processes


def processes() -> int:
    """Number of processes that torchrun started."""
    return dist.get_world_size() if dist.is_initialized() else 1


def world_size() -> int:
    """Number of processes that make this video together."""
    return dist.get_world_size(_video_group()) if dist.is_initialized() else 1


def video_turn() -> tuple[int, int]:
    """Which of the groups that make videos this process is in, and how many there are."""
    count = current_layout().videos
    return (0, 1) if count == 1 else (dist.get_rank() * count // dist.get_world_size(), count)


def is_main() -> bool:
    """True on the first process of a video, and without a process group."""
    return not dist.is_initialized() or dist.get_rank(_video_group()) == 0


def guidance_place() -> GuidancePlace:
    """Which pass of guidance this process makes."""
    if current_layout().cfg == 1:
        return BOTH
    group = _groups[0].guidance
    return GuidancePlace(dist.get_rank(group), dist.get_world_size(group), group)


def from_main(make: Callable[[], T]) -> T:
    """Call `make` on a video's first process and give the others its result, or its error."""
    if world_size() == 1:
        return make()
    box: list[Any] = [None, None]
    if is_main():
        try:
            box[0] = make()
        except Exception as error:
            box[1] = error
    dist.broadcast_object_list(box, group=_video_group(), group_src=0)
    if box[1] is not None:
        raise box[1]
    return box[0]


def from_all(value: T) -> list[T]:
    """The value of every process that torchrun started, in their order."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def shard(pipe: Any, wanted: ProcessLayout | None = None) -> None:
    """Split a pipeline's transformer over the processes of a layout, Ulysses where none is given.

    Raises:
        RequestError: when the attention heads do not divide.
    """
    if not dist.is_initialized():
        return
    heads = pipe.transformer.config.num_attention_heads
    wanted = wanted or plan_layout(None, dist.get_world_size(), heads)
    arrange(wanted)
    mesh = _groups[0].mesh
    if wanted.ring * wanted.ulysses > 1:
        _split_sequence(pipe.transformer, wanted, mesh)
    if wanted.weights:
        _split_weights(pipe.transformer, mesh["ring", "ulysses"]._flatten("sequence"))


def _split_sequence(transformer: Any, wanted: ProcessLayout, mesh: Any) -> None:
    from diffusers import ContextParallelConfig

    config = ContextParallelConfig(
        ulysses_degree=wanted.ulysses, ring_degree=wanted.ring, mesh=mesh
    )
    # diffusers divides by the number of accelerators, which is 0 on a CPU
    count = max(1, torch.accelerator.device_count())
    with mock.patch.object(torch.accelerator, "device_count", lambda: count):
        transformer.enable_parallelism(config=config)


def _split_weights(transformer: Any, mesh: Any) -> None:
    from torch.distributed.fsdp import fully_shard

    transformer.requires_grad_(False)
    for block in transformer.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(transformer, mesh=mesh, reshard_after_forward=False)


def fit_sequence(transformer: Any, num_tokens: int, fitting: Callable[[int], list[str]]) -> None:
    """Make a split transformer ready for a sequence of this length.

    One that does not divide is split unevenly, which NCCL can.

    Args:
        fitting: options of sizes nearby that divide by a number.

    Raises:
        RequestError: where it does not divide and cannot be split unevenly, naming sizes that fit.
    """
    place = sequence_place(transformer)
    if place.count == 1:
        return
    config = transformer._parallel_config.context_parallel_config
    uneven = num_tokens % place.count != 0
    possible = dist.get_backend(place.group) == "nccl" and 1 in config.mesh_shape
    if uneven and not possible:
        sizes = " or ".join(filter(None, fitting(place.count)))
        raise RequestError(
            f"{num_tokens} tokens do not divide over {place.count} processes; "
            f"use {sizes or 'fewer processes'}, another number of references, or fewer processes"
        )
    config.ulysses_anything = uneven and config.ulysses_degree > 1
    config.ring_anything = uneven and config.ring_degree > 1
