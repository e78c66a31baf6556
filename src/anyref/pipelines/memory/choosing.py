"""Which way to hold a model a budget allows: the exact and fast ones first."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from anyref.errors import ModelError
from anyref.pipelines.memory.plan import NAMES, Placement, Plan
from anyref.pipelines.memory.predict import GIB, Costs, Prediction, predict
from anyref.pipelines.memory.sizes import ModelSizes

# what saves memory wherever weights wait: (keeps, tiled), the cheaper first
SAVINGS = ((True, False), (False, False), (True, True), (False, True))
ASKED = "auto, a budget like 12GB, or a plan's name"


@dataclass(frozen=True)
class Machine:
    """Where a video will be made.

    Args:
        device: "cpu", "cuda:0" ... memory: bytes that may be used there.
        host: bytes of main memory; None when that is not known.
    """

    device: str
    memory: float
    host: float | None = None

    @property
    def accelerated(self) -> bool:
        """True when weights can wait in another memory than they work in."""
        return torch.device(self.device).type != "cpu"


def this_machine(device: str) -> Machine:
    """The machine that runs this, all that is free of a device's memory allowed."""
    pages = "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {})
    host = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) if pages else None
    kind = torch.device(device).type
    if kind == "cuda":
        return Machine(device, float(torch.cuda.mem_get_info(torch.device(device))[0]), host)
    return Machine(device, host if host is not None else float("inf"), host)


def check_asked(asked: str) -> None:
    """Raise ModelError for a word that is neither a budget nor known."""
    with_budget(Machine("cpu", 0.0), asked)


def with_budget(machine: Machine, asked: str) -> Machine:
    """The machine with the budget of "12GB" in place of what it has; as it is for other words.

    Raises:
        ModelError: for a word that is neither a budget nor known.
    """
    match = re.fullmatch(r"([0-9]{1,4}(?:\.[0-9]+)?)\s*(?:GB|GiB|G)?", asked, re.IGNORECASE)
    if match and float(match[1]) > 0:
        return replace(machine, memory=float(match[1]) * GIB)
    if asked not in ("auto", *NAMES):
        raise ModelError(f"memory {asked!r} is not known; use {ASKED} ({', '.join(NAMES)})")
    return machine


def choose(
    asked: str, costs: Costs, machine: Machine, dtype: torch.dtype | None = None
) -> tuple[Plan, Prediction]:
    """The first plan that fits, the exact ones and the fast ones first.

    Args:
        asked: "auto", a budget, or a plan's name. costs: of the model and the video.
        dtype: that the transformer shall have in any case.

    Raises:
        ModelError: nothing fits; it names what the smallest plan would need.
    """
    machine = with_budget(machine, asked)
    sizes = costs.sizes
    if asked in NAMES:
        return _named(asked, costs, machine, dtype)
    tried = []
    for plan in candidates(sizes, machine, dtype):
        prediction = predict(costs, plan, machine.accelerated)
        if prediction.fits(machine.memory, machine.host):
            return plan, prediction
        tried.append((plan, prediction))
    plan, least = min(tried, key=lambda pair: (pair[1].peak, pair[1].host))
    host = "unknown" if machine.host is None else f"{machine.host / GIB:.1f} GB"
    raise ModelError(
        f"{sizes.name} does not fit: plan {plan.name} needs {least.peak / GIB:.1f} GB on "
        f"{machine.device} and {least.host / GIB:.1f} GB of main memory, there are "
        f"{machine.memory / GIB:.1f} GB and {host}; ask for fewer frames or a smaller size"
    )


def _named(
    name: str, costs: Costs, machine: Machine, dtype: torch.dtype | None
) -> tuple[Plan, Prediction]:
    """The plan of a name, with what else it takes to fit; as it is where nothing helps."""
    place, _, narrow = name.partition("-")
    placement: Placement = "device" if place == "full" else place  # type: ignore[assignment]
    made = []
    for keeps, tiled in SAVINGS:
        plan = Plan(
            placement=placement, eight_bit=bool(narrow), dtype=dtype, keeps=keeps, tiled=tiled
        )
        made.append((plan, predict(costs, plan, machine.accelerated)))
        if made[-1][1].peak <= machine.memory:
            return made[-1]
    return made[0]


def candidates(
    sizes: ModelSizes, machine: Machine, dtype: torch.dtype | None = None
) -> Iterator[Plan]:
    """Plans in the order of preference: exact before tiled before int8, memory before disk.

    Keeping nothing between steps costs little time and no bit, so it comes before tiles.

    A transformer stored in float32 that does not fit whole runs in bfloat16 on an accelerator, as
    both authors run theirs.
    """
    yield Plan(dtype=dtype)
    part = sizes.parts["transformer"]
    if dtype is None and machine.accelerated and part.dtype is torch.float32:
        dtype = torch.bfloat16
        yield Plan(dtype=dtype)
    places: tuple[Placement, ...] = ("device", "parts", "blocks")
    disk: tuple[Placement, ...] = ("disk",)
    for rooms in (places if machine.accelerated else places[:1], disk):
        for narrow in (False, True):
            for keeps, tiled in SAVINGS:
                for placement in rooms:
                    yield Plan(
                        placement=placement,
                        eight_bit=narrow,
                        dtype=dtype,
                        keeps=keeps,
                        tiled=tiled,
                    )
