"""Which attention kernel a transformer runs on: the best that computes the same, or one by name.

"auto" takes the first of these that is there and exact (softmax attention in the model's dtype):
Hopper GPUs Flash 3, cuDNN, Flash 2; Blackwell cuDNN, Flash 2; other NVIDIA GPUs Flash 2; then
PyTorch's own choice, which everything else gets at once. Sage computes scores in 8 bits, so it is
taken only by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
    _check_attention_backend_requirements,
    attention_backend,
)

from anyref.errors import RequestError

BACKENDS: Mapping[str, str] = {
    "native": "native",
    "flash3": "_flash_3",
    "cudnn": "_native_cudnn",
    "flash": "flash",
    "torch-flash": "_native_flash",
    "efficient": "_native_efficient",
    "math": "_native_math",
    "flex": "flex",
    "xformers": "xformers",
    "sage": "sage",
}
ON_ANY_DEVICE = ("native", "math", "flex")
HALF = (torch.bfloat16, torch.float16)


def choose(device: torch.device, dtype: torch.dtype, *, split: bool, ring: bool) -> str:
    """The best exact kernel for a transformer's dtype on a device.

    Args:
        split: its sequence is shared by processes. ring: by a ring of them, which needs a kernel
            that gives the sums of its weights.
    """
    if device.type != "cuda" or dtype not in HALF:
        return "native"
    major = torch.cuda.get_device_capability(device)[0]
    wanted = {9: ("flash3", "cudnn", "flash"), 10: ("cudnn", "flash"), 12: ("cudnn", "flash")}
    order = (*wanted.get(major, ("flash",)), "torch-flash" if ring else "native")
    return next(name for name in order if _fault(name, device, dtype, split, ring) is None)


def _fault(
    name: str, device: torch.device, dtype: torch.dtype, split: bool, ring: bool
) -> str | None:
    """Why a kernel cannot be used, or None."""
    backend = AttentionBackendName(BACKENDS[name])
    shares = _AttentionBackendRegistry._is_context_parallel_available(backend)
    anywhere = name in ON_ANY_DEVICE
    faults = {
        f"it runs on NVIDIA GPUs, not on {device.type!r}": not anywhere and device.type != "cuda",
        f"it computes in bfloat16 or float16, the model is {dtype}": (
            not anywhere and name not in ("efficient", "xformers") and dtype not in HALF
        ),
        "it cannot share a sequence between processes": split and not shares,
        "it cannot go round a ring": ring and name == "native" and device.type != "cpu",
        "this PyTorch has no cuDNN": name == "cudnn" and not torch.backends.cudnn.is_available(),
    }
    known = next((fault for fault, there in faults.items() if there), None)
    if known is not None:
        return known
    try:
        _check_attention_backend_requirements(backend)
    except RuntimeError as error:
        return str(error)
    return None


def use(
    transformer: Any, name: str, device: torch.device, *, split: bool = False, ring: bool = False
) -> None:
    """Set a transformer's attention kernel.

    Args:
        name: of BACKENDS. device: where the transformer runs. split, ring: see `choose`.

    Raises:
        RequestError: for a kernel that cannot be used here.
    """
    fault = _fault(name, device, transformer.dtype, split, ring)
    if fault is not None:
        raise RequestError(
            f"attention {name!r} cannot be used: {fault}; leave it out or use native"
        )
    set_kernel(transformer, BACKENDS[name])


def set_kernel(transformer: Any, backend: str) -> None:
    """Set a transformer's attention kernel, and no other's: diffusers keeps it for all models.

    Args:
        backend: diffusers' name.

    Raises:
        ValueError, RuntimeError, ImportError: of diffusers, for a kernel that cannot be used.
    """
    of_all, _ = _AttentionBackendRegistry.get_active_backend()
    with attention_backend(of_all):  # whose end brings it back
        transformer.set_attention_backend(backend)
