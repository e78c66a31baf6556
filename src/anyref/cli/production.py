"""From a checked request to a video file with its record beside it.

A video `out.mp4` carries request, model and versions in its container; the sidecar `out.json` holds
the same, and what may differ between two equal videos: timings. The sidecar also holds SHA-256 sums
of the reference pictures, so that a picture changed under the same path is noticed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyref.cli import progress
from anyref.cli.holding import WHOLE, Asked, Holding
from anyref.errors import MediaError, ModelError
from anyref.lora import Lora
from anyref.media import (
    check_writable,
    open_reference_pictures,
    open_video_writer,
    save_picture,
    write_atomically,
)
from anyref.pipelines.engine import AS_IT_IS, Engine
from anyref.request import Request

if TYPE_CHECKING:
    import numpy as np

    from anyref.pipelines.generation import Generation
    from anyref.pipelines.loading import ModelInfo

DEFAULT_MODEL = "tiny-magref"
LoraText = tuple[str, float]  # path and strength
PACKAGES = ("anyref", "torch", "diffusers", "transformers")
MAX_WAITING = 4  # parts of a video that are decoded and not yet written
MAX_SIDECAR_BYTES = 512 * 2**20  # room for eight inline pictures


def sidecar_of(video: Path) -> Path:
    """Where the record of a video lies."""
    return video.with_suffix(".json")


def check_pictures(request: Request) -> None:
    """Open every picture and mask once; raises MediaError or ReferencesError for the first bad."""
    for reference in request.references:
        open_reference_pictures(reference)


def check_output(video: Path) -> None:
    """Raise MediaError unless the video and its sidecar can be written there."""
    if video.suffix.lower() != ".mp4":
        raise MediaError(f"output {str(video)!r} is not an .mp4 file; name it like out.mp4")
    for path in (video, sidecar_of(video)):
        check_writable(path)


def installed_versions() -> dict[str, str]:
    """Versions of what determines a video's bytes, without importing it."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed as a package"
    return versions


def sha256(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def picture_hashes(request: Request) -> list[str]:
    """SHA-256 of every picture and mask that the request names by path, in order."""
    pictures = [picture for r in request.references for picture in (*r.images, r.mask)]
    paths = [picture for picture in pictures if isinstance(picture, Path)]
    return [sha256(path) for path in paths]


def read_sidecar(path: Path) -> dict[str, Any]:
    """The record in a sidecar, or {} when it is missing or no record."""
    try:
        if path.stat().st_size > MAX_SIDECAR_BYTES:
            return {}
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


@dataclass(frozen=True)
class Run:
    """How to run, whatever is made: options that are no part of a request."""

    model: str | None
    dtype: str | None = None
    device: str | None = None
    save_conditioning: Path | None = None
    loras: tuple[LoraText, ...] = ()
    engine: Engine = AS_IT_IS
    holding: Holding = WHOLE


@dataclass(frozen=True)
class Studio:
    """One model, before and after its weights are read.

    Args:
        dtype: of the weights, as stored when None. device: where to run; a GPU if None and any.
        loras: adapters on it, each a path and a strength. engine: kernels and processes.
        holding: where its weights are. asked: every request that was checked.
    """

    info: ModelInfo
    model: str
    dtype: str | None = None
    device: str | None = None
    loras: tuple[LoraText, ...] = ()
    engine: Engine = AS_IT_IS
    holding: Holding = WHOLE
    asked: list[Asked] = field(default_factory=list, compare=False)

    @classmethod
    def open(cls, run: Run) -> Studio:
        """Find a run's model by name or folder, and its LoRAs; raises ModelError."""
        from anyref.pipelines.loading import SHIPPED, describe_model

        model = run.model or DEFAULT_MODEL
        info = describe_model(model)
        loras = tuple((str(Lora(Path(path)).file.resolve()), scale) for path, scale in run.loras)
        name = model if model in SHIPPED else str(Path(model).resolve())
        run.engine.check()
        run.holding.check()
        return cls(info, name, run.dtype, run.device, loras, run.engine, run.holding)

    def check(self, request: Request) -> None:
        """Raise SizeError or RequestError when this model cannot make the request."""
        from anyref.pipelines.generation import check_request

        shape = check_request(self.info, request)
        self.asked.append(Asked.of(request, shape, self.info.defaults))
        if self.device is not None:
            _check_device(self.device)

    @cached_property
    def model_record(self) -> dict[str, Any]:
        """Name and hash of the weights; dtype and LoRAs where there are any."""
        from anyref.pipelines.loading import model_hash

        record: dict[str, Any] = {"name": self.model, "hash": model_hash(self.info.folder)}
        record |= self.holding.record
        if self.dtype is not None:
            record["dtype"] = self.dtype
        if self.loras:
            record["loras"] = [
                {"path": path, "scale": scale, "hash": sha256(Path(path))}
                for path, scale in self.loras
            ]
        return record

    @property
    def pipe(self) -> Any:
        """The loaded pipeline, shared by the processes under torchrun."""
        return self._loaded[0]

    def load(self) -> None:
        """Read the weights now, not at the first video."""
        self._loaded  # noqa: B018 - loads

    @cached_property
    def _loaded(self) -> tuple[Any, dict[str, Any]]:
        """The pipeline, and the kernels it runs by."""
        import torch

        from anyref.pipelines import parallel, running
        from anyref.pipelines.loading import load_pipeline

        _quiet_libraries()
        parallel.start()
        rank = os.environ.get("LOCAL_RANK", "0")
        device = self.device or (f"cuda:{rank}" if torch.cuda.is_available() else "cpu")
        dtype = None if self.dtype is None else getattr(torch, self.dtype)
        loras = [Lora(Path(path), scale) for path, scale in self.loras]
        first = "cpu" if self.engine.shards_weights else device
        held = self.holding.arguments(self.model, self.asked, device, dtype)
        pipe = load_pipeline(self.model, dtype=dtype, device=first, loras=loras, **held)
        used = running.prepare(pipe, self.engine, torch.device(device))
        if "memory" in held:
            used["memory"] = held["memory"].name
        progress.line(", ".join(f"{what} {name}" for what, name in used.items()), error=True)
        return pipe, used

    def record(self, request: Request) -> dict[str, Any]:
        """What determines the video's bytes: request, model and versions."""
        request = request.model_copy(update={"model": self.model})
        return {
            "request": json.loads(request.to_json()),
            "model": self.model_record,
            "versions": installed_versions(),
        }

    def has_made(self, request: Request, video: Path) -> bool:
        """True when the video is there, made by this model from this request and its pictures."""
        sidecar = read_sidecar(sidecar_of(video))
        if not video.is_file() or not sidecar:
            return False
        expected = self.record(request)
        return all(
            sidecar.get(field) == expected[field] for field in ("request", "model")
        ) and sidecar.get("pictures") == picture_hashes(request)

    def make(
        self, request: Request, video: Path, save_conditioning: Path | None = None
    ) -> dict[str, float]:
        """Load if needed, generate, write; the seconds of each part.

        Raises:
            AnyRefError: what loading, generation or writing raise.
        """
        from anyref.pipelines import parallel
        from anyref.pipelines.generation import generate

        seconds: dict[str, float] = {}
        pictures = picture_hashes(request)
        record = self.record(request)
        with progress.reporting() as reporter:
            if "_loaded" not in self.__dict__:
                reporter.stage("load")
                start = time.perf_counter()
                self.load()
                seconds["load"] = time.perf_counter() - start
            record["engine"] = self._loaded[1]
            with _writing(video, self.info.defaults["fps"], record) as on_frames:
                result = generate(
                    self.pipe,
                    request,
                    on_stage=reporter.stage,
                    on_step=reporter.step,
                    on_frames=on_frames,
                )
                seconds.update(result.timings)
                if parallel.is_main():
                    reporter.stage("write")
                start = time.perf_counter()
            if parallel.is_main():
                if save_conditioning is not None:
                    _save_conditioning(save_conditioning, result)
                seconds["write"] = time.perf_counter() - start
                beside = {"pictures": pictures, "processes": str(parallel.current_layout())}
                _write_sidecar(video, {**record, **beside, "timings": seconds})
        return seconds


@contextmanager
def _writing(
    video: Path, fps: float, record: dict[str, Any]
) -> Iterator[Callable[[np.ndarray], None]]:
    """Write frames beside their making, in a thread; one process of a video writes them."""
    from anyref.pipelines import parallel

    if not parallel.is_main():
        yield lambda _: None
        return
    with (
        open_video_writer(video, fps, record) as add,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting: deque[Future[None]] = deque()

        def take(frames: np.ndarray) -> None:
            waiting.append(pool.submit(add, frames))
            if len(waiting) > MAX_WAITING:
                waiting.popleft().result()

        yield take
        for future in waiting:
            future.result()
        sidecar_of(video).unlink(missing_ok=True)  # never beside a video it did not make


def make_one(request: Request, video: Path, run: Run) -> Studio:
    """Check everything, then make one video and say where it is."""
    check_pictures(request)
    studio = Studio.open(run)
    studio.check(request)
    check_output(video)
    if run.save_conditioning is not None:
        check_writable(run.save_conditioning / "canvas.png")
    seconds = studio.make(request, video, run.save_conditioning)
    progress.line(f"{video} ({summary(seconds)})")
    return studio


def _check_device(name: str) -> None:
    import torch

    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"device {name!r} cannot be used: {reason}; leave --device out") from error


def _quiet_libraries() -> None:
    """The reporter shows progress; the libraries' own bars, on every rank, would tear it."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _save_conditioning(folder: Path, result: Generation) -> None:
    for name, picture in result.conditioning_pictures.items():
        save_picture(folder / f"{name}.png", picture)


def _write_sidecar(video: Path, record: dict[str, Any]) -> None:
    data = json.dumps(record, indent=2, ensure_ascii=False).encode("utf-8")
    write_atomically(sidecar_of(video), lambda file: file.write(data))


def summary(seconds: dict[str, float]) -> str:
    """`load 1.2 s, encode 0.3 s, ...`."""
    return ", ".join(f"{part} {value:.1f} s" for part, value in seconds.items())
