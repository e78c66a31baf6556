"""A job as everybody reads it: its states, and one row of the queue."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED, DELETED = (
    "queued",
    "running",
    "completed",
    "failed",
    "cancelled",
    "deleted",
)
ACTIVE = (QUEUED, RUNNING)
ENDED = (COMPLETED, FAILED, CANCELLED)
STATES = (*ACTIVE, *ENDED)
MAX_DEATHS = 2  # a worker that died is forgiven once


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is queued: a checked request and what to show of it.

    Args:
        id: unguessable. owner: who may see it.
        request: a `Request` as JSON, its pictures named as in the store.
        width, height, num_frames: of the finished video. fps: its frames per second.
        idempotency_key: the client's own name for this submission.
        fingerprint: of what was submitted, to tell a repeat from a mix-up.
    """

    id: str
    owner: str
    request: str
    model: str
    width: int
    height: int
    num_frames: int
    fps: float
    idempotency_key: str | None = None
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class Job(Draft):
    """One row of the queue.

    Args:
        seq: place in the order of submission. state: one of `STATES`, or deleted.
        attempt: how often a worker took it; also the token without which no result is accepted.
        deaths: how often its worker died.
        worker: who runs it. beat: counts its signs of life.
        cancelling: a client asked to stop it.
        stage, step, steps, seconds_left: progress of the running attempt.
        preview: how many previews there have been.
        error_code, error: why it failed, for programs and for people.
        content, thumbnail: names in the store. content_bytes: size of the video.
        created_at, started_at, ended_at: by the wall clock, for people only.
    """

    seq: int
    state: str
    attempt: int
    deaths: int
    worker: str | None
    beat: int
    cancelling: bool
    stage: str | None
    step: int
    steps: int
    seconds_left: float | None
    preview: int
    error_code: str | None
    error: str | None
    content: str | None
    thumbnail: str | None
    content_bytes: int | None
    created_at: float
    started_at: float | None
    ended_at: float | None

    @property
    def fields(self) -> dict[str, Any]:
        """The request's fields."""
        return dict(json.loads(self.request))

    @property
    def percent(self) -> int:
        """Steps done of all, 0 to 99 while it runs; 100 only for a finished video."""
        if self.state == COMPLETED:
            return 100
        return min(99, 100 * self.step // self.steps) if self.steps else 0


JOB_COLUMNS = tuple(field.name for field in fields(Job))


@dataclass(frozen=True)
class Progress:
    """How far a running job is.

    Args:
        stage: "load", "encode", "steps", "decode" or "write". seconds_left: None when unknown.
        preview: a small JPEG of the video so far, when there is a new one.
    """

    stage: str
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None
    preview: bytes | None = None


@dataclass(frozen=True)
class Result:
    """What a finished job leaves in the store: names, and the video's size in bytes."""

    content: str
    thumbnail: str | None
    content_bytes: int
