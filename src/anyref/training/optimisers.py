"""Optimisers, their schedule, and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anyref.errors import TrainingError
from anyref.training.recipe import OptimSection

NO_BITSANDBYTES = "optim.name adamw8bit needs bitsandbytes; pip install 'anyref[quantized]'"


def rate_at(step: int, steps: int, options: OptimSection) -> float:
    """Fraction of the peak rate at a step: linear warm-up, the schedule, then the cool-down."""
    rise = min(1.0, (step + 1) / max(1, options.warmup))
    left = max(0.0, (steps - step) / steps)
    if options.schedule == "linear":
        return min(rise, left)
    if options.restart_every is not None:
        phase = (step % options.restart_every) / options.restart_every
        return rise * 0.5 * (1 + math.cos(math.pi * phase))
    fall = left / options.cooldown if options.cooldown else 1.0
    return rise * min(1.0, fall)


def make_optimisers(
    named: Iterable[tuple[str, nn.Parameter]], options: OptimSection
) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the matrices inside blocks and AdamW besides.

    Muon's rate is scaled to AdamW's update size (adjust_lr_fn "match_rms_adamw").

    Raises:
        TrainingError: when the 8-bit optimiser's library is not installed.
    """
    learning = [(name, p) for name, p in named if p.requires_grad]
    use_muon = options.name == "muon"
    matrices = [p for name, p in learning if use_muon and p.ndim == 2 and ".blocks." in f".{name}"]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in learning if id(p) not in chosen]
    shared: dict[str, Any] = {
        "betas": options.betas,
        "eps": options.eps,
        "weight_decay": options.weight_decay,
    }
    if options.name == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError as error:
            raise TrainingError(NO_BITSANDBYTES) from error
        return [AdamW8bit(rest, lr=options.learning_rate, **shared)]
    made: list[torch.optim.Optimizer] = []
    if rest:
        made.append(torch.optim.AdamW(rest, lr=options.learning_rate, foreach=True, **shared))
    if matrices:
        muon = torch.optim.Muon(
            matrices,
            lr=options.muon_rate or options.learning_rate,
            weight_decay=options.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        made.append(muon)
    return made


class Schedule:
    """Sets the rates of optimisers from the step alone, so that a resumed run needs no state."""

    def __init__(
        self, optimisers: Sequence[torch.optim.Optimizer], steps: int, options: OptimSection
    ) -> None:
        self.steps, self.options = steps, options
        self.optimisers = tuple(optimisers)
        self._peaks = [g["lr"] for g in self.groups()]

    def groups(self) -> list[dict[str, Any]]:
        """The groups as they are now: an optimiser that loads a state makes new ones."""
        return [group for optimiser in self.optimisers for group in optimiser.param_groups]

    def set(self, step: int) -> float:
        """Set every group's rate for a step; the first group's."""
        fraction, groups = rate_at(step, self.steps, self.options), self.groups()
        for group, peak in zip(groups, self._peaks, strict=True):
            group["lr"] = peak * fraction
        return float(groups[0]["lr"])


class WeightAverage:
    """Exponential moving average of learning weights, by name; sharded where they are.

    The decay rises to its final value as 1 - (1 + step) ** -0.75, so early weights are forgotten.
    """

    def __init__(self, named: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.named = {name: p for name, p in named.items() if p.requires_grad}
        self.values = {name: p.detach().clone().float() for name, p in self.named.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after step number `step` (from 1)."""
        decay = min(self.decay, 1 - (1 + step) ** -0.75)
        targets = [p.detach().float() for p in self.named.values()]
        torch._foreach_lerp_(list(self.values.values()), targets, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and average; a second call undoes it."""
        for name, parameter in self.named.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.values[name])
            self.values[name].copy_(kept)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name."""
        return dict(self.values)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take averages over."""
        for name, value in self.values.items():
            value.copy_(state[name])
