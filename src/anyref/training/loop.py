"""One training loop for the codec and the transformers: EMA, resume, a loss curve.

Every step's randomness comes from a generator seeded by (seed, step), so a resumed run draws what
an unbroken one would have drawn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from PIL import Image, ImageDraw
from torch import Tensor, nn

from anyref.errors import TrainingError
from anyref.media import save_picture
from anyref.training.state import append_metrics, load_state, read_metrics, save_state

STATE_FILE = "state.pt"
METRICS_FILE = "loss.jsonl"
SEED_STRIDE = 1_000_003


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long and how fast.

    Args:
        steps: of the whole run; the learning rate falls to zero over the last `cooldown` of them.
        minutes: stop (and save) after this much wall-clock time, whatever the step.
        learning_rate: of AdamW; matrices inside blocks use Muon at `muon_rate`.
        save_every, log_every: in steps.
    """

    steps: int
    minutes: float = 100.0
    learning_rate: float = 1e-3
    muon_rate: float = 0.0
    warmup: int = 100
    cooldown: float = 0.25
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    save_every: int = 500
    log_every: int = 25
    seed: int = 0


def rate_at(step: int, settings: Settings) -> float:
    """Fraction of the peak learning rate: linear warm-up, constant, linear fall to zero."""
    rise = min(1.0, (step + 1) / max(1, settings.warmup))
    left = (settings.steps - step) / max(1.0, settings.cooldown * settings.steps)
    return rise * min(1.0, max(0.0, left))


def make_optimizers(model: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the matrices inside transformer blocks and AdamW besides.

    Muon's rate is scaled to AdamW's update size (adjust_lr_fn "match_rms_adamw").
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    hidden = [p for n, p in named if settings.muon_rate and p.ndim == 2 and ".blocks." in f".{n}"]
    chosen = {id(p) for p in hidden}
    other = [p for _, p in named if id(p) not in chosen]
    adamw = torch.optim.AdamW(
        other,
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=settings.weight_decay,
        foreach=True,
    )
    if not hidden:
        return [adamw]
    muon = torch.optim.Muon(
        hidden,
        lr=settings.muon_rate,
        weight_decay=settings.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [adamw, muon]


class Run:
    """A model, its optimisers, its average and where they are kept."""

    def __init__(self, model: nn.Module, settings: Settings, folder: Path) -> None:
        self.model, self.settings, self.folder = model, settings, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.optimizers = make_optimizers(model, settings)
        self.peaks = [group["lr"] for o in self.optimizers for group in o.param_groups]
        self.average = EMAModel(
            list(model.parameters()), decay=settings.ema_decay, use_ema_warmup=True, power=0.75
        )
        self.step = 0
        self._resume()

    def fit(
        self,
        loss_of: Callable[[int, torch.Generator], Tensor],
        on_save: Callable[[Run], None] | None = None,
        on_log: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        """Train until the steps or the minutes are over, saving on the way and at the end.

        Args:
            loss_of: the loss (scalar tensor) of a step, drawing from the generator only.

        Raises:
            TrainingError: when the loss stops being a number.
        """
        start, logged, losses = time.monotonic(), time.monotonic(), []
        first = self.step
        while self.step < self.settings.steps:
            losses.append(self._advance(loss_of))
            if self.step % self.settings.log_every == 0:
                now = time.monotonic()
                row = {
                    "step": self.step,
                    "loss": sum(losses) / len(losses),
                    "seconds_per_step": (now - logged) / len(losses),
                }
                append_metrics(self.folder / METRICS_FILE, row)
                logged, losses = now, []
                if on_log is not None:
                    on_log(row)
            out_of_time = time.monotonic() - start > 60 * self.settings.minutes
            if self.step % self.settings.save_every == 0 or out_of_time:
                self.save(on_save)
            if out_of_time:
                return
        if self.step > first:
            self.save(on_save)

    def _advance(self, loss_of: Callable[[int, torch.Generator], Tensor]) -> float:
        generator = torch.Generator().manual_seed(self.settings.seed * SEED_STRIDE + self.step)
        fraction = rate_at(self.step, self.settings)
        groups = (group for o in self.optimizers for group in o.param_groups)
        for group, peak in zip(groups, self.peaks, strict=True):
            group["lr"] = peak * fraction
        loss = loss_of(self.step, generator)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss at step {self.step} is {loss.item()}; lower the learning rate and "
                f"resume from {self.folder}"
            )
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.average.step(self.model.parameters())
        self.step += 1
        return loss.item()

    def save(self, on_save: Callable[[Run], None] | None = None) -> None:
        """Write the resume state and the loss curve; `on_save` then sees the averaged weights."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
        }
        save_state(self.folder / STATE_FILE, state)
        save_picture(self.folder / "loss.png", draw_curve(read_metrics(self.folder / METRICS_FILE)))
        if on_save is not None:
            self.average.store(self.model.parameters())
            self.average.copy_to(self.model.parameters())
            on_save(self)
            self.average.restore(self.model.parameters())

    def _resume(self) -> None:
        state = load_state(self.folder / STATE_FILE)
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = state["step"]


def load_average(model: nn.Module, folder: Path) -> int:
    """Give a model the averaged weights of a run; returns the run's step.

    Raises:
        TrainingError: when the folder holds no state.
    """
    state = load_state(folder / STATE_FILE)
    if state is None:
        raise TrainingError(f"no training state in {str(folder)!r}; train first")
    model.load_state_dict(state["model"])
    average = EMAModel(list(model.parameters()))
    average.load_state_dict(state["average"])
    average.copy_to(model.parameters())
    return int(state["step"])


def draw_curve(
    rows: Iterable[dict[str, Any]], width: int = 640, height: int = 320, window: int = 20
) -> Image.Image:
    """A loss curve: steps to the right, loss up, each point the mean of up to `window` rows."""
    points = [(row["step"], row["loss"]) for row in rows]
    picture = Image.new("RGB", (width, height), "white")
    if len(points) < 2:
        return picture
    values = [value for _, value in points]
    smooth = [
        sum(part := values[max(0, i - window + 1) : i + 1]) / len(part) for i in range(len(values))
    ]
    low, high, last = min(smooth), max(smooth), points[-1][0]
    scale = (height - 40) / (high - low + 1e-9)
    line = [
        (20 + (width - 40) * step / last, height - 20 - (value - low) * scale)
        for (step, _), value in zip(points, smooth, strict=True)
    ]
    draw = ImageDraw.Draw(picture)
    draw.line(line, fill=(30, 90, 200), width=2)
    draw.text((24, 4), f"loss {high:.3f} to {low:.3f}, last {smooth[-1]:.3f}", fill="black")
    draw.text((24, height - 16), f"step 0 to {last}", fill="black")
    return picture
