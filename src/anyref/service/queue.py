"""The queue: every change of a job's state, each one transaction.

    queued -> running -> completed | failed | cancelled -> deleted
       ^---------'  its worker died for the first time, or gave it back

A running job belongs to the attempt that took it. What an earlier attempt still says is refused, so
a worker that was taken for dead can neither finish a job twice nor undo what its successor did.
Nothing here compares times of day: order is the order of submission, signs of life are counted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from anyref.errors import AnyRefError
from anyref.service.jobs import (
    ACTIVE,
    CANCELLED,
    COMPLETED,
    DELETED,
    ENDED,
    FAILED,
    JOB_COLUMNS,
    MAX_DEATHS,
    QUEUED,
    RUNNING,
    STATES,
    Draft,
    Job,
    Progress,
    Result,
)
from anyref.service.settings import Limits
from anyref.service.tables import jobs, lock, previews

Order = Literal["asc", "desc"]
Verdict = Literal["go on", "cancel", "lost"]

_COLUMNS = [jobs.c[name] for name in JOB_COLUMNS]
_EXISTS = jobs.c.state != DELETED
_BY_ID = sa.select(*_COLUMNS).where(jobs.c.id == sa.bindparam("wanted"), _EXISTS)
_NO_WORKER = {"worker": None, "stage": None, "seconds_left": None}


class QueueFullError(AnyRefError):
    """The client's share of the queue, or the whole queue, is taken."""


class RepeatError(AnyRefError):
    """An idempotency key that was used for something else, or for a video since deleted."""


class StillActiveError(AnyRefError):
    """A job that cannot be deleted because it waits or runs."""


class Queue:
    """Jobs in a database that any number of processes and machines share.

    Args:
        engine: of `tables.connect`. limits: how many jobs are taken.
    """

    def __init__(self, engine: sa.Engine, limits: Limits | None = None) -> None:
        self._engine = engine
        self._limits = limits or Limits()

    # what clients do

    def submit(self, draft: Draft) -> tuple[Job, bool]:
        """Queue a job; False when this very submission was queued before.

        Raises:
            QueueFullError: the client, or all clients, have too many active jobs.
            RepeatError: the idempotency key stands for another submission.
        """
        try:
            with self._engine.begin() as connection:
                lock(connection, draft.owner)
                known = self._repeated(connection, draft)
                if known is not None:
                    return known, False
                self._check_room(connection, draft.owner)
                values = {**asdict(draft), "state": QUEUED, "created_at": time.time()}
                connection.execute(sa.insert(jobs).values(values))
                return self._row(connection, draft.id), True
        except IntegrityError:  # another process was faster with the same key
            with self._reading() as connection:
                known = self._repeated(connection, draft)
            if known is None:
                raise
            return known, False

    def find_repeat(self, draft: Draft) -> Job | None:
        """The job that this submission's idempotency key stands for; raises RepeatError."""
        with self._reading() as connection:
            return self._repeated(connection, draft)

    def check_room(self, owner: str) -> None:
        """Raise QueueFullError when a submission would be refused now."""
        with self._reading() as connection:
            self._check_room(connection, owner)

    def get(self, id: str, owner: str | None = None) -> Job | None:  # noqa: A002 - its name
        """A job, or None when there is none that this owner may see; any owner's when None."""
        with self._reading() as connection:
            row = connection.execute(_BY_ID, {"wanted": id}).first()
        if row is None or owner not in (None, row.owner):
            return None
        return _job(row)

    def get_many(self, ids: Sequence[str]) -> dict[str, Job]:
        """Those of the jobs that exist, by id."""
        found: dict[str, Job] = {}
        with self._reading() as connection:
            for start in range(0, len(ids), 500):
                chosen = jobs.c.id.in_(ids[start : start + 500])
                for row in connection.execute(sa.select(*_COLUMNS).where(chosen, _EXISTS)):
                    found[row.id] = _job(row)
        return found

    def page(
        self, owner: str, limit: int, order: Order = "desc", after: str | None = None
    ) -> tuple[list[Job], bool] | None:
        """An owner's jobs in the order of submission, and whether there are more.

        Args:
            after: id of the last job of the page before, which may have been deleted since.

        Returns:
            None when `after` is no job of this owner.
        """
        chosen = sa.select(*_COLUMNS).where(jobs.c.owner == owner, _EXISTS)
        with self._reading() as connection:
            if after is not None:
                mine = (jobs.c.id == after) & (jobs.c.owner == owner)
                place = connection.execute(sa.select(jobs.c.seq).where(mine)).scalar()
                if place is None:
                    return None
                chosen = chosen.where(jobs.c.seq > place if order == "asc" else jobs.c.seq < place)
            ordered = chosen.order_by(jobs.c.seq if order == "asc" else jobs.c.seq.desc())
            rows = connection.execute(ordered.limit(limit + 1)).all()
        return [_job(row) for row in rows[:limit]], len(rows) > limit

    def position(self, job: Job) -> int | None:
        """Place of a waiting job, 1 for the next to run; None when it does not wait."""
        if job.state != QUEUED:
            return None
        before = (jobs.c.state == QUEUED) & (jobs.c.seq <= job.seq)
        with self._reading() as connection:
            return max(1, connection.execute(_count().where(before)).scalar_one())

    def waiting(self) -> list[int]:
        """Places in the order of submission of all waiting jobs, the next to run first."""
        with self._reading() as connection:
            chosen = sa.select(jobs.c.seq).where(jobs.c.state == QUEUED).order_by(jobs.c.seq)
            return list(connection.execute(chosen).scalars())

    def cancel(self, id: str, owner: str) -> Job | None:  # noqa: A002 - its name
        """Cancel a waiting job at once and ask a running one to stop; others stay as they are."""
        mine = (jobs.c.id == id) & (jobs.c.owner == owner)
        with self._engine.begin() as connection:
            waiting = sa.update(jobs).where(mine, jobs.c.state == QUEUED)
            connection.execute(waiting.values(state=CANCELLED, ended_at=time.time()))
            running = sa.update(jobs).where(mine, jobs.c.state == RUNNING)
            connection.execute(running.values(cancelling=True))
        return self.get(id, owner)

    def delete(self, id: str, owner: str) -> Job | None:  # noqa: A002 - its name
        """Forget an ended job and return what it was; its files are the caller's to remove.

        A short row stays, so that pages after it and repeats of its submission are understood.

        Raises:
            StillActiveError: it waits or runs.
        """
        job = self.get(id, owner)
        if job is None:
            return None
        forgotten = {
            "state": DELETED,
            "request": "{}",
            "error": None,
            "content": None,
            "thumbnail": None,
        }
        with self._engine.begin() as connection:
            ended = sa.update(jobs).where(jobs.c.id == id, jobs.c.state.in_(ENDED))
            if connection.execute(ended.values(forgotten)).rowcount == 0:
                raise StillActiveError(f"video {id!r} is {job.state}; cancel it first")
        return job

    def preview(self, id: str) -> bytes | None:  # noqa: A002 - its name
        """The newest preview of a running job, a JPEG."""
        with self._reading() as connection:
            chosen = sa.select(previews.c.picture).where(previews.c.id == id)
            return connection.execute(chosen).scalar()

    # what workers do

    def claim(self, worker: str, models: Sequence[str]) -> Job | None:
        """Take the first waiting job of these models; None when none waits."""
        first = (
            sa.select(jobs.c.id)
            .where(jobs.c.state == QUEUED, jobs.c.model.in_(models))
            .order_by(jobs.c.seq)
            .limit(1)
        )
        with self._reading() as connection:  # an empty queue is not worth a write
            if connection.execute(first).first() is None:
                return None
        with self._engine.begin() as connection:
            # PostgreSQL passes over rows that others are taking; SQLite has one writer at a time
            locked = first.with_for_update(skip_locked=True)
            id = connection.execute(locked).scalar()  # noqa: A001 - its name
            if id is None:
                return None
            taken = sa.update(jobs).where(jobs.c.id == id)
            connection.execute(
                taken.values(
                    state=RUNNING,
                    worker=worker,
                    attempt=jobs.c.attempt + 1,
                    stage="load",
                    step=0,
                    steps=0,
                    seconds_left=None,
                    started_at=time.time(),
                )
            )
            return self._row(connection, id)

    def beat(self, job: Job, progress: Progress) -> Verdict:
        """A sign of life with progress; what the worker should do."""
        with self._engine.begin() as connection:
            values: dict[str, Any] = {
                "beat": jobs.c.beat + 1,
                "stage": progress.stage,
                "step": progress.step,
                "steps": progress.steps,
                "seconds_left": progress.seconds_left,
            }
            if progress.preview is not None:
                values["preview"] = jobs.c.preview + 1
            if connection.execute(self._held(job).values(values)).rowcount == 0:
                return "lost"
            row = self._row(connection, job.id)
            if progress.preview is not None:
                connection.execute(sa.delete(previews).where(previews.c.id == job.id))
                picture = {"id": job.id, "number": row.preview, "picture": progress.preview}
                connection.execute(sa.insert(previews).values(picture))
        return "cancel" if row.cancelling else "go on"

    def finish(self, job: Job, result: Result) -> bool:
        """The video is in the store; False when the job is no longer this attempt's."""
        return self._end(job, state=COMPLETED, **asdict(result))

    def fail(self, job: Job, code: str, reason: str) -> bool:
        """The job cannot be done; False when it is no longer this attempt's."""
        return self._end(job, state=FAILED, error_code=code, error=reason)

    def stopped(self, job: Job) -> bool:
        """The job was cancelled while it ran; False when it is no longer this attempt's."""
        return self._end(job, state=CANCELLED)

    def hand_back(self, job: Job) -> bool:
        """The worker stops in an orderly way; the job waits again, at its old place."""
        with self._engine.begin() as connection:
            return self._requeue(connection, job, job.deaths)

    # what the caretaker does

    def running(self) -> list[Job]:
        """Every running job."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(*_COLUMNS).where(jobs.c.state == RUNNING))
            return [_job(row) for row in rows]

    def ended_before(self, moment: float, most: int = 500) -> list[Job]:
        """Jobs that ended before a time of the wall clock, the oldest first."""
        ended = jobs.c.state.in_(ENDED) & (jobs.c.ended_at < moment)
        with self._reading() as connection:
            chosen = sa.select(*_COLUMNS).where(ended).order_by(jobs.c.ended_at).limit(most)
            return [_job(row) for row in connection.execute(chosen)]

    def abandon(self, job: Job, reason: str) -> bool:
        """The worker died: once the job waits again, then it has failed.

        Args:
            reason: what is known, for people.

        Returns:
            False when the job is no longer this attempt's.
        """
        deaths = job.deaths + 1
        if deaths >= MAX_DEATHS and not job.cancelling:
            told = f"its worker died {deaths} times, last: {reason}"
            return self._end(job, state=FAILED, deaths=deaths, error_code="worker_died", error=told)
        with self._engine.begin() as connection:
            return self._requeue(connection, job, deaths)

    def abandon_worker(self, worker: str, reason: str) -> list[Job]:
        """Abandon whatever a dead worker was running; those jobs."""
        lost = [job for job in self.running() if job.worker == worker]
        return [job for job in lost if self.abandon(job, reason)]

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._reading() as connection:
            grouped = sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)
            found = {row[0]: row[1] for row in connection.execute(grouped)}
        return {state: found.get(state, 0) for state in STATES}

    # inside

    def _reading(self) -> Any:
        return self._engine.connect().execution_options(reads=True)

    def _row(self, connection: sa.Connection, id: str) -> Job:  # noqa: A002 - its name
        row = connection.execute(sa.select(*_COLUMNS).where(jobs.c.id == id)).one()
        return _job(row)

    def _repeated(self, connection: sa.Connection, draft: Draft) -> Job | None:
        if draft.idempotency_key is None:
            return None
        same = jobs.c.idempotency_key == draft.idempotency_key
        chosen = sa.select(*_COLUMNS).where(jobs.c.owner == draft.owner, same)
        row = connection.execute(chosen).first()
        if row is None:
            return None
        if row.fingerprint != draft.fingerprint:
            raise RepeatError(
                f"idempotency key {draft.idempotency_key!r} was used for another request; "
                "use a new key for a new video"
            )
        if row.state == DELETED:
            raise RepeatError(
                f"the video of idempotency key {draft.idempotency_key!r} was deleted; "
                "use a new key to make it again"
            )
        return _job(row)

    def _check_room(self, connection: sa.Connection, owner: str) -> None:
        active = _count().where(jobs.c.state.in_(ACTIVE))
        mine = connection.execute(active.where(jobs.c.owner == owner)).scalar_one()
        if mine >= self._limits.client_jobs:
            raise QueueFullError(
                f"you have {mine} videos waiting or running, at most {self._limits.client_jobs} "
                "are taken; wait for one to finish, or cancel one"
            )
        if connection.execute(active).scalar_one() >= self._limits.queue_jobs:
            raise QueueFullError(
                f"the queue holds {self._limits.queue_jobs} videos and takes no more now; "
                "try again later"
            )

    def _held(self, job: Job) -> sa.Update:
        mine = (jobs.c.id == job.id) & (jobs.c.attempt == job.attempt)
        return sa.update(jobs).where(mine, jobs.c.state == RUNNING)

    def _end(self, job: Job, **values: Any) -> bool:
        values = {**_NO_WORKER, "ended_at": time.time(), **values}
        with self._engine.begin() as connection:
            done = connection.execute(self._held(job).values(values)).rowcount == 1
            if done:
                connection.execute(sa.delete(previews).where(previews.c.id == job.id))
        return done

    def _requeue(self, connection: sa.Connection, job: Job, deaths: int) -> bool:
        ended = sa.case((jobs.c.cancelling, CANCELLED), else_=QUEUED)
        values = {**_NO_WORKER, "state": ended, "step": 0, "deaths": deaths}
        connection.execute(sa.delete(previews).where(previews.c.id == job.id))
        return connection.execute(self._held(job).values(values)).rowcount == 1


def _count() -> Any:
    return sa.select(sa.func.count()).select_from(jobs)


def _job(row: Any) -> Job:
    return Job(**dict(zip(JOB_COLUMNS, row, strict=True)))
