"""What benchmarks of the lab's videos share: clips, measures, records that survive a stop.

Axes: T frames, Y X pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray

from anyref import load_pipeline
from anyref.lab.catalog import Catalog, load_catalog
from anyref.lab.matching import best_match, make_strip, make_templates
from anyref.lab.pictures import animation, still
from anyref.lab.scoring import CYCLE_POSES, IDENTITY_FRAMES, Examiner, Scores
from anyref.lab.world import Clip, World, compose
from anyref.pipelines.base import AnyRefPipeline

DRAWS = 2000

Frames = NDArray[np.uint8]  # (T, Y, X, 3)
Record = dict[str, Any]


class Keyed(Protocol):
    """A task with a name of its own."""

    @property
    def key(self) -> str:
        """The name."""


class Laboratory:
    """Makes and measures the videos of one model: held-out clips of three and two subjects."""

    def __init__(self, family: str, catalog: Catalog) -> None:
        self.catalog = catalog
        self.pipe: AnyRefPipeline = load_pipeline(f"tiny-{family}", dtype=torch.float32)
        self.subjects = {s.key: s for s in catalog.subjects("test")}

    def clip(self, purpose: str, index: int) -> tuple[Clip, Examiner, tuple[str, ...]]:
        """A clip, who measures its videos, and the candidates of each place."""
        return _clip(self.catalog, purpose, index)

    def matches(self, frames: Frames, clip: Clip) -> list[float]:
        """`match` of each lane's own subject."""
        actors = enumerate(clip.actors)
        return [self.match(frames, actor.key, lane, len(clip.actors)) for lane, actor in actors]

    def match(self, frames: Frames, key: str, lane: int, lanes: int) -> float:
        """Mean template score of a subject in a lane, the best of its views, over frames."""
        world = World(size=96, num_frames=17, num_subjects=lanes, plain=0.0)
        subject = self.subjects[key]
        views = [still(subject, world.size, self.catalog.cache)]
        if subject.animation is not None:
            cycle = animation(subject, world.size, self.catalog.cache)
            picks = np.linspace(0, len(cycle), CYCLE_POSES, endpoint=False).astype(int)
            views += [cycle[i] for i in picks]
        times = np.linspace(0, len(frames) - 1, IDENTITY_FRAMES).round().astype(int)
        rows = (lane * world.box, (lane + 1) * world.box)
        strip = make_strip(frames[times], world.box, rows)
        return float(best_match(strip, make_templates(views)).score)


@dataclass(frozen=True)
class Asked:
    """What a command line asks for: a folder for records, clips, and the models by family."""

    work: Path
    clips: int
    laboratories: dict[str, Laboratory]

    @property
    def families(self) -> list[str]:
        """Of the models, in the order they were asked for."""
        return list(self.laboratories)


def asked(clips: int) -> Asked:
    """Read `WORK [--clips N] [--families A,B]`; one thread, no progress bars."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--clips", type=int, default=clips)
    parser.add_argument("--families", default="kaleido,magref")
    options = parser.parse_args()
    diffusers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    catalog = load_catalog()
    laboratories = {family: Laboratory(family, catalog) for family in options.families.split(",")}
    return Asked(options.work, options.clips, laboratories)


@cache
def _clip(catalog: Catalog, purpose: str, index: int) -> tuple[Clip, Examiner, tuple[str, ...]]:
    world = World(size=96, num_frames=17, num_subjects=3 - index % 2, plain=0.0)
    clip = compose(random.Random(f"{purpose}/{index}"), catalog, "test", world)
    examiner = Examiner(catalog, "test", world)
    return clip, examiner, examiner.draw_candidates(random.Random(index), clip)


def right_places(scores: Scores, clip: Clip) -> list[bool]:
    """Whether each place shows its own subject."""
    return [f == a.key for f, a in zip(scores.found, clip.actors, strict=True)]


def change_per_frame(frames: Frames) -> float:
    """Mean change from frame to frame, grey levels."""
    return float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean())


def run_missing(
    path: Path, tasks: Iterable[Any], run: Callable[[Any], Record]
) -> dict[str, Record]:
    """The records of all tasks by key; what a file lacks is run and added to it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.is_file() else []
    records: dict[str, Record] = dict(json.loads(line) for line in lines)
    with path.open("a") as file:
        for task in tasks:
            if task.key not in records:
                records[task.key] = run(task)
                file.write(json.dumps([task.key, records[task.key]]) + "\n")
                file.flush()
                os.fsync(file.fileno())
    return records


def interval(values: NDArray[np.float64]) -> list[float]:
    """Mean and 95 % bootstrap interval over clips."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (DRAWS, len(values)))].mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return [round(float(x), 4) for x in (values.mean(), low, high)]
