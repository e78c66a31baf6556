"""Steps that reuse what earlier steps computed: diffusers' caches, so that they hold here.

    first-block   the blocks behind the first run only when the first one's change to its input has
                  itself changed by more than a threshold since they last ran (FirstBlockCache)
    taylorseer    every n-th step is computed, those between are extrapolated from the last two that
                  were (TaylorSeer, arXiv 2503.06923, of order 1, on the output layer)

The first fifth of the steps and the last one are always computed: what is wrong early stays.

diffusers' hooks decide on what they see. Where the sequence is split over processes that is a part
of it, so processes could decide differently and wait for each other for ever; and its hook around
the first block sees the whole sequence go in and a part come out. Here the cache goes inside the
split, and the decision is made on the whole sequence, added up in one order whatever the split.

Axes: B batch, N tokens of the sequence, n of them on this process, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import FirstBlockCacheConfig, TaylorSeerCacheConfig
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.hooks.context_parallel import apply_context_parallel, remove_context_parallel
from diffusers.hooks.first_block_cache import _FBC_LEADER_BLOCK_HOOK, FBCHeadBlockHook
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from torch import Tensor

from anyref.errors import RequestError
from anyref.models.sequence import SequencePlace, sequence_place

Kind = Literal["first-block", "taylorseer"]
DEFAULT_LEVELS: dict[str, float] = {"first-block": 0.1, "taylorseer": 2.0}
LEVELS = {"first-block": (0.001, 1.0), "taylorseer": (2.0, 10.0)}
LEVEL_WORDS = {"first-block": "a threshold", "taylorseer": "a whole number of steps"}
WARM_UP = 0.2  # share of the steps that are computed before the first is left out


@dataclass(frozen=True)
class StepCache:
    """Which cache, and how far it goes.

    Args:
        level: first-block: threshold, a share of the first block's change, 0.001 to 1; taylorseer:
            of how many steps one is computed, 2 to 10.
    """

    kind: Kind
    level: float

    @classmethod
    def parse(cls, text: str | None) -> StepCache | None:
        """Read "none", "first-block", "taylorseer", either with ":LEVEL"; None reads as none.

        Raises:
            RequestError: for anything else.
        """
        if text is None or text == "none":
            return None
        name, colon, number = text.partition(":")
        if name not in DEFAULT_LEVELS:
            raise RequestError(
                f"step_cache {text!r} is not known; use none, first-block[:THRESHOLD] or "
                "taylorseer[:INTERVAL]"
            )
        try:
            level = float(number) if colon else DEFAULT_LEVELS[name]
        except ValueError:
            level = math.nan
        low, high = LEVELS[name]
        if not low <= level <= high or (name == "taylorseer" and not level.is_integer()):
            raise RequestError(
                f"step_cache {text!r}: {name} takes {LEVEL_WORDS[name]} from {low:g} to {high:g}; "
                f"write {name}:{DEFAULT_LEVELS[name]:g}"
            )
        return cls(name, level)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"{self.kind}:{self.level:g}"


@contextmanager
def skipping(transformer: Any, cache: StepCache | None, num_steps: int) -> Iterator[None]:
    """One video's steps, with a cache that knows nothing of other videos.

    Args:
        num_steps: of the video.

    Raises:
        RequestError: when the transformer has a cache already.
    """
    if cache is None:
        yield
        return
    if transformer.is_cache_enabled:
        raise RequestError(
            f"step_cache {cache} cannot act: the transformer has a cache of its own; call "
            "transformer.disable_cache() before, or leave step_cache out"
        )
    _register_blocks(transformer)
    if cache.kind == "first-block":
        _enable_first_block(transformer, cache.level)
    else:
        _enable_taylorseer(transformer, int(cache.level), num_steps)
    try:
        yield
    finally:
        transformer.disable_cache()


def _register_blocks(transformer: Any) -> None:
    """Make blocks of derived classes (as fully_shard makes them) known to diffusers' hooks."""
    for kind in {type(block) for block in transformer.blocks} - {WanTransformerBlock}:
        TransformerBlockRegistry.register(
            kind,
            TransformerBlockMetadata(
                return_hidden_states_index=0, return_encoder_hidden_states_index=None
            ),
        )


def _enable_taylorseer(transformer: Any, interval: int, num_steps: int) -> None:
    transformer.enable_cache(
        TaylorSeerCacheConfig(
            cache_interval=interval,
            disable_cache_before_step=_warm_up(num_steps),
            disable_cache_after_step=num_steps - 1,
            max_order=1,
            taylor_factors_dtype=torch.float32,
            use_lite_mode=True,
        )
    )


def _warm_up(num_steps: int) -> int:
    return max(2, round(WARM_UP * num_steps))


def _enable_first_block(transformer: Any, threshold: float) -> None:
    split = getattr(transformer, "_parallel_config", None)
    plan = {name: part for name, part in (transformer._cp_plan or {}).items() if name == "blocks.0"}
    if split is not None:
        remove_context_parallel(transformer, plan)
    transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    if split is not None:
        apply_context_parallel(transformer, split.context_parallel_config, plan)
    leader = transformer.blocks[0]._diffusers_hook.get_hook(_FBC_LEADER_BLOCK_HOOK)
    leader.__class__ = _Leader
    leader.place = sequence_place(transformer)


class _Leader(FBCHeadBlockHook):
    """The first block's hook, which decides on the whole sequence."""

    place: SequencePlace

    @torch.compiler.disable
    def _should_compute_remaining_blocks(self, hidden_states_residual: Tensor) -> bool:
        before = self.state_manager.get_state().head_block_residual
        if before is None or self._always(self.state_manager.context):
            return True
        changed = self._mean(hidden_states_residual - before)
        return changed > self.threshold * self._mean(before)

    def _always(self, context: Any) -> bool:
        """True in the steps that are never left out."""
        last = context.num_inference_steps - 1
        return context.step_index in range(_warm_up(last + 1)) or context.step_index == last

    def _mean(self, x: Tensor) -> float:
        """Mean absolute value of x (B, n, D) over all processes, the same bits on each."""
        rows = x.abs().mean(dim=2, dtype=torch.float32)  # (B, n)
        total = self.place.total(rows.shape[1], rows.device)
        return float(self.place.whole(rows, total).cpu().double().mean())
