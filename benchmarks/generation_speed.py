"""End to end on the CPU: the plain path against anyref, and what each trick gives by itself.

    OMP_WAIT_POLICY=passive python benchmarks/generation_speed.py [--rounds 5] [--threads 2]

From requests to MP4 files with the two small models, on a quiet machine: three requests a round,
which ask for the same two references in other words and seeds. Every variant makes all of them in
every round, in turn, in one process; the best round of each counts. Between the first and the last
stands each trick by itself; errors are of the latents against the plain path's. Writes
benchmarks/generation_speed.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from diffusers.utils import logging as diffusers_logging
from PIL import Image, ImageDraw
from plain_path import plain_video

from anyref import Reference, Request, generate, load_pipeline
from anyref.media import open_video_writer, write_atomically
from anyref.models.passes import Memory
from anyref.pipelines import sampling
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.sampling import VideoPasses

PROMPTS = (
    "@fox moves from left to right, @car moves from right to left.",
    "@car stays where it is, @fox moves from right to left.",
    "@fox moves from left to right, @car stays where it is.",
)
FAMILIES = ("magref", "kaleido")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Variant:
    """Which tricks are on; all off is the plain path through anyref's own call."""

    name: str
    encodings: bool = False
    texts: bool = False
    first: bool = False
    kernels: bool = False
    at_once: bool = False


class _NoFirst(Memory):
    """Forgets the first block's self-attention."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, None if name == "first" else value)


class _OnlyFirst(Memory):
    """Keeps the first block's self-attention only."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, _Nothing() if name in ("pairs", "outputs") else value)


class _Nothing(dict[Any, Any]):
    """A dictionary that gives a value back once, then has it no more."""

    def __getitem__(self, key: Any) -> Any:
        return super().pop(key)

    def get(self, key: Any, default: Any = None) -> Any:  # noqa: ARG002 - as a dictionary has it
        return default


VARIANTS = (
    Variant("no trick"),
    Variant("encodings kept", encodings=True),
    Variant("text keys, values, rotary tables once", texts=True),
    Variant("first self-attention once for both passes", first=True),
    Variant("oneDNN linear layers and attention", kernels=True),
    Variant("both passes at once", at_once=True),
    Variant("all", encodings=True, texts=True, first=True, kernels=True, at_once=True),
)


def picture(color: str) -> Image.Image:
    """A drawn thing on white."""
    image = Image.new("RGB", (80, 60), "white")
    ImageDraw.Draw(image).ellipse((10, 8, 70, 52), fill=color, outline="black")
    return image


def requests() -> list[Request]:
    """The requests of one round."""
    references = (Reference([picture("orange")], "fox"), Reference([picture("navy")], "car"))
    return [
        Request(prompt=prompt, references=references, seed=seed)
        for seed, prompt in enumerate(PROMPTS)
    ]


def _one_by_one(*_: Any) -> bool:
    return False


@contextmanager
def switched(pipe: AnyRefPipeline, variant: Variant) -> Iterator[list[torch.Tensor]]:
    """A pipeline with a variant's tricks; the latents of its videos."""
    made, latents = VideoPasses.__init__, []
    decode = type(pipe)._plain_latents

    def passes(self: VideoPasses, *args: Any, **options: Any) -> None:
        made(self, *args, **options | {"remember": variant.texts or variant.first})
        if variant.texts != variant.first:
            self.memory = _NoFirst() if variant.texts else _OnlyFirst()

    def seen(self: AnyRefPipeline, x: torch.Tensor) -> torch.Tensor:
        latents.append(x)
        return decode(self, x)

    pipe.encodings.clear()
    kernels, capacity = pipe.cpu_kernels, pipe.encodings.capacity
    pipe.cpu_kernels = variant.kernels and kernels
    pipe.encodings.capacity = capacity if variant.encodings else 0
    with (
        mock.patch.object(VideoPasses, "__init__", passes),
        mock.patch.object(type(pipe), "_plain_latents", seen),
        nullcontext() if variant.at_once else mock.patch.object(sampling, "fits", _one_by_one),
    ):
        yield latents
    pipe.cpu_kernels, pipe.encodings.capacity = kernels, capacity


def by_anyref(pipe: AnyRefPipeline, variant: Variant, folder: Path) -> list[torch.Tensor]:
    """The latents of one round's videos."""
    with switched(pipe, variant) as latents:
        for i, request in enumerate(requests()):
            with open_video_writer(folder / f"{i}.mp4", pipe.config.fps) as add:
                generate(pipe, request, on_frames=add)
    return latents


def timed(make: Callable[[], list[torch.Tensor]]) -> tuple[list[torch.Tensor], float, float]:
    """What `make` gives, wall seconds and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = make()
    return made, time.perf_counter() - wall, time.process_time() - cpu


def measure(family: str, rounds: int) -> dict[str, Any]:
    """Seconds per round and errors of every variant of one model."""
    pipe = load_pipeline(f"tiny-{family}", dtype=torch.float32)
    plain_pipe = load_pipeline(f"tiny-{family}", dtype=torch.float32)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def plain() -> list[torch.Tensor]:
            return [
                plain_video(plain_pipe, request, folder / f"plain-{i}.mp4")
                for i, request in enumerate(requests())
            ]

        for _ in range(rounds):
            truth, wall, cpu = timed(plain)
            _add(rows, "plain path", wall, cpu, 0.0)
            for variant in VARIANTS:
                made, wall, cpu = timed(lambda v=variant: by_anyref(pipe, v, folder))
                error = max(
                    float((a - b).norm() / b.norm()) for a, b in zip(made, truth, strict=True)
                )
                _add(rows, variant.name, wall, cpu, error)
    return rows


def _add(rows: dict[str, dict[str, Any]], name: str, wall: float, cpu: float, error: float) -> None:
    row = rows.setdefault(name, {"wall": [], "cpu": [], "error": 0.0})
    row["wall"].append(round(wall, 3))
    row["cpu"].append(round(cpu, 3))
    row["error"] = max(row["error"], error)


def table(made: dict[str, Any]) -> str:
    """The measurement as Markdown."""
    lines = [
        f"{made['processor']}, {made['threads']} thread(s), {made['rounds']} round(s) of "
        f"{len(PROMPTS)} videos, best round of each; torch {made['torch']}.",
        "",
        "| model | variant | wall s | times | processor s | times | relative error |",
        "|---|---|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        rows = made[family]
        base = {unit: min(rows["plain path"][unit]) for unit in ("wall", "cpu")}
        for name, row in rows.items():
            wall, cpu = min(row["wall"]), min(row["cpu"])
            lines.append(
                f"| tiny-{family} | {name} | {wall:.2f} | {base['wall'] / wall:.2f} | {cpu:.2f} | "
                f"{base['cpu'] / cpu:.2f} | {row['error']:.1e} |"
            )
    return "\n".join(lines) + "\n"


def processor() -> str:
    """Model name, architecture and number of processors."""
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.is_file() else [])
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} processors"


def main() -> None:
    """Measure both models and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=HERE / "generation_speed")
    options = parser.parse_args()
    diffusers_logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    made: dict[str, Any] = {
        "processor": processor(),
        "threads": options.threads,
        "rounds": options.rounds,
        "torch": torch.__version__,
    }
    made |= {family: measure(family, options.rounds) for family in FAMILIES}
    for suffix, text in ((".json", json.dumps(made, indent=1) + "\n"), (".md", table(made))):
        path = options.out.with_suffix(suffix)
        write_atomically(path, lambda file, text=text: file.write(text.encode()))


if __name__ == "__main__":
    main()
