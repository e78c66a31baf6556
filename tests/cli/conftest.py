"""A stand-in for the pipelines, so that the command line is tested without weights."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anyref.cli import main
from anyref.errors import ModelError
from anyref.request import PixelShape, ShapeRules

DEFAULTS = {"height": 64, "width": 64, "num_frames": 9, "num_inference_steps": 2, "fps": 8}


@dataclass(frozen=True)
class FakeInfo:
    name: str
    folder: Path
    rules: ShapeRules
    defaults: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULTS))


@dataclass(frozen=True)
class FakeGeneration:
    frames: np.ndarray
    fps: float
    timings: dict[str, float]
    conditioning_pictures: dict[str, Image.Image]


@dataclass
class Fakes:
    """What the stand-in was asked to do, and the knobs of its behaviour."""

    loaded: list[dict[str, Any]] = field(default_factory=list)
    made: list[Any] = field(default_factory=list)
    hash: str = "a" * 64
    noise: int = 0
    fail_on: str | None = None
    error: BaseException = field(default_factory=lambda: RuntimeError("out of memory"))

    def describe_model(self, name):
        if name not in ("tiny-magref", "tiny-kaleido"):
            raise ModelError(f"model {name!r} is not known; use one of tiny-magref, tiny-kaleido")
        lead = 4 if name == "tiny-magref" else 0
        return FakeInfo(name, Path(name), ShapeRules(8, 4, (1, 2, 2), 1024, lead))

    def check_request(self, info, request):
        frames = request.num_frames
        network = 9 if frames is None else info.rules.network_frames(frames)
        shape = PixelShape(network, request.height or 64, request.width or 64)
        info.rules.check(shape)
        return shape

    def load_pipeline(self, name, *, dtype=None, device=None, loras=()):
        self.loaded.append({"name": name, "dtype": dtype, "device": device})
        return self.describe_model(name)

    def generate(self, pipe, request, *, on_stage, on_step, on_frames):
        if self.fail_on is not None and self.fail_on in request.prompt:
            raise self.error
        self.made.append(request)
        shape = self.check_request(pipe, request)
        for stage in ("encode", "steps", "decode"):
            on_stage(stage)
        on_step(1, 2)
        on_step(2, 2)
        random = np.random.default_rng(request.seed + self.noise)
        size = (shape.num_frames - pipe.rules.lead_frames, shape.height, shape.width, 3)
        frames = random.integers(0, 255, size, dtype=np.uint8)
        seconds = {"encode": 0.1, "steps": 0.2, "decode": 0.3}
        for part in np.array_split(frames, 2):
            on_frames(part)
        return FakeGeneration(frames[:0], 8.0, seconds, {"canvas": Image.new("RGB", (8, 8))})


@pytest.fixture
def fakes(monkeypatch):
    """Replaces loading, generation and parallel for one test."""
    fakes = Fakes()
    attributes = {
        "loading": {
            "SHIPPED": {"tiny-magref": "a small MAGREF", "tiny-kaleido": "a small Kaleido"},
            "describe_model": fakes.describe_model,
            "load_pipeline": fakes.load_pipeline,
            "model_hash": lambda folder: fakes.hash,
        },
        "generation": {"generate": fakes.generate, "check_request": fakes.check_request},
        "parallel": {
            "start": lambda: None,
            "stop": lambda: None,
            "shard": lambda pipe: None,
            "is_main": lambda: os.environ.get("RANK", "0") == "0",
            "announced": lambda: 1,
            "world_size": lambda: 1,
            "video_turn": lambda: (0, 1),
            "from_all": lambda value: [value],
            "current_layout": lambda: "alone",
            "parse_layout": lambda text, world: None,
        },
        "running": {
            "prepare": lambda pipe, engine, device: {"attention": "native"},
        },
    }
    import anyref.pipelines

    for name, values in attributes.items():
        module = ModuleType(f"anyref.pipelines.{name}")
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(anyref.pipelines, name, module, raising=False)
    return fakes


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty working folder with three pictures and a text file named as one."""
    monkeypatch.chdir(tmp_path)
    for name in ("fox.png", "side.png", "beach.jpg"):
        Image.new("RGB", (20, 10), "red").save(tmp_path / name)
    (tmp_path / "text.png").write_text("not a picture")
    return tmp_path


@pytest.fixture
def anyref(capsys):
    """Runs the command line: exit code, stdout and stderr."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
