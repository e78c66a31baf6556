"""Encodings that a pipeline has made and need not make again: texts, canvases, references.

They are kept between videos, so that a list of requests encodes its shared negative prompt and
every repeated picture once.
"""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

CAPACITY = 64  # values; a canvas of 480x832x81 takes 5 MB in bfloat16, a text 4 MB


class Encodings:
    """The latest values by what they were made from.

    A value counts only while the module that made it is the same and no weight of it was written
    to since. Nothing is kept or found where gradients or autocast are on: in training.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._values: OrderedDict[Hashable, tuple[weakref.ref[nn.Module], int, Tensor]]
        self._values, self._lock = OrderedDict(), Lock()

    def get(self, module: nn.Module, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """The value of `key`, made by `make` with `module` unless it is known; not to be changed.

        Args:
            key: everything that the value depends on beside the module's weights.
        """
        if torch.is_grad_enabled() or any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
            return make()
        version = _version(module)
        with self._lock:
            known = self._values.get(key)
            if known is not None and known[0]() is module and known[1] == version:
                self._values.move_to_end(key)
                return known[2]
        value = make()
        with self._lock:
            self._values[key] = (weakref.ref(module), version, value)
            self._values.move_to_end(key)
            while len(self._values) > self.capacity:
                self._values.popitem(last=False)
        return value

    def clear(self) -> None:
        """Forget all values."""
        with self._lock:
            self._values.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> Encodings:
        return Encodings(self.capacity)


def _version(module: nn.Module) -> int:
    """A number that grows with every change of the module's weights in place."""
    return sum(0 if p.is_inference() else p._version for p in module.parameters())


def picture_key(picture: Image.Image) -> Hashable:
    """Mode, size and a hash of a picture's pixels."""
    return picture.mode, picture.size, hashlib.sha256(picture.tobytes()).digest()
