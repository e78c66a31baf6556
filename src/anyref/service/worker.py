"""A worker: one process, one device, one warm model, one job after the other.

Started by the supervisor as `python -m anyref.service.worker NAME DEVICE` with the settings as one
line on its standard input, which stays open: its end means that the supervisor is gone, and a line
`stop` that the worker should give its job back and go.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from anyref.errors import RequestError
from anyref.media import write_video
from anyref.request import Reference, Request
from anyref.service.holding import Holding, JobStoppedError
from anyref.service.jobs import Job, Progress, Result
from anyref.service.makers import Made, Maker, maker_for, small_jpeg
from anyref.service.queue import Queue
from anyref.service.settings import Settings
from anyref.service.store import Store, thumbnail_name, video_name
from anyref.service.tables import connect

GONE, OVERTIME, MEMORY = 0, 70, 71  # exit codes
THUMBNAIL_SIDE = 640
RETRY_SECONDS = 0.5
PACKAGES = ("anyref", "torch", "diffusers", "transformers")

Answer = TypeVar("Answer")


class Worker:
    """Takes jobs until it is told to stop.

    Args:
        name: unlike any other worker's, now or before.
    """

    def __init__(self, name: str, settings: Settings, queue: Queue, maker: Maker) -> None:
        self.stopping = threading.Event()
        self.job: Job | None = None
        self._name = name
        self._settings = settings
        self._queue = queue
        self._store = Store(settings.store)
        self._maker = maker
        self._models = [Path(model).name for model in settings.models]

    def run(self) -> None:
        """Work until `stopping` is set."""
        while not self.stopping.is_set():
            try:
                job = self._queue.claim(self._name, self._models)
            except SQLAlchemyError as error:
                log(f"the queue does not answer: {error}")
                self.stopping.wait(RETRY_SECONDS)
                continue
            if job is None:
                self.stopping.wait(self._settings.times.idle)
            else:
                self.work(job)

    def work(self, job: Job) -> None:
        """Do one job to one of its ends."""
        self.job = job
        with Holding(self._queue, job, self._settings.times, self._overtime) as holding:
            try:
                result = self._make(job, holding)
            except JobStoppedError:
                end: Callable[[], object] = lambda: self._queue.stopped(job)  # noqa: E731
            except MemoryError:
                self._out_of_memory(job)
            except Exception as error:  # a model may raise anything; the worker goes on
                if _is_out_of_memory(error):
                    self._out_of_memory(job)
                log(traceback.format_exc())
                code, reason = explain(error)
                end = lambda: self._queue.fail(job, code, reason)  # noqa: E731
            else:
                end = lambda: self._finish(job, result)  # noqa: E731
            persistently(end)
        self.job = None

    def hand_back(self) -> None:
        """Let the job that is being made wait again."""
        job = self.job
        if job is not None:
            self._queue.hand_back(job)

    def _make(self, job: Job, holding: Holding) -> Result:
        with tempfile.TemporaryDirectory(prefix="anyref-job-") as folder:
            made = self._maker.make(self._localised(job, Path(folder)), holding.report)
        holding.report(Progress("write", job.steps, job.steps, 0.0))
        return self._keep(job, made)

    def _keep(self, job: Job, made: Made) -> Result:
        content = video_name(job.id, job.attempt)
        thumbnail = thumbnail_name(job.id, job.attempt)
        record = record_of(job, made)
        middle = made.frames[len(made.frames) // 2]
        self._store.write(thumbnail, small_jpeg(middle, THUMBNAIL_SIDE))
        size = self._store.place(
            content, lambda path: write_video(path, made.frames, made.fps, record)
        )
        return Result(content, thumbnail, size)

    def _finish(self, job: Job, result: Result) -> None:
        if self._queue.finish(job, result):
            return
        kept = self._queue.get(job.id)
        if kept is not None and kept.content == result.content:
            return  # the database took it the first time, and its answer was lost
        self._store.delete(result.content)  # another attempt has the job; two are one too many
        if result.thumbnail is not None:
            self._store.delete(result.thumbnail)

    def _localised(self, job: Job, folder: Path) -> Request:
        """The request with its pictures as files of this machine."""
        fields = job.fields
        references = [
            Reference(
                **{
                    **reference,
                    "images": [self._store.fetch(name, folder) for name in reference["images"]],
                    "mask": reference.get("mask") and self._store.fetch(reference["mask"], folder),
                }
            )
            for reference in fields.get("references", ())
        ]
        return Request(**{**fields, "references": references})

    def _out_of_memory(self, job: Job) -> None:
        """Say so and go: only a new process has all of its device's memory back."""
        reason = "out of memory; ask for a smaller size, fewer seconds or fewer references"
        persistently(lambda: self._queue.fail(job, "out_of_memory", reason))
        log(f"{job.id} ran out of memory")
        os._exit(MEMORY)

    def _overtime(self, job: Job) -> None:
        minutes = self._settings.times.job / 60
        reason = f"it was not done after {minutes:.0f} minutes, this service's limit"
        persistently(lambda: self._queue.fail(job, "timed_out", reason))
        log(f"{job.id} took too long")
        os._exit(OVERTIME)


def persistently(end: Callable[[], Answer]) -> Answer:
    """Say how a job ended until the database takes it; the job's heart beats meanwhile."""
    while True:
        try:
            return end()
        except SQLAlchemyError as error:
            log(f"the queue does not answer: {error}")
            time.sleep(RETRY_SECONDS)


def explain(error: Exception) -> tuple[str, str]:
    """A code and a sentence about a failure, free of paths and traces."""
    if isinstance(error, RequestError):
        return "invalid_request", str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "storage_full", "there was no room left to keep the video; try again later"
    kind = type(error).__name__
    return "internal_error", f"the model failed ({kind}); the service's log says more"


def record_of(job: Job, made: Made) -> dict[str, Any]:
    """What the video's container says of it: request, model and versions."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed as a package"
    return {"id": job.id, "request": job.fields, "model": made.model, "versions": versions}


def log(text: str) -> None:
    """One message to the service's log."""
    sys.stderr.write(f"worker {os.getpid()}: {text.rstrip()}\n")
    sys.stderr.flush()


def _is_out_of_memory(error: Exception) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower()


def _listen(worker: Worker) -> None:
    """Obey the supervisor; without one, go."""
    for line in sys.stdin:
        if line.strip() == "stop":
            worker.stopping.set()
            try:
                worker.hand_back()
            except SQLAlchemyError as error:
                log(f"the queue does not answer: {error}")
            break
    os._exit(GONE)


def main() -> None:
    """Read the settings and work."""
    name, device = sys.argv[1:3]
    settings = Settings.from_json(sys.stdin.readline())
    queue = Queue(connect(settings.database), settings.limits)
    worker = Worker(name, settings, queue, maker_for(settings, device))
    threading.Thread(target=_listen, args=(worker,), name="listen", daemon=True).start()
    worker.run()


if __name__ == "__main__":
    main()
