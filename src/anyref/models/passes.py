"""What a pass of a transformer is given beside its arguments, and what a video keeps between.

Axes: B batch, L text tokens, H heads, D channels of a head.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from anyref.models.strength import KeyBias

Pair = tuple[Tensor, Tensor]  # keys and values (B, L, H, D)


@dataclass(eq=False)
class Memory:
    """What stays the same over the steps of one video.

    Args:
        pairs: keys and values of the context, of the image before the text, by branch and block.
        outputs: of modules whose input stays the same, with that input.
        first: step, and the first block's self-attention in it, which knows nothing of the text.
        turn: of passes that run at once, to compute `first` or to find it.
    """

    pairs: dict[tuple[str, int], tuple[Pair, ...]] = field(default_factory=dict)
    outputs: dict[Hashable, tuple[Any, Any]] = field(default_factory=dict)
    first: tuple[int, Tensor] | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)

    def forget(self, branch: str) -> None:
        """Drop what was kept of a branch's text."""
        for key in [key for key in self.pairs if key[0] == branch]:
            del self.pairs[key]


@dataclass(eq=False)
class AttentionPass:
    """What the attention of one pass of the transformer is given.

    Args:
        bias: of references with a strength.
        memory: of the video; None remembers nothing.
        branch: of guidance. step: counted from 0.
        kernels: compute by `cpu_kernels` where they apply.
        without: number of a reference with a strength that this pass does not see.
    """

    bias: KeyBias | None = None
    memory: Memory | None = None
    branch: str = "cond"
    step: int = 0
    kernels: bool = False
    without: int | None = None


class CurrentPass(threading.local):
    """The pass that this thread runs."""

    run: AttentionPass | None = None

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return CurrentPass, ()  # a copied transformer runs no pass


def running(current: CurrentPass) -> AttentionPass | None:
    """The pass that this thread runs; none in code that is being compiled: that stays stock.

    Compiled code would be compiled anew for every step and block otherwise.
    """
    return None if torch.compiler.is_compiling() else current.run
