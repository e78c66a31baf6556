"""`anyref train`: a recipe to weights, or what a recipe needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from anyref.training.plan import Phase, Plan

MINUTE, HOUR, DAY = 60, 3600, 86400
PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimiser",
    "average": "average of weights",
    "encoders": "encoders",
    "gathered": "gathered weights",
    "activations": "activations",
    "update": "optimiser's update",
}


def train(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Changes, e.g. optim.learning_rate=1e-5."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Tell memory and time without weights; train nothing.")
    ] = False,
    gpu: Annotated[str, typer.Option(help="Which GPU a plan is for, e.g. h200, 4090.")] = "h200",
    world: Annotated[int, typer.Option(min=1, help="How many GPUs a plan is for.")] = 1,
    utilisation: Annotated[
        float, typer.Option(help="Share of the GPU's peak that a plan assumes.")
    ] = 0.4,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Train what a recipe says; go on where it stopped.

    Under torchrun or accelerate launch it runs on every process.
    """
    from anyref.training.recipe import load_recipe

    loaded = load_recipe(recipe, changes or ())
    if not plan:
        from anyref.training.trainer import run

        run(loaded)
        return
    from anyref.training.plan import GPUS, make_plan

    made = make_plan(loaded, gpu.lower(), world, utilisation)
    if as_json:
        typer.echo(json.dumps(_as_mapping(made), indent=2))
        return
    Console(highlight=False).print(_tables(made, GPUS[made.gpu].memory))


def _as_mapping(plan: Plan) -> dict[str, Any]:
    """Every figure; bytes and seconds."""
    phases = [asdict(phase) | {"tokens": phase.tokens} for phase in plan.phases]
    memory = asdict(plan.memory) | {"total": plan.memory.total}
    return asdict(plan) | {
        "memory": memory,
        "phases": phases,
        "seconds": plan.seconds,
        "fits": plan.fits,
    }


def _tables(plan: Plan, gpu_bytes: float) -> Group:
    height, width, frames = plan.size
    title = (
        f"{plan.shape}, {height}x{width}, {frames} frames, on {plan.world} x {plan.gpu} "
        f"at {plan.utilisation:.0%} of its peak"
    )
    counts = (
        f"{_count(plan.parameters)} parameters, {_count(plan.trainable)} of them learn "
        f"({plan.trainable / plan.parameters:.2%})"
    )
    verdict = "fits" if plan.fits else "does not fit"
    fate = (
        f"{_gib(plan.memory.total)} of {_gib(gpu_bytes)}: {verdict}, with 2 GiB left to the system"
    )
    notes = [Text(f"- {note}") for note in plan.notes]
    whole = f"{_time(plan.seconds)} for the whole run"
    return Group(
        title, counts, "", _memory(plan), fate, "", _phases(plan.phases), whole, "", *notes
    )


def _memory(plan: Plan) -> Table:
    table = Table("memory per process", box=None)
    table.add_column("GiB", justify="right")
    for name, words in PARTS.items():
        size = getattr(plan.memory, name)
        if size and name != "update":
            table.add_row(words, f"{size / 2**30:.2f}")
    table.add_row("peak", f"{plan.memory.total / 2**30:.2f}", style="bold")
    return table


def _phases(phases: Sequence[Phase]) -> Table:
    """One column per length of clip."""
    table = Table("", box=None)
    for phase in phases:
        table.add_column("x".join(map(str, phase.latent)) + " latents", justify="right")
    rows: dict[str, Callable[[Phase], str]] = {
        "steps": lambda phase: f"{phase.steps:,}",
        "video tokens a clip": lambda phase: f"{phase.video_tokens:,}",
        "reference tokens a clip": lambda phase: f"{phase.reference_tokens:,}",
        "clips a step": lambda phase: f"{phase.batch:,}",
        "clips at once": lambda phase: f"{phase.micro_batch:,}",
        "tokens a step": lambda phase: f"{phase.tokens:,}",
        "operations a step": lambda phase: _operations(phase.flops),
        "time a step": lambda phase: _time(phase.seconds),
        "time of all steps": lambda phase: _time(phase.steps * phase.seconds),
    }
    for name, figure in rows.items():
        table.add_row(name, *map(figure, phases))
    return table


def _operations(flops: float) -> str:
    for size, name in ((1e15, "PFLOP"), (1e12, "TFLOP")):
        if flops >= size:
            return f"{flops / size:.1f} {name}"
    return f"{flops / 1e9:.1f} GFLOP"


def _count(number: int) -> str:
    if number >= 1e9:
        return f"{number / 1e9:.2f}B"
    return f"{number / 1e6:.2f}M"


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def _time(seconds: float) -> str:
    for unit, name in ((DAY, "days"), (HOUR, "h"), (MINUTE, "min"), (1, "s")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds * 1000:.3g} ms"
