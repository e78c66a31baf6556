"""What people look at while a run goes on, and the files that say what it was.

recipe.yaml    every field, defaults too         run.json       versions, seeds, data
metrics.jsonl  one row per logged step           skipped.jsonl  records and steps left out
tensorboard/   curves, samples                   samples/       videos beside references
"""

from __future__ import annotations

import json
import math
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from anyref import __version__
from anyref.errors import TrainingError
from anyref.media import frame_sheet, save_picture, write_atomically, write_video
from anyref.training.recipe import Recipe

SIGMA_BUCKETS = 5  # noise levels 0 to 1, in equal parts
METRICS, SKIPPED, RECIPE, RUN = "metrics.jsonl", "skipped.jsonl", "recipe.yaml", "run.json"


class Monitor:
    """Rows, curves, samples and one line of progress; silent on all processes but the first.

    Args:
        step: where the run starts; rows of later steps, left by a kill, are dropped.
    """

    def __init__(self, recipe: Recipe, step: int, is_main: bool, about: Mapping[str, Any]) -> None:
        self.recipe, self.is_main = recipe, is_main
        self.folder = recipe.run_folder
        self.console = Console(quiet=not is_main)
        self._losses: list[float] = []
        self._norms: list[float] = []
        self._seconds: dict[str, float] = {}
        self._by_sigma = torch.zeros(2, SIGMA_BUCKETS)
        self._since, self._clips = time.monotonic(), 0
        self._first, self._start = step, time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not is_main:
            return
        _write(self.folder / RECIPE, recipe.to_yaml())
        _write(self.folder / RUN, json.dumps(_versions() | dict(about), indent=1))
        keep = [row for row in read_rows(self.folder / METRICS) if row["step"] <= step]
        _write(self.folder / METRICS, "".join(json.dumps(row) + "\n" for row in keep))
        self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1)

    def add_seconds(self, part: str, seconds: float) -> None:
        """Count time spent on a part of the loop: data, model, checkpoint, look."""
        self._seconds[part] = self._seconds.get(part, 0.0) + seconds

    def add_step(
        self, loss: float, norm: float, clips: int, sigmas: Tensor, losses: Tensor
    ) -> None:
        """Count a step.

        Args:
            loss, norm: of the global batch. clips: in it.
            sigmas, losses: (B,) of this process's clips.
        """
        self._losses.append(loss)
        self._norms.append(norm)
        self._clips += clips
        part = (sigmas * SIGMA_BUCKETS).long().clamp(0, SIGMA_BUCKETS - 1).cpu()
        self._by_sigma[0].index_add_(0, part, losses.detach().float().cpu())
        self._by_sigma[1].index_add_(0, part, torch.ones(len(part)))

    def log(self, step: int, rate: float, extra: Mapping[str, float]) -> None:
        """Write and show what was counted since the last call."""
        now = time.monotonic()
        total = now - self._since
        row: dict[str, Any] = {
            "step": step,
            "loss": sum(self._losses) / len(self._losses),
            "losses": self._losses,
            "gradient_norm": sum(self._norms) / len(self._norms),
            "learning_rate": rate,
            "clips_per_second": self._clips / total,
            "seconds": {k: round(v, 4) for k, v in self._seconds.items()} | {"all": total},
            "memory_mb": memory_mb(),
            **extra,
        }
        means = (self._by_sigma[0] / self._by_sigma[1]).tolist()
        row["loss_by_sigma"] = [None if math.isnan(m) else m for m in means]
        self._losses, self._norms, self._seconds, self._clips = [], [], {}, 0
        self._by_sigma.zero_()
        self._since = now
        if not self.is_main:
            return
        self._append(METRICS, row)
        self._curves(step, row)
        left = (now - self._start) / max(1, step - self._first) * (self.recipe.steps - step)
        self.console.print(
            f"step {step}/{self.recipe.steps}  loss {row['loss']:.4f}  "
            f"gradient {row['gradient_norm']:.2f}  rate {rate:.2e}  "
            f"{row['clips_per_second']:.1f} clips/s  {row['memory_mb']:.0f} MB  "
            f"left {_clock(left)}",
            highlight=False,
        )

    def _curves(self, step: int, row: Mapping[str, Any]) -> None:
        for name in ("loss", "gradient_norm", "learning_rate", "clips_per_second", "memory_mb"):
            self.writer.add_scalar(f"training/{name}", row[name], step)
        for k, value in enumerate(row["loss_by_sigma"]):
            if value is not None:
                low, high = k / SIGMA_BUCKETS, (k + 1) / SIGMA_BUCKETS
                self.writer.add_scalar(f"loss_by_noise/{low:.1f}_to_{high:.1f}", value, step)

    def validation(self, step: int, losses: Mapping[float, float]) -> None:
        """Losses on held-out clips at fixed noise levels."""
        if not self.is_main:
            return
        mean = sum(losses.values()) / len(losses)
        self._append(METRICS, {"step": step, "validation": mean, "by_sigma": dict(losses)})
        self.writer.add_scalar("validation/loss", mean, step)
        for sigma, value in losses.items():
            self.writer.add_scalar(f"validation/at_{sigma:.1f}", value, step)
        self.console.print(f"step {step}  validation loss {mean:.4f}", highlight=False)

    def sample(
        self, step: int, number: int, frames: np.ndarray, fps: float, pictures: list[Image.Image],
        prompt: str,
    ) -> None:  # fmt: skip
        """A video beside its references: MP4, a sheet, and the sheet in TensorBoard."""
        if not self.is_main:
            return
        folder = self.folder / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"step-{step:08d}-{number}"
        write_video(stem.with_suffix(".mp4"), frames, fps, {"prompt": prompt})
        sheet = frame_sheet(frames, pictures, prompt)
        save_picture(stem.with_suffix(".png"), sheet)
        self.writer.add_image(f"samples/{number}", np.asarray(sheet), step, dataformats="HWC")

    def skipped(self, **row: Any) -> None:
        """A record, of this process's part, or a step, of all, that was left out, and why."""
        if self.is_main or "record" in row:
            self._append(SKIPPED, row)
        words = "  ".join(f"{name} {value}" for name, value in row.items())
        self.console.print(f"[yellow]left out:[/] {words}", highlight=False)

    def say(self, text: str) -> None:
        """One line for the user."""
        self.console.print(text, highlight=False)

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        try:
            with (self.folder / name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise TrainingError(
                f"{str(self.folder / name)!r} cannot be written: {error}; make room and start again"
            ) from error

    def close(self) -> None:
        """Flush TensorBoard."""
        if self.is_main:
            self.writer.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file; a line cut short by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def memory_mb() -> float:
    """Peak memory of this process: the accelerator's where there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _versions() -> dict[str, str]:
    return {
        "anyref": __version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": sys.version.split()[0],
        "machine": platform.platform(),
    }


def _commit() -> str:
    """The commit of a source tree, with a + where files differ; empty for an installed package."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
