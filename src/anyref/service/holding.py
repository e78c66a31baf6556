"""Holding on to a job while it is made: signs of life, progress, and the order to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from sqlalchemy.exc import SQLAlchemyError

from anyref.service.jobs import Job, Progress
from anyref.service.queue import Queue, Verdict
from anyref.service.settings import Times


class JobStoppedError(Exception):
    """The job is to be stopped: cancelled, or taken by another worker."""


class Holding:
    """While open, beats for a job; `report` raises when the job is to be stopped.

    Args:
        overtime: called once when the job runs longer than it may; it ends the process.
    """

    def __init__(
        self, queue: Queue, job: Job, times: Times, overtime: Callable[[Job], None]
    ) -> None:
        self.verdict: Verdict = "go on"
        self._queue = queue
        self._job = job
        self._times = times
        self._overtime = overtime
        self._latest = Progress("load")
        self._preview: bytes | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Holding:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def report(self, progress: Progress) -> None:
        """Remember progress for the next sign of life.

        Raises:
            JobStoppedError: the job was cancelled or lost.
        """
        self._latest = progress
        if progress.preview is not None:
            self._preview = progress.preview
        if self.verdict != "go on":
            raise JobStoppedError(self.verdict)

    def _beat(self) -> None:
        started = time.monotonic()
        while not self._over.wait(self._times.heartbeat):
            latest, preview, self._preview = self._latest, self._preview, None
            told = Progress(latest.stage, latest.step, latest.steps, latest.seconds_left, preview)
            try:
                self.verdict = self._queue.beat(self._job, told)
            except SQLAlchemyError:
                continue  # the database is away; the lease says how long that may last
            if time.monotonic() - started > self._times.job:
                self._overtime(self._job)
