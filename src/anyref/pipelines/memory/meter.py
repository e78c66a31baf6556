"""How much a computation would allocate and calculate, run on tensors without numbers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one computation.

    Args:
        peak: most bytes alive at once beside what was there before. flops: multiplications and
            additions.
    """

    peak: float
    flops: float

    def extrapolate(self, deeper: Cost, times: int) -> Cost:
        """The cost with `times` more of what `deeper` has one more of."""
        return Cost(
            peak=self.peak + times * (deeper.peak - self.peak),
            flops=self.flops + times * (deeper.flops - self.flops),
        )


class Meter(TorchDispatchMode):
    """Counts storages from their making to their end, and floating-point operations.

    torch's own FlopCounterMode keeps the graph, and with it checkpointed activations, alive.

    Args:
        known: tensors that do not count, e.g. weights.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = self.flops = 0
        # keeps the storages' Python objects, which later views are recognised by
        self._known = {id(s): s for s in (tensor.untyped_storage() for tensor in known)}
        self._sizes: dict[int, tuple[int, weakref.ref[Any]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        count = _FLOPS.get(func.overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=made)
        for tensor in torch.utils._pytree.tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._track(tensor.untyped_storage())
        return made

    def forget(self, tensor: Tensor) -> None:
        """Stop counting a tensor's storage."""
        self._freed(id(tensor.untyped_storage()))

    def _track(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key not in self._known and key not in self._sizes:
            ref = weakref.ref(storage, lambda _: self._freed(key))
            self._sizes[key] = (storage.nbytes(), ref)
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)

    def _freed(self, key: int) -> None:
        self.live -= self._sizes.pop(key, (0, None))[0]


def measure(run: Callable[[], Any], known: Iterable[Tensor]) -> Cost:
    """The cost of a call, made under `FakeTensorMode`; `known` tensors do not count."""
    with Meter(known) as meter:
        run()
    return Cost(peak=meter.peak, flops=meter.flops)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query.shape, key.shape, value.shape))


def _attention_backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient.shape, query.shape, key.shape, value.shape))


# tensors without numbers lie on the CPU, whose attention torch's table lacks
_FLOPS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
