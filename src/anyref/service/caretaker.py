"""The caretaker: finds jobs whose worker is gone, files that belong to no job, and old videos.

The first two compare no times of day. A job is lost when its count of beats has not changed for a
lease on this process's own monotonic clock; a stray file is removed when two sweeps in a row found
it. So a clock that is set forward loses nothing, and one set back keeps nothing waiting. How old a
video is only the wall clock knows; it is removed when it was overdue at two sweeps in a row.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from anyref.service.jobs import RUNNING, Job
from anyref.service.queue import Queue
from anyref.service.removal import remove_video
from anyref.service.settings import Times
from anyref.service.store import NAME, Store

SWEEP_BATCH = 500


class Caretaker:
    """Looks after a queue and a store, in a thread of its own.

    Args:
        clock: seconds that only go forward. wall: seconds since 1970.
    """

    def __init__(
        self,
        queue: Queue,
        store: Store,
        times: Times,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._store = store
        self._times = times
        self._clock = clock
        self._wall = wall
        self._overdue: set[str] = set()
        self._seen: dict[tuple[str, int], tuple[int, float]] = {}  # job, attempt: beat, since
        self._strays: set[str] = set()
        self._next_sweep = clock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="caretaker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after what it is doing now."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def check_leases(self) -> list[Job]:
        """Abandon every job that gave no sign of life for a lease; those jobs."""
        now, seen, lost = self._clock(), {}, []
        for job in self._queue.running():
            key = (job.id, job.attempt)
            beat, since = self._seen.get(key, (job.beat, now))
            since = now if beat != job.beat else since
            seen[key] = (job.beat, since)
            if now - since >= self._times.lease:
                reason = f"no sign of life for {self._times.lease:.0f} seconds"
                if self._queue.abandon(job, reason):
                    lost.append(job)
        self._seen = seen
        return lost

    def sweep(self) -> list[str]:
        """Remove files that were strays at the last sweep too; their names."""
        strays: set[str] = set()
        batch: list[str] = []
        for name in self._store.names():
            batch.append(name)
            if len(batch) == SWEEP_BATCH:
                strays |= self._strays_of(batch)
                batch = []
        strays |= self._strays_of(batch)
        removed = sorted(strays & self._strays)
        for name in removed:
            self._store.remove_stray(name)
        self._strays = strays - self._strays
        return removed

    def expire(self) -> list[str]:
        """Remove videos that were overdue at the last sweep too; their ids."""
        keep = self._times.keep
        if keep is None:
            return []
        overdue = {job.id: job.owner for job in self._queue.ended_before(self._wall() - keep)}
        removed = sorted(overdue.keys() & self._overdue)
        for id in removed:  # noqa: A001 - its name
            remove_video(self._queue, self._store, id, overdue[id])
        self._overdue = overdue.keys() - set(removed)
        return removed

    def _strays_of(self, names: list[str]) -> set[str]:
        parsed = {name: NAME.fullmatch(name) for name in names}
        jobs = self._queue.get_many(sorted({match[2] for match in parsed.values() if match}))
        return {
            name
            for name, match in parsed.items()
            if match is None or not _belongs(name, int(match[3]), jobs.get(match[2]))
        }

    def _run(self) -> None:
        while not self._stopping.wait(self._times.heartbeat):
            try:
                self.check_leases()
                if self._clock() >= self._next_sweep:
                    self._next_sweep = self._clock() + self._times.sweep
                    self.expire()
                    self.sweep()
            except (SQLAlchemyError, OSError) as error:
                sys.stderr.write(f"caretaker: {error}\n")


def _belongs(name: str, number: int, job: Job | None) -> bool:
    """True for a file that its job still needs."""
    if job is None:
        return False
    if name.startswith("references/"):
        return True
    if job.state == RUNNING:
        return number >= job.attempt
    return name in (job.content, job.thumbnail)
