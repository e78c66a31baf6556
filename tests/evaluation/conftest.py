from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from anyref.evaluation.benchmark import Benchmark, Case
from anyref.evaluation.metric import MetricSpec, Score, Skipped
from anyref.media import write_video
from anyref.request import Request


def published_folder(variable, usual, what):
    place = os.environ.get(variable, usual)
    folder = Path(__file__).parents[2] / place
    if not folder.is_dir():
        pytest.skip(f"no {what} in {place}; name its folder in {variable}")
    return folder


@pytest.fixture(scope="session")
def opens2v():
    """The folder of OpenS2V-Nexus's published data: eval/, results/."""
    return published_folder("ANYREF_OPENS2V", "../shared/data/opens2v", "OpenS2V-Nexus data")


@pytest.fixture(scope="session")
def leaderboards():
    """The folder of its six leaderboard files."""
    usual = "../shared/reference/leaderboards"
    return published_folder("ANYREF_LEADERBOARDS", usual, "OpenS2V-Eval leaderboards")


@dataclass
class Brightness:
    """A metric that counts how often it was asked."""

    name: str = "brightness"
    needs: frozenset = frozenset({"video"})
    version: int = 1
    grade: str = "exact"
    answer: object = None
    asked: list = field(default_factory=list)

    @property
    def spec(self):
        return MetricSpec(
            name=self.name,
            about="Mean of all pixels, 0 to 1.",
            direction="higher",
            low=0,
            high=1,
            needs=self.needs,
            grade=self.grade,
            version=self.version,
        )

    def applies(self, case):
        return Skipped("no people", "inapplicable") if case.category == "nobody" else None

    def score(self, case, footage):
        self.asked.append(case.id)
        return self.answer or Score(float(footage.frames.mean() / 255))


@pytest.fixture
def metric():
    """Makes such a metric."""
    return Brightness


def make_benchmark(*ids, category="people", prompt="a fox walks"):
    cases = [Case(id=i, request=Request(prompt=prompt), category=category) for i in ids]
    return Benchmark("small", tuple(cases), Path())


@pytest.fixture(scope="session")
def benchmark():
    """Makes a benchmark without references of the ids given."""
    return make_benchmark


def make_clip(path, level=128, num_frames=3):
    write_video(path, np.full((num_frames, 16, 16, 3), level, np.uint8), 8)
    return path


@pytest.fixture(scope="session")
def clip():
    """Writes a grey video of 16 x 16."""
    return make_clip
