"""The most memory that stages took: on a GPU by PyTorch's allocator, on a CPU by Linux."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peaks:
    """Peaks of stages, one after another; a machine that cannot tell has none.

    On a CPU it is the process's resident memory, on a GPU what PyTorch allocated there.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: dict[str, int] = {}
        self._stage: str | None = None
        self.start = self._now("VmRSS")

    def begin(self, stage: str) -> None:
        """A stage begins, the one before it ends."""
        self.end()
        self._stage = stage
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif CLEAR.exists():
            CLEAR.write_text("5")  # resets VmHWM, see proc_pid_clear_refs(5)

    def end(self) -> None:
        """The stage that was begun last ends."""
        if self._stage is not None:
            peak = self._now("VmHWM")
            if peak is not None:
                self.bytes[self._stage] = max(peak, self.bytes.get(self._stage, 0))
        self._stage = None

    def above(self, own: float) -> dict[str, float]:
        """Peaks as if nothing but `own` bytes had been there at the start."""
        return {name: peak - (self.start or 0) + own for name, peak in self.bytes.items()}

    def _now(self, name: str) -> int | None:
        if self.device.type == "cuda":
            if name == "VmRSS":
                return torch.cuda.memory_allocated(self.device)
            return torch.cuda.max_memory_allocated(self.device)
        if not CLEAR.exists():
            return None
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        return next((int(x.split()[1]) * 1024 for x in lines if x.startswith(name + ":")), None)


def resident(pipe: Any, device: torch.device) -> float:
    """Bytes of a pipeline's weights that lie on a device now."""
    seen: dict[int, int] = {}
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            for tensor in (*part.parameters(), *part.buffers()):
                if tensor.device.type == device.type:
                    seen[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
    return float(sum(seen.values()))
