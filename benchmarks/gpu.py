"""A stack of 14B-shaped blocks on a GPU: share of its peak, and memory beside the plan.

    python benchmarks/gpu.py [--out FOLDER] [--blocks 4] [--latent 21 60 104]

Forward and backward of one clip of 32,760 tokens (480x832, 81 frames) with gradient checkpointing,
in both ways the trainer computes: float32 weights under bf16 autocast (one process), and bf16
weights (gathered by FSDP). Two figures of utilisation: MFU counts the forward and the backward
pass, "work" also the recomputed forward pass, as `anyref train --plan` does. Peaks are those of
`anyref.training.plan`. Writes gpu.json and gpu.md.

Axes: B batch, C channels, F latent frames, H W latent rows and columns, L text tokens, D width.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch

from anyref.bench.devices import gpu_key
from anyref.media import write_atomically
from anyref.training.dry_run import StepCost, measure_step
from anyref.training.plan import GPUS
from anyref.training.recipe import Recipe, Shape
from anyref.training.shapes import IMAGE_TOKENS, Architecture, architecture

AIM = 0.4
WARM_UP = 2  # steps: kernels are chosen and compiled, libraries take their workspaces
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured. half: bf16 weights, else float32 weights under autocast."""

    shape: Shape
    half: bool
    compile: bool

    @property
    def words(self) -> str:
        """For a table."""
        weights = "bf16 weights" if self.half else "float32 weights, autocast"
        return f"{self.shape}, {weights}, {'compiled' if self.compile else 'eager'}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measurement; what the machine cannot tell is None.

    Args:
        seconds: median of the steps. mfu, work: shares of the GPU's peak.
        weights, activations, predicted: bytes; activations are everything alive at the peak but
            weights and finished gradients.
    """

    case: str
    blocks: int
    tokens: int
    seconds: float | None = None
    mfu: float | None = None
    work: float | None = None
    weights: int | None = None
    activations: int | None = None
    predicted: float | None = None
    failed: str | None = None


CASES = (
    *(
        Case(shape="magref-14b", half=half, compile=compiled)
        for half in (False, True)
        for compiled in (False, True)
    ),
    Case(shape="kaleido-14b", half=True, compile=True),
)


def plan_recipe(shape: Shape) -> Recipe:
    """What the plan is asked: a step of the whole transformer with gradient checkpointing."""
    return Recipe.model_validate(
        {
            "model": {"base": "none", "shape": shape, "dtype": "fp32"},
            "data": {"shards": ["none"]},
            "engine": {"gradient_checkpointing": True},
            "batch": 1,
        }
    )


def make_step(
    model: Architecture, case: Case, latent: Sequence[int], references: int, device: torch.device
) -> tuple[int, Callable[[], None]]:
    """Bytes of the weights, and a step on random numbers; gradients go as soon as they are whole.

    Args:
        latent: F, H, W. references: pictures beside the video, where they are tokens.
    """
    dtype = torch.bfloat16 if case.half else torch.float32
    with device:
        network = model.build()
    for parameter in network.parameters():  # not its buffers: FSDP leaves them alone too
        parameter.data = parameter.data.to(dtype)
        parameter.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    network.enable_gradient_checkpointing()
    network.train()
    if case.compile:
        network.compile_repeated_blocks(dynamic=False)
    inputs = random_inputs(model, latent, references, {"device": device, "dtype": dtype})

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=not case.half):
            velocity = network(**inputs, return_dict=False)[0]  # (B, C, F, H, W)
        velocity.float().square().mean().backward()

    return sum(p.numel() * p.element_size() for p in network.parameters()), step


def random_inputs(
    model: Architecture, latent: Sequence[int], references: int, how: dict[str, Any]
) -> dict[str, Any]:
    """Arguments of one pass, B = 1."""
    config = model.transformer[1]
    inputs: dict[str, Any] = {
        "hidden_states": torch.randn(1, config["in_channels"], *latent, **how),
        "timestep": torch.full((1,), 500.0, device=how["device"]),
        "encoder_hidden_states": torch.randn(
            1, model.text_length, config["text_dim"], **how
        ),  # (B, L, D)
    }
    if config["image_dim"] is not None:
        inputs["encoder_hidden_states_image"] = torch.randn(
            1, IMAGE_TOKENS, config["image_dim"], **how
        )
    if model.references_are_tokens:
        cells = model.reference_shape(*latent[1:])
        inputs["reference_hidden_states"] = [
            torch.randn(1, config["in_channels"], 1, *cells, **how) for _ in range(references)
        ]
    return inputs


def count_tokens(model: Architecture, latent: Sequence[int], references: int) -> int:
    """Tokens of a pass, references that are tokens included."""
    frames, rows, columns = (n // p for n, p in zip(latent, model.patch, strict=True))
    if not model.references_are_tokens:
        return frames * rows * columns
    height, width = model.reference_shape(*latent[1:])
    _, y, x = model.patch
    return frames * rows * columns + references * (height // y) * (width // x)


def measure(
    case: Case, blocks: int, latent: tuple[int, int, int], steps: int, device: torch.device
) -> Result:
    """Time some steps of a stack, and compare its memory with what is predicted."""
    torch._dynamo.reset()
    gc.collect()  # the stack before
    full = architecture("none", case.shape)
    made, config = full.transformer
    model = replace(full, transformer=(made, {**config, "num_layers": blocks}))
    recipe = plan_recipe(case.shape)
    references = recipe.data.max_references
    cost = measure_step(model, recipe, batch=1, latent=latent, sharded=case.half)
    about: dict[str, Any] = {
        "case": case.words,
        "blocks": blocks,
        "tokens": count_tokens(model, latent, references),
        "predicted": cost.peak_bytes,
    }
    try:
        weights, step = make_step(model, case, latent, references, device)
        seconds, activations = run_steps(step, steps, device)
    except torch.OutOfMemoryError:
        return Result(**about, failed="out of memory")
    mfu, work = shares(cost, seconds, device)
    return Result(
        **about,
        seconds=seconds,
        mfu=mfu,
        work=work,
        weights=weights,
        activations=activations,
    )


def run_steps(
    step: Callable[[], None], steps: int, device: torch.device
) -> tuple[float, int | None]:
    """Median seconds of a step, and the bytes it takes beyond what was there before."""
    for _ in range(WARM_UP):
        step()
    if device.type != "cuda":
        return statistics.median(timed(step) for _ in range(steps)), None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()

    def waited() -> None:
        step()
        torch.cuda.synchronize()

    seconds = statistics.median(timed(waited) for _ in range(steps))
    return seconds, torch.cuda.max_memory_allocated() - before


def timed(step: Callable[[], None]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def shares(
    cost: StepCost, seconds: float, device: torch.device
) -> tuple[float | None, float | None]:
    """Of the device's peak: without and with the recomputed forward pass."""
    key = gpu_key(torch.cuda.get_device_name()) if device.type == "cuda" else None
    if key is None:
        return None, None
    peak = GPUS[key].flops * seconds
    return (cost.flops - cost.forward_flops) / peak, cost.flops / peak


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    key = gpu_key(name) if device.type == "cuda" else None
    return {
        "device": name,
        "peak_teraflops": None if key is None else GPUS[key].flops / 1e12,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def markdown(about: dict[str, Any], results: Sequence[Result]) -> str:
    """The table."""
    peak = about["peak_teraflops"]
    against = f"peak {peak:.0f} TFLOP/s in bf16" if peak else "peak not known"
    lines = [
        "# Blocks of 14B shape",
        "",
        f"{about['device']}, {against}, torch {about['torch']}. Forward and backward, gradient "
        f"checkpointing, one clip. MFU leaves the recomputed pass out; aim {AIM:.0%}.",
        "",
        "| case | blocks | tokens | s/step | MFU | with recomputation | weights | activations "
        "| predicted | off by |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(markdown_row, results)]) + "\n"


def markdown_row(row: Result) -> str:
    """One line of the table."""
    off = None
    if row.activations is not None and row.predicted:
        off = row.predicted / row.activations - 1
    cells = [
        row.case,
        str(row.blocks),
        f"{row.tokens:,}",
        row.failed or shown(row.seconds, "{:.3f}"),
        shown(row.mfu, "{:.1%}"),
        shown(row.work, "{:.1%}"),
        *(shown(n and n / GIB, "{:.2f} GiB") for n in (row.weights, row.activations)),
        shown(row.predicted and row.predicted / GIB, "{:.2f} GiB"),
        shown(off, "{:+.1%}"),
    ]
    return f"| {' | '.join(cells)} |"


def shown(value: float | None, form: str) -> str:
    """A figure, or a dash for none."""
    return "-" if value is None else form.format(value)


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none."""
    write_atomically(path, lambda file: file.write(text.encode()))


def main() -> None:
    """Measure every case; write the table after each, so that a stopped run leaves what it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--blocks", type=int, default=4, help="2 or more")
    parser.add_argument("--latent", type=int, nargs=3, default=(21, 60, 104), metavar="N")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--shape", choices=get_args(Shape), help="only this one")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    cases = CASES
    if options.shape:
        pairs = ((half, compiled) for half in (False, True) for compiled in (False, True))
        cases = tuple(Case(shape=options.shape, half=h, compile=c) for h, c in pairs)
    results: list[Result] = []
    for case in cases:
        results.append(measure(case, options.blocks, tuple(options.latent), options.steps, device))
        print(markdown_row(results[-1]), flush=True)
        rows = {**machine(device), "aim": AIM, "rows": [asdict(row) for row in results]}
        options.out.mkdir(parents=True, exist_ok=True)
        write_text(options.out / "gpu.json", json.dumps(rows, indent=1))
        write_text(options.out / "gpu.md", markdown(rows, results))


if __name__ == "__main__":
    main()
