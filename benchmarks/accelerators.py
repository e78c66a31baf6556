"""What each way to make a video faster costs of the subjects' identity.

    python benchmarks/accelerators.py WORK [--clips 12] [--families kaleido,magref]

Held-out clips of the cutout world, by turns with three and two subjects and a place, made exactly
and with every accelerator, same seed. Beside the processor seconds of the steps stands the share of
the transformer's blocks that ran, which a busy machine does not change. Every video is measured
against the exact one (PSNR) and by template matching (anyref.lab). Records and exact videos go to
WORK as they are made, so that a run that was stopped goes on; means with 95 % intervals to
benchmarks/accelerators.json, the table to accelerators.md, the curve to accelerators.svg.

Axes: T frames, Y X pixels.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerators_plot import draw
from lab_videos import Frames, Laboratory, Record, asked, interval, right_places, run_missing

from anyref import Request, generate
from anyref.lab.evaluation import psnr
from anyref.media import write_atomically
from anyref.pipelines.speed import PRESETS

EXACT = "exact"
VARIANTS: dict[str, dict[str, Any]] = {
    EXACT: {},
    **{
        f"first-block {level}": {"step_cache": f"first-block:{level}"}
        for level in (0.05, 0.1, 0.2, 0.3)
    },
    **{f"taylorseer {n}": {"step_cache": f"taylorseer:{n}"} for n in (2, 3, 4)},
    **{f"guidance to {stop}": {"guidance_interval": (0.0, stop)} for stop in (0.8, 0.6, 0.4)},
    **{f"{steps} steps": {"num_inference_steps": steps} for steps in (12, 8, 6, 4)},
    **{
        f"{name} {level}, guidance to 0.6": {
            "step_cache": f"{name}:{level}",
            "guidance_interval": (0.0, 0.6),
        }
        for name, level in (("first-block", 0.1), ("taylorseer", 2), ("taylorseer", 3))
    },
}
MEASURES = ("work", "seconds", "psnr", "identity", "match", "direction", "background")
FEWEST = 6  # clips, below which an interval means nothing
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Task:
    """One video to make."""

    family: str
    index: int
    variant: str

    @property
    def key(self) -> str:
        """Its name in the records."""
        return f"{self.family}/{self.index}/{self.variant}"


def tasks(families: list[str], clips: int) -> Iterator[Task]:
    """All videos, clip by clip, so that a run stopped early is balanced."""
    for index in range(clips):
        for family in families:
            for variant in VARIANTS:
                yield Task(family, index, variant)


@contextmanager
def counted(transformer: Any) -> Iterator[list[int]]:
    """Counts how often a block's feed-forward network runs."""
    calls = [0]

    def count(*_: Any) -> None:
        calls[0] += 1

    handles = [block.ffn.register_forward_hook(count) for block in transformer.blocks]
    yield calls
    for handle in handles:
        handle.remove()


def measured(laboratory: Laboratory, task: Task, work: Path) -> Record:
    """The record of one task; the exact video of each clip is kept in `work`."""
    clip, examiner, candidates = laboratory.clip("accelerators", task.index)
    request = Request(
        prompt=clip.prompt,
        references=clip.references,
        seed=task.index,
        **VARIANTS[task.variant],
    )
    pipe = laboratory.pipe
    pipe.encodings.clear()
    with counted(pipe.transformer) as calls:
        start = time.process_time()
        frames = generate(pipe, request).frames
        seconds = time.process_time() - start
    path = work / f"{task.family}-{task.index}.npy"
    if task.variant == EXACT:
        write_atomically(path, lambda file: np.save(file, frames))
    exact: Frames = np.load(path)
    scores = examiner.score(frames, clip, candidates)
    guided = pipe.config.num_inference_steps * 2 * len(pipe.transformer.blocks)
    return {
        "work": calls[0] / guided,
        "seconds": seconds,
        "psnr": psnr(frames, exact),
        "identity": float(np.mean(right_places(scores, clip))),
        "match": float(np.mean(laboratory.matches(frames, clip))),
        "direction": scores.direction,
        "background": scores.background,
    }


def summarise(records: dict[str, Record], families: list[str], clips: int) -> dict[str, Any]:
    """Means by family, variant and measure over the clips whose videos are all there.

    Beside each mean stands that of the difference to the exact video of the same clip.
    """
    summary: dict[str, Any] = {"presets": {name: dict(made) for name, made in PRESETS.items()}}
    for family in families:
        whole = [
            i
            for i in range(clips)
            if all(Task(family, i, variant).key in records for variant in VARIANTS)
        ]
        made: dict[str, Any] = {"clips": len(whole)}
        for variant in VARIANTS if whole else ():
            made[variant] = {}
            for measure in MEASURES:
                values, exact = (
                    np.array([records[Task(family, i, v).key][measure] for i in whole])
                    for v in (variant, EXACT)
                )
                made[variant][measure] = {
                    "mean": interval(values),
                    "against_exact": interval(values - exact),
                }
        summary[family] = made
    return summary


def table(summary: dict[str, Any], families: list[str]) -> str:
    """The measurement as Markdown."""
    lines = []
    for family in families:
        made = summary[family]
        lines += [
            f"tiny-{family}, {made['clips']} clips:",
            "",
            "| | blocks run | times faster | PSNR to exact, dB | identity | template match | "
            "direction |",
            "|---|---|---|---|---|---|---|",
        ]
        base = made[EXACT]["seconds"]["mean"][0]
        for variant in VARIANTS:
            row = {measure: made[variant][measure]["mean"][0] for measure in MEASURES}
            _, low, high = made[variant]["match"]["against_exact"]
            delta = made[variant]["match"]["against_exact"][0]
            sure = made["clips"] >= FEWEST and (low > 0 or high < 0)
            beside = f" ({delta:+.3f})" if sure else ""
            noise = "-" if variant == EXACT else f"{row['psnr']:.1f}"
            lines.append(
                f"| {variant} | {row['work']:.0%} | {base / row['seconds']:.2f} | {noise} | "
                f"{row['identity']:.2f} | {row['match']:.3f}{beside} | {row['direction']:.2f} |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Make what is missing, then summarise."""
    given = asked(clips=12)
    for laboratory in given.laboratories.values():  # what is slow the first time only
        laboratory.pipe.set_progress_bar_config(disable=True)
        generate(laboratory.pipe, Request(prompt="a", num_inference_steps=1, references=[
            laboratory.clip("accelerators", 0)[0].references[0].model_copy(update={"name": None})
        ]))  # fmt: skip
    records = run_missing(
        given.work / "records.jsonl",
        tasks(given.families, given.clips),
        lambda task: measured(given.laboratories[task.family], task, given.work),
    )
    summary = summarise(records, given.families, given.clips)
    for name, text in (
        ("accelerators.json", json.dumps(summary, indent=1) + "\n"),
        ("accelerators.md", table(summary, given.families)),
        ("accelerators.svg", draw(summary, given.families)),
    ):
        write_atomically(HERE / name, lambda out, text=text: out.write(text.encode()))


if __name__ == "__main__":
    main()
