"""Progress as server-sent events: one look at the queue serves every stream."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from bisect import bisect_left
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from anyref.service.jobs import ENDED, QUEUED, Job
from anyref.service.queue import Queue
from anyref.service.refusals import Refusal
from anyref.service.settings import Limits, Times
from anyref.service.views import video_of

KEEPALIVE_SECONDS = 15.0


@dataclass(frozen=True)
class Sight:
    """A job as it was at one look.

    Args:
        job: None when it was deleted. place: in the queue, 1 for the next.
        preview: its newest preview's number and JPEG.
    """

    job: Job | None
    place: int | None = None
    preview: tuple[int, bytes] | None = None


@dataclass(eq=False)
class Stream:
    """One client that watches one job."""

    id: str
    news: asyncio.Event = field(default_factory=asyncio.Event)
    sight: Sight | None = None


class Watcher:
    """Looks at watched jobs while there are any.

    Args:
        times: how often.
    """

    def __init__(self, queue: Queue, times: Times, limits: Limits) -> None:
        self.streams: set[Stream] = set()
        self._queue = queue
        self._times = times
        self._limits = limits
        self._previews: dict[str, tuple[int, bytes]] = {}
        self._task: asyncio.Task[None] | None = None

    def open(self, id: str) -> Stream:  # noqa: A002 - its name
        """Begin to watch a job; raises Refusal when too many are watched."""
        if len(self.streams) >= self._limits.streams:
            raise Refusal(
                429,
                f"{self._limits.streams} progress streams are open, the most this service holds; "
                "ask for the video's status instead",
                code="too_many_streams",
                headers={"Retry-After": "5"},
            )
        stream = Stream(id)
        self.streams.add(stream)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return stream

    async def follow(self, stream: Stream) -> AsyncIterator[bytes]:
        """The stream's events until its job ends or its client goes."""
        shown: Sight | None = None
        try:
            while True:
                try:
                    await asyncio.wait_for(stream.news.wait(), KEEPALIVE_SECONDS)
                except asyncio.TimeoutError:
                    yield b": still here\n\n"
                    continue
                stream.news.clear()
                sight = stream.sight
                for event in _events(shown, sight, self._times.keep):
                    yield event
                shown = sight
                if sight is not None and (sight.job is None or sight.job.state in ENDED):
                    return
        finally:
            self.streams.discard(stream)

    async def _run(self) -> None:
        while self.streams:
            watched = sorted({stream.id for stream in self.streams})
            try:
                sights = await run_in_threadpool(self._look, watched)
            except SQLAlchemyError as error:
                sys.stderr.write(f"watcher: {error}\n")
                sights = {}
            for stream in self.streams:
                sight = sights.get(stream.id)
                if sight is not None and sight != stream.sight:
                    stream.sight = sight
                    stream.news.set()
            await asyncio.sleep(self._times.watch)
        self._previews.clear()

    def _look(self, ids: list[str]) -> dict[str, Sight]:
        jobs = self._queue.get_many(ids)
        waits = any(job.state == QUEUED for job in jobs.values())
        line = self._queue.waiting() if waits else []
        return {known: self._sight(jobs.get(known), line) for known in ids}

    def _sight(self, job: Job | None, line: list[int]) -> Sight:
        if job is None:
            return Sight(None)
        known = self._previews.get(job.id)
        if job.preview and (known is None or known[0] != job.preview):
            picture = self._queue.preview(job.id)
            if picture is not None:
                known = self._previews[job.id] = (job.preview, picture)
        place = bisect_left(line, job.seq) + 1 if job.state == QUEUED else None
        return Sight(job, place, known)


def _events(shown: Sight | None, sight: Sight | None, keep: float | None) -> list[bytes]:
    if sight is None:
        return []
    if sight.job is None:
        return [_event("deleted", "{}")]
    events = []
    old = shown.preview if shown is not None else None
    if sight.preview is not None and sight.preview != old and sight.job.state not in ENDED:
        number, picture = sight.preview
        uri = "data:image/jpeg;base64," + base64.b64encode(picture).decode("ascii")
        events.append(_event("preview", json.dumps({"number": number, "picture": uri})))
    kind = sight.job.state if sight.job.state in ENDED else "progress"
    video = video_of(sight.job, sight.place, keep)
    return [*events, _event(kind, video.model_dump_json())]


def _event(kind: str, data: str) -> bytes:
    return f"event: {kind}\ndata: {data}\n\n".encode()
