"""What a reference's strength does to the chosen subject, to the others, and to motion.

    python benchmarks/strength.py WORK [--clips 12] [--families kaleido,magref]

Held-out clips of the cutout world, by turns with three and two subjects and a place; one subject is
chosen (each lane in turn) and given a strength from 0.5 to 8, with both maps; the seed stays. Every
video is measured by template matching (anyref.lab): whether the subject asked for is found in its
lane among 20 candidates, how well it matches there, which way everything moves. Records go to
WORK/records.jsonl as they are made, so that a run that was stopped goes on; the means with 95 %
intervals to benchmarks/strength.json, drawn in benchmarks/strength.svg.

Axes: T frames, Y X pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from strength_plot import draw

from anyref import Request, generate, load_pipeline
from anyref.lab.catalog import Catalog, load_catalog
from anyref.lab.matching import best_match, make_strip, make_templates
from anyref.lab.pictures import animation, still
from anyref.lab.scoring import CYCLE_POSES, IDENTITY_FRAMES, Examiner
from anyref.lab.world import Clip, World, compose
from anyref.media import write_atomically
from anyref.pipelines.base import AnyRefPipeline

STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
MAPS = ("attention", "uniform")
MEASURES = (
    "chosen_identity",
    "chosen_match",
    "others_identity",
    "others_match",
    "direction",
    "change",
    "background",
)
DRAWS = 2000
HERE = Path(__file__).parent

Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One video to make."""

    family: str
    index: int
    map: str
    strength: float

    @property
    def key(self) -> str:
        """Strength 1 is the same video with either map."""
        how = "none" if self.strength == 1.0 else self.map
        return f"{self.family}/{self.index}/{how}/{self.strength}"


def tasks(families: list[str], clips: int) -> Iterator[Task]:
    """All videos, clip by clip, so that a run stopped early is balanced."""
    for index in range(clips):
        for family in families:
            for how in MAPS:
                for strength in STRENGTHS:
                    yield Task(family, index, how, strength)


class Laboratory:
    """Makes and measures the videos of one model."""

    def __init__(self, family: str, catalog: Catalog) -> None:
        self.catalog = catalog
        self.pipe: AnyRefPipeline = load_pipeline(f"tiny-{family}", dtype=torch.float32)
        self.subjects = {s.key: s for s in catalog.subjects("test")}

    def run(self, task: Task) -> Record:
        """The record of one task."""
        count = 3 - task.index % 2
        world = World(size=96, num_frames=17, num_subjects=count, plain=0.0)
        clip = compose(random.Random(f"strength/{task.index}"), self.catalog, "test", world)
        examiner = Examiner(self.catalog, "test", world)
        candidates = examiner.draw_candidates(random.Random(task.index), clip)
        chosen = task.index // 2 % count
        references = list(clip.references)
        references[chosen] = references[chosen].model_copy(update={"strength": task.strength})
        how = None if task.strength == 1.0 else task.map
        request = Request(
            prompt=clip.prompt, references=tuple(references), seed=task.index, strength_map=how
        )
        frames = generate(self.pipe, request).frames
        scores = examiner.score(frames, clip, candidates)
        right = [f == a.key for f, a in zip(scores.found, clip.actors, strict=True)]
        match = [self._match(frames, clip, lane, world) for lane in range(count)]
        rest = [lane for lane in range(count) if lane != chosen]
        return {
            "chosen_identity": float(right[chosen]),
            "chosen_match": match[chosen],
            "others_identity": float(np.mean([right[lane] for lane in rest])),
            "others_match": float(np.mean([match[lane] for lane in rest])),
            "direction": scores.direction,
            "change": float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean()),
            "background": scores.background,
        }

    def _match(self, frames: NDArray[np.uint8], clip: Clip, lane: int, world: World) -> float:
        """Mean template score of a lane's own subject, the best of its views, over five frames."""
        subject = self.subjects[clip.actors[lane].key]
        views = [still(subject, world.size, self.catalog.cache)]
        if subject.animation is not None:
            cycle = animation(subject, world.size, self.catalog.cache)
            picks = np.linspace(0, len(cycle), CYCLE_POSES, endpoint=False).astype(int)
            views += [cycle[i] for i in picks]
        times = np.linspace(0, len(frames) - 1, IDENTITY_FRAMES).round().astype(int)
        rows = (lane * world.box, (lane + 1) * world.box)
        return float(
            best_match(make_strip(frames[times], world.box, rows), make_templates(views)).score
        )


def interval(values: NDArray[np.float64]) -> list[float]:
    """Mean and 95 % bootstrap interval over clips."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (DRAWS, len(values)))].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return [round(float(x), 4) for x in (values.mean(), low, high)]


def summarise(records: dict[str, Record], families: list[str], clips: int) -> dict[str, Any]:
    """Means by family, map, measure and strength, over the clips whose videos are all there.

    Beside each mean stands that of the difference to strength 1 on the same clips.
    """
    summary: dict[str, Any] = {"strengths": STRENGTHS}
    for family in families:
        keys = {i: [t.key for t in tasks([family], clips) if t.index == i] for i in range(clips)}
        whole = [i for i in range(clips) if all(key in records for key in keys[i])]
        made: dict[str, Any] = {"clips": len(whole)}
        for how in MAPS if whole else ():
            table = np.array(
                [
                    [[records[Task(family, i, how, s).key][m] for i in whole] for s in STRENGTHS]
                    for m in MEASURES
                ]
            )  # (measures, strengths, clips)
            plain = table[:, STRENGTHS.index(1.0)][:, None]
            made[how] = {
                measure: {
                    "mean": [interval(row) for row in table[m]],
                    "against_1": [interval(row) for row in (table - plain)[m]],
                }
                for m, measure in enumerate(MEASURES)
            }
        summary[family] = made
    return summary


def main() -> None:
    """Make what is missing, then summarise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--families", default="kaleido,magref")
    options = parser.parse_args()
    families = options.families.split(",")
    options.work.mkdir(parents=True, exist_ok=True)
    diffusers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    path = options.work / "records.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    records: dict[str, Record] = dict(json.loads(line) for line in lines)
    catalog = load_catalog()
    laboratories = {family: Laboratory(family, catalog) for family in families}
    with path.open("a") as file:
        for task in tasks(families, options.clips):
            if task.key not in records:
                records[task.key] = laboratories[task.family].run(task)
                file.write(json.dumps([task.key, records[task.key]]) + "\n")
                file.flush()
                os.fsync(file.fileno())
    summary = summarise(records, families, options.clips)
    text = json.dumps(summary, indent=1).encode()
    write_atomically(HERE / "strength.json", lambda out: out.write(text))
    picture = draw(summary).encode()
    write_atomically(HERE / "strength.svg", lambda out: out.write(picture))


if __name__ == "__main__":
    main()
