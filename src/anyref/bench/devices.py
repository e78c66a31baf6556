"""What a device can do at most: from a table for known GPUs, measured for all others."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

import torch

from anyref.pipelines.memory.predict import Speed
from anyref.training.plan import GPUS

PCIE_5 = frozenset({"b200", "h200", "h100", "h100-pcie", "5090"})
TRANSFER_5, TRANSFER_4 = 50e9, 25e9  # bytes per second of 16 lanes, from locked memory
# what diffusers reaches with Wan 14B at 480p: 9.77 s a step on an H100, 30.5 s on a 4090D, whose
# peak is 147 TFLOP/s (LightX2V's README, 2025-12)
CONSUMER = frozenset({"3090", "4090", "5090"})
CONSUMER_UTILISATION, DATACENTRE_UTILISATION = 0.65, 0.35
DISK = 2.5e9  # an NVMe drive, read in a row
SIDE, REPEATS = 1024, 3


@dataclass(frozen=True)
class Device:
    """A device by name. known: its peak is the maker's (dense bfloat16), else a measured one."""

    name: str
    speed: Speed
    known: bool


def gpu_key(name: str) -> str | None:
    """The table's name of a device that CUDA calls "NVIDIA H100 PCIe"; None when it has none."""
    words = set(name.lower().replace("-", " ").split())
    fitting = [key for key in GPUS if set(key.split("-")) <= words]
    return max(fitting, key=len, default=None)


def known_device(key: str) -> Device:
    """A GPU of the table `anyref.training.plan.GPUS`, whether it is here or not."""
    transfer = TRANSFER_5 if key in PCIE_5 else TRANSFER_4
    reached = CONSUMER_UTILISATION if key in CONSUMER else DATACENTRE_UTILISATION
    return Device(key, Speed(GPUS[key].flops, transfer, DISK, reached), known=True)


def device_here(device: str) -> Device:
    """The device of this machine that torch calls so."""
    place = torch.device(device)
    if place.type == "cuda":
        name = torch.cuda.get_device_name(place)
        key = gpu_key(name)
        if key is not None:
            return Device(name, known_device(key).speed, known=True)
        return Device(name, Speed(matmul_rate(device, torch.bfloat16), TRANSFER_4, DISK), False)
    transfer = float("inf") if place.type == "cpu" else TRANSFER_4
    return Device(device, Speed(matmul_rate(device, torch.float32), transfer, DISK), known=False)


@cache
def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Operations per second of a product of square matrices, the best of some."""
    place = torch.device(device)
    left = torch.randn(SIDE, SIDE, device=place).to(dtype)
    best = 0.0
    for _ in range(REPEATS):
        synchronize(place)
        start = time.perf_counter()
        left @ left
        synchronize(place)
        best = max(best, 2 * SIDE**3 / (time.perf_counter() - start))
    return best


def synchronize(device: torch.device) -> None:
    """Wait for what the device has been given; nothing on a CPU."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
