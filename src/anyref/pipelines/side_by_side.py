"""Two passes of a transformer at the same time, each on half of the processor's threads.

The layers of a small transformer are too short to be shared out well: two threads on one pass took
0.78 of its processor time, two passes on a thread each 0.54 (docs/speed.md). Guidance's passes know
nothing of each other, so each can have cores of its own. No sum is added up in another order, and
no bit changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")
Together = Callable[[Sequence[Callable[[], Made]]], list[Made]]


def fits(transformer: Any, x: Tensor) -> bool:
    """Whether two passes may run at once: on a CPU of two threads, through nothing with a memory.

    Automatic precision is a setting of one thread. Hooks of accelerate and diffusers move weights
    or keep what a pass has made, for one pass at a time; compiled code may be compiled anew in the
    middle of another pass.
    """
    if x.device.type != "cpu" or torch.get_num_threads() < 2 or torch.is_autocast_enabled("cpu"):
        return False
    return not any(_remembers(module) for module in transformer.modules())


def _remembers(module: Any) -> bool:
    registry = getattr(module, "_diffusers_hook", None)  # one without hooks does nothing
    hooked = hasattr(module, "_hf_hook") or (registry is not None and registry.hooks)
    return bool(hooked) or module._compiled_call_impl is not None


def in_turn(passes: Sequence[Callable[[], Made]]) -> list[Made]:
    """Run passes one after the other."""
    return [run() for run in passes]


@contextmanager
def side_by_side(*, at_once: bool) -> Iterator[Together]:
    """What runs passes: two of them at a time inside this context, or one after the other.

    Args:
        at_once: every second one runs in another thread, in the same mode of gradients, and both
            threads have half of the threads that PyTorch had before.
    """
    if not at_once:
        yield in_turn
        return
    threads = torch.get_num_threads()
    half = threads // 2
    inference = torch.is_inference_mode_enabled()

    def quietly(work: Callable[[], Made]) -> Made:
        with torch.inference_mode(inference), torch.no_grad():
            return work()

    torch.set_num_threads(half)
    try:
        # the setting is each thread's own
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(half,)) as pool:

            def together(passes: Sequence[Callable[[], Made]]) -> list[Made]:
                others = [pool.submit(quietly, run) for run in passes[1::2]]
                own = [run() for run in passes[::2]]
                waited = [other.result() for other in others]
                return [(own, waited)[i % 2][i // 2] for i in range(len(passes))]

            yield together
    finally:
        torch.set_num_threads(threads)
