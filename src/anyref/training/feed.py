"""Which examples a step trains on: a function of the recipe and the step, on any process count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod

from anyref.data.index import BatchOrder, IndexEntry, ShardIndex
from anyref.errors import AnyRefError, TrainingError
from anyref.pipelines.base import AnyRefPipeline
from anyref.training.cache import CacheError
from anyref.training.examples import Example, Preparer, clip_shape, sample_key
from anyref.training.recipe import Recipe

MAX_SUBSTITUTES = 20


@dataclass(frozen=True)
class Skipped:
    """A record that could not be used."""

    key: str
    shard: str
    reason: str


@dataclass(frozen=True)
class _Stage:
    first: int  # step
    frames: int | None
    batch: int
    order: BatchOrder


class Feed:
    """Examples by step, read ahead.

    Args:
        rank, world: this process takes every `world`-th part of each global batch.
        on_skip: told of each record that cannot be used, once.

    Raises:
        TrainingError: when no bucket fills a batch, or a batch does not divide over the processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        pipe: AnyRefPipeline,
        preparer: Preparer,
        index: ShardIndex,
        *,
        rank: int = 0,
        world: int = 1,
        on_skip: Callable[[Skipped], None],
    ) -> None:
        self.recipe, self.index, self.preparer = recipe, index, preparer
        self.rank, self.world, self.on_skip = rank, world, on_skip
        self.skipped: dict[int, Skipped] = {}
        self._contents: dict[int, str] = {}
        self._buckets = _alike(index.entries)
        self._neighbours = {i: bucket for bucket in self._buckets for i in bucket}
        self._stages = self._plan_stages(pipe)
        self._pool = ThreadPoolExecutor(max(1, recipe.data.workers))
        self._ahead: dict[int, list[Future[Example]]] = {}

    def _plan_stages(self, pipe: AnyRefPipeline) -> list[_Stage]:
        starts = [0]
        for stage in (self.recipe.stages or ())[:-1]:
            starts.append(starts[-1] + stage.steps)
        planned = []
        for number, first in enumerate(starts):
            frames = self.recipe.frames_at(first)
            batch = self.recipe.batch or self._fitting(pipe, frames)
            if batch % (self.world * self.recipe.engine.accumulation):
                raise TrainingError(
                    f"a batch of {batch} does not divide over {self.world} processes and "
                    f"{self.recipe.engine.accumulation} micro-steps; choose batch or tokens so"
                )
            order = BatchOrder(self._buckets, batch, self.recipe.seed * 1009 + number)
            planned.append(_Stage(first, frames, batch, order))
        return planned

    def _fitting(self, pipe: AnyRefPipeline, frames: int | None) -> int:
        """Samples of the largest clip that come to `recipe.tokens`."""
        tokens = 0
        for width, height, count in {entry.bucket for entry in self.index.entries}:
            cells = pipe.rules.latent(clip_shape(self.recipe.data, (count, height, width)))
            kept = min(frames or cells.num_frames, cells.num_frames)
            grid = (kept, cells.height, cells.width)
            tokens = max(tokens, prod(n // p for n, p in zip(grid, pipe.rules.patch, strict=True)))
        step = self.world * self.recipe.engine.accumulation
        return max(step, (self.recipe.tokens or 0) // tokens // step * step)

    @property
    def unused(self) -> int:
        """Samples whose bucket never fills a batch."""
        return max(stage.order.num_unreachable for stage in self._stages)

    def _stage(self, step: int) -> _Stage:
        return [stage for stage in self._stages if stage.first <= step][-1]

    def frames(self, step: int) -> int | None:
        """Latent frames of each clip at a step; None for all."""
        return self._stage(step).frames

    def batch_size(self, step: int) -> int:
        """Samples of the global batch at a step."""
        return self._stage(step).batch

    def keys(self, step: int) -> tuple[str, ...]:
        """Ids of the global batch of a step, on every process."""
        stage = self._stage(step)
        return tuple(self.index.entries[i].key for i in stage.order.batch(step - stage.first))

    def examples(self, step: int) -> list[tuple[int, Example]]:
        """This process's part of a step: position in the global batch, and example.

        Raises:
            TrainingError: when too many records in a row cannot be used.
        """
        futures = self._ahead.pop(step, None) or self._submit(step)
        if step + 1 < self.recipe.steps and step + 1 not in self._ahead:
            self._ahead[step + 1] = self._submit(step + 1)
        local = range(self.rank * len(futures), (self.rank + 1) * len(futures))
        return [(position, f.result()) for position, f in zip(local, futures, strict=True)]

    def _submit(self, step: int) -> list[Future[Example]]:
        stage = self._stage(step)
        n = step - stage.first
        share = stage.batch // self.world
        picks = stage.order.batch(n)[self.rank * share : (self.rank + 1) * share]
        turn = stage.order.epoch(n) + self._stages.index(stage)
        return [self._pool.submit(self._example, i, turn) for i in picks]

    def _example(self, number: int, turn: int) -> Example:
        """The example of a sample, or of the next one like it that can be used.

        A record may fail in one draw only, so each is tried anew: a resumed run must do the same.
        """
        alike, reason = self._neighbours[number], ""
        at = alike.index(number)
        for k in range(MAX_SUBSTITUTES):
            chosen = alike[(at + k) % len(alike)]
            try:
                return self._prepare(chosen, turn)
            except CacheError:
                raise
            except AnyRefError as error:
                entry, reason = self.index.entries[chosen], str(error)
                skipped = Skipped(entry.key, entry.shard, reason)
                if self.skipped.setdefault(chosen, skipped) is skipped:
                    self.on_skip(skipped)
        raise TrainingError(
            f"{MAX_SUBSTITUTES} records in a row cannot be used, the last: {reason}; "
            "check the shards"
        )

    def _prepare(self, number: int, turn: int) -> Example:
        variants = self.recipe.data.variants
        draw = turn if variants is None else turn % variants
        seed = f"{self.recipe.seed}/{self.index.entries[number].key}/{draw}"
        packed = None
        if number not in self._contents:
            packed = self.index.read(number)
            self._contents[number] = sample_key(packed)
        key = self.preparer.key(self._contents[number], seed)
        found = self.preparer.cached(key)
        if found is not None:
            return found
        return self.preparer.prepare(packed or self.index.read(number), seed, key)

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(cancel_futures=True)


def _alike(entries: Sequence[IndexEntry]) -> list[tuple[int, ...]]:
    """Sample numbers grouped by size and number of references: most will share a batch."""
    groups: dict[object, list[int]] = {}
    for i, entry in enumerate(entries):
        groups.setdefault((entry.bucket, entry.num_references), []).append(i)
    return [tuple(groups[key]) for key in sorted(groups)]  # type: ignore[type-var]
