"""What a worker does with a request: the pipelines, and a stand-in for tests of the service."""

from __future__ import annotations

import gc
import io
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from anyref.errors import RequestError
from anyref.request import Request
from anyref.service.catalog import STUB, STUB_FPS, STUB_SHAPE, STUB_STEPS, served_name
from anyref.service.jobs import Progress
from anyref.service.settings import Settings

if TYPE_CHECKING:
    from anyref.pipelines.base import AnyRefPipeline

Report = Callable[[Progress], None]
PREVIEW_SECONDS = 1.0  # between two previews, at least
PREVIEW_SHARE = 10  # and at least this many times what the last one took
PREVIEW_SIDE = 192


@dataclass(frozen=True)
class Made:
    """A finished video.

    Args:
        frames: uint8 (T, Y, X, 3). fps: frames per second.
        model: what made it, as its record names it.
    """

    frames: np.ndarray
    fps: float
    model: dict[str, Any]


class Maker(Protocol):
    """Makes videos, one after the other."""

    def make(self, request: Request, report: Report) -> Made:
        """Make one video; what `report` raises ends it."""


class StubMaker:
    """Coloured noise from the request's seed, at a chosen pace.

    Words in the prompt make it misbehave: `stub:crash` kills the process, `stub:oom` runs out of
    memory, `stub:fail` raises, `stub:hang` does nothing for an hour.

    Args:
        step_seconds: of one denoising step.
    """

    def __init__(self, step_seconds: float) -> None:
        self._step_seconds = step_seconds

    def make(self, request: Request, report: Report) -> Made:
        """See `Maker`."""
        self._misbehave(request.prompt)
        steps = request.num_inference_steps or STUB_STEPS
        random = np.random.default_rng(request.seed)
        size = (
            request.num_frames or STUB_SHAPE.num_frames,
            request.height or STUB_SHAPE.height,
            request.width or STUB_SHAPE.width,
        )
        cells = random.integers(0, 255, (size[0], -(-size[1] // 16), -(-size[2] // 16), 3))
        frames = cells.astype(np.uint8).repeat(16, axis=1).repeat(16, axis=2)
        frames = np.ascontiguousarray(frames[:, : size[1], : size[2]])
        for step in range(steps):
            time.sleep(self._step_seconds)
            left = (steps - step - 1) * self._step_seconds
            preview = small_jpeg(frames[0]) if step % 4 == 0 else None
            report(Progress("steps", step + 1, steps, left, preview))
        report(Progress("decode", steps, steps, 0.0))
        return Made(frames, STUB_FPS, {"name": STUB})

    @staticmethod
    def _misbehave(prompt: str) -> None:
        if "stub:crash" in prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        if "stub:oom" in prompt:
            raise MemoryError
        if "stub:fail" in prompt:
            raise RuntimeError("the stub was told to fail in /a/secret/place")
        if "stub:hang" in prompt:
            time.sleep(3600)


class PipelineMaker:
    """anyref's pipelines; the last model stays loaded.

    Args:
        settings: whose models it serves. device: where they run.
    """

    def __init__(self, settings: Settings, device: str) -> None:
        self._places = {served_name(model): model for model in settings.models}
        self._dtype = settings.dtype
        self._memory = settings.memory
        self._device = device
        self._pipe: AnyRefPipeline | None = None
        self._model: dict[str, Any] = {}

    def make(self, request: Request, report: Report) -> Made:
        """See `Maker`."""
        from anyref.pipelines.generation import generate
        from anyref.service.preview import Preview

        name = request.model or next(iter(self._places))
        if self._model.get("name") != name:
            report(Progress("load"))
            self._load(name)
        assert self._pipe is not None
        pace = Pace(report)
        with Preview(self._pipe) as preview:
            pace.preview = preview.picture
            made = generate(self._pipe, request, on_stage=pace.stage, on_step=pace.step)
        return Made(made.frames, made.fps, self._model)

    def _load(self, name: str) -> None:
        import torch

        from anyref.pipelines.loading import find_model, load_pipeline, model_hash, plan_memory

        if name not in self._places:
            raise RequestError(f"model {name!r} is not served by this worker")
        self._pipe, self._model = None, {}  # room for the next one first
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # what is free is counted below
        dtype = None if self._dtype is None else getattr(torch, self._dtype)
        place, plan = self._places[name], None
        model: dict[str, Any] = {"name": name, "hash": model_hash(find_model(place))}
        if self._dtype is not None:
            model["dtype"] = self._dtype
        if self._memory is not None:
            plan, _ = plan_memory(place, self._memory, self._device, dtype)
            model["memory"] = plan.name
        self._pipe = load_pipeline(place, dtype=dtype, device=self._device, memory=plan)
        self._model = model


class Pace:
    """Reports stages and steps with the time that is left.

    Args:
        report: where they go.
    """

    def __init__(self, report: Report) -> None:
        self.preview: Callable[[], np.ndarray | None] = lambda: None
        self._report = report
        self._started = time.monotonic()
        self._next_preview = self._started + PREVIEW_SECONDS
        self._steps = 0

    def stage(self, name: str) -> None:
        """A stage begins."""
        self._started = time.monotonic()
        done = self._steps if name != "steps" else 0
        self._report(Progress(name, done, self._steps))

    def step(self, done: int, steps: int) -> None:
        """One of the denoising steps is done."""
        now = time.monotonic()
        self._steps = steps
        picture = None
        if now >= self._next_preview and done < steps:
            picture = self.preview()
            took = time.monotonic() - now
            self._next_preview = now + max(PREVIEW_SECONDS, PREVIEW_SHARE * took)
        left = (now - self._started) / done * (steps - done)
        shown = None if picture is None else small_jpeg(picture)
        self._report(Progress("steps", done, steps, left, shown))


def small_jpeg(frame: np.ndarray, side: int = PREVIEW_SIDE) -> bytes:
    """A frame, uint8 (Y, X, 3), as a JPEG of at most `side` pixels each way."""
    picture = Image.fromarray(frame)
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=80)
    return buffer.getvalue()


def maker_for(settings: Settings, device: str) -> Maker:
    """The stub when it is what is served, else the pipelines."""
    if settings.models == (STUB,):
        return StubMaker(settings.stub_step)
    return PipelineMaker(settings, device)
