"""Stand-in metrics that workers can load, a benchmark with pictures, and tiny grey videos."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from anyref.errors import EvaluationError
from anyref.evaluation.metric import MetricSpec, Score, Skipped
from anyref.media import write_video


@dataclass(frozen=True)
class Grey:
    """Brightness or darkness of a video; writes down in `log` which video it was asked about."""

    name: str = "brightness"
    direction: str = "higher"
    grade: str = "exact"
    needs: frozenset = frozenset({"video"})
    log: str | None = None
    seconds: float = 0.0

    @property
    def spec(self):
        return MetricSpec(
            name=self.name,
            about=f"Mean of all pixels ({self.name}).",
            direction=self.direction,
            low=0,
            high=1,
            needs=self.needs,
            grade=self.grade,
        )

    def applies(self, case):
        return Skipped("no people", "inapplicable") if case.category == "nobody" else None

    def score(self, case, footage):
        if self.log is not None:
            with Path(self.log).open("a") as file:
                file.write(f"{case.id} {os.getpid()}\n")
        time.sleep(self.seconds)
        return Score(float(footage.frames.mean() / 255), {"frames": len(footage.frames)})


@dataclass(frozen=True)
class Blind(Grey):
    """Sees nothing in dark videos."""

    def score(self, case, footage):
        dark = footage.frames.mean() < 60
        return Skipped("nobody is seen", "undetected") if dark else super().score(case, footage)


@dataclass(frozen=True)
class Broken(Grey):
    """Cannot be used at all."""

    def score(self, case, footage):
        raise EvaluationError("the weights are broken; fetch them again")


def metrics(**given):
    return (
        Grey(**given),
        Grey("darkness", "lower"),
        Blind("faces", needs=frozenset({"video", "references"}), grade="small"),
    )


def write_benchmark(folder: Path, ids=("one", "two", "three", "four"), **fields) -> Path:
    """A list of cases with a red picture each; the categories alternate."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10), "red").save(folder / "fox.png")
    cases = [
        {
            "id": case_id,
            "category": ("people", "animals")[place % 2],
            "prompt": "a @fox walks",
            "references": [{"images": ["fox.png"], "name": "fox"}],
            **fields,
        }
        for place, case_id in enumerate(ids)
    ]
    path = folder / "small.json"
    path.write_text(json.dumps({"name": "small", "cases": cases}))
    return path


def write_clip(path: Path, level=128, num_frames=3) -> Path:
    """A grey video of 16 x 16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, np.full((num_frames, 16, 16, 3), level, np.uint8), 8)
    return path
