"""Peak memory of a generation from 17 to 161 frames: what grows beside the model's activations?

    python benchmarks/generation_memory.py [--model tiny-magref] [--frames 17 65 113 161] [--reuse]

For every length a process of its own runs `anyref generate`, and another one loads the same model
and runs a single denoising step of that length. Peaks are resident memory (Linux, VmHWM), with
malloc told to give freed memory back. "Outside" is the first peak without what the step added in
the second process; "predicted" is what `--memory` says of that step. Writes
benchmarks/generation_memory.json and .svg; `--reuse` predicts and draws beside the measured figures
that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from data_memory_plot import Line, draw

from anyref.media import write_atomically

HERE = Path(__file__).parent
STEPS = 2
SIDE = 96
MIB = 2**20
# freed blocks over 64 KiB go back to the system at once, so that memory held is memory used
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def status(name: str) -> int:
    """One memory figure of this process from /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def forget_peak() -> None:
    """Let VmHWM begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def run_generation(model: str, frames: int) -> dict[str, int]:
    """The peak of `anyref generate`, of a video of so many network frames."""
    from anyref.cli import main
    from anyref.pipelines.loading import describe_model

    delivered = frames - describe_model(model).rules.lead_frames
    with tempfile.TemporaryDirectory() as folder:
        words = ["a @dolphin moves from left to right", "-r", "dolphin=examples/dolphin.png"]
        options = ["--frames", str(delivered), "--steps", str(STEPS), "--model", model]
        done = main(["generate", *words, *options, "-o", f"{folder}/video.mp4"])
    if done:
        raise SystemExit(done)
    return {"peak": status("VmHWM")}


@torch.no_grad()
def run_step(model: str, frames: int) -> dict[str, int]:
    """What one step adds to the memory that the loaded model takes."""
    from anyref import load_pipeline
    from anyref.pipelines.sampling import VideoPasses
    from anyref.pipelines.side_by_side import in_turn
    from anyref.request import PixelShape

    pipe = load_pipeline(model)
    made = pipe.unconditioned(PixelShape(frames, SIDE, SIDE)).map(lambda x: x.float())
    cells = pipe.rules.latent(PixelShape(frames, SIDE, SIDE))
    size = (1, pipe.latent_channels, cells.num_frames, cells.height, cells.width)
    texts = [torch.randn(1, pipe.config.max_sequence_length, pipe.text_encoder.config.d_model)] * 2
    latents = torch.randn(size)
    dtype = pipe.transformer.dtype
    made, texts = made.map(lambda x: x.to(dtype)), [text.to(dtype) for text in texts]
    forget_peak()
    before = status("VmRSS")
    passes = VideoPasses(pipe.transformer, made, latents, 1, kernels=pipe.cpu_kernels)
    passes.guided(0, torch.tensor(500.0), latents, (texts[0], texts[1]), made, 5.0, in_turn)
    return {"step": status("VmHWM") - before}


def predicted_step(model: str, frames: int) -> int:
    """What is predicted of the step that `run_step` measures."""
    from anyref.pipelines.loading import describe_model
    from anyref.pipelines.memory.predict import Costs, Work
    from anyref.pipelines.memory.sizes import sizes_of
    from anyref.request import PixelShape

    sizes = sizes_of(describe_model(model))
    costs = Costs(sizes, Work(PixelShape(frames, SIDE, SIDE), STEPS))
    return int(costs.steps(sizes.parts["transformer"].dtype).peak)


def in_process(part: str, model: str, frames: int) -> dict[str, int]:
    """One measurement in a fresh interpreter."""
    command = [sys.executable, __file__, "--part", part, "--model", model, "--frames", str(frames)]
    made = subprocess.run(
        command, env={**os.environ, **MALLOC}, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(made.stdout.splitlines()[-1])


def measure(model: str, lengths: Sequence[int]) -> list[dict[str, float]]:
    """MiB of every length: the peak, the step's own, and what is outside."""
    points = []
    for frames in lengths:
        found = {**in_process("generation", model, frames), **in_process("step", model, frames)}
        point = {"frames": frames, **{name: round(n / MIB, 1) for name, n in found.items()}}
        point["outside"] = round(point["peak"] - point["step"], 1)
        points.append(point)
        print(point, flush=True)
    return points


def lines_of(points: Sequence[dict[str, float]]) -> list[Line]:
    """The three lines of the plot."""
    names = {"outside": "outside the step", "step": "one step", "predicted": "the step, predicted"}
    return [(words, [(p["frames"], p[name]) for p in points]) for name, words in names.items()]


def main() -> None:
    """Measure, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-magref")
    parser.add_argument("--frames", type=int, nargs="+", default=[17, 65, 113, 161])
    parser.add_argument("--reuse", action="store_true")
    parser.add_argument("--part", choices=["generation", "step"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        made = {"generation": run_generation, "step": run_step}[given.part]
        print(json.dumps(made(given.model, given.frames[0])))
        return
    kept = HERE / "generation_memory.json"
    points = json.loads(kept.read_text())["points"] if given.reuse else None
    points = points or measure(given.model, given.frames)
    for point in points:
        point["predicted"] = round(predicted_step(given.model, point["frames"]) / MIB, 1)
    growth = points[-1]["outside"] / points[0]["outside"] - 1
    result = {
        "model": given.model,
        "steps": STEPS,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "unit": "MiB",
        "growth_outside": round(growth, 4),
        "points": points,
    }
    text = json.dumps(result, indent=1) + "\n"
    picture = draw(lines_of(points)).replace("records; resident", "frames; resident")
    for suffix, content in ((".json", text), (".svg", picture)):
        data = content.encode()
        write_atomically(HERE / f"generation_memory{suffix}", lambda f, d=data: f.write(d))
    ends = f"from {points[0]['frames']} to {points[-1]['frames']} frames"
    print(f"outside the step: {growth:+.1%} {ends}")


if __name__ == "__main__":
    main()
