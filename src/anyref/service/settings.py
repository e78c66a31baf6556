"""What a service is told when it starts: where things lie, what it serves, what it refuses."""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from anyref.errors import AnyRefError

MEBIBYTE = 2**20
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class ServiceError(AnyRefError):
    """A service that cannot start, or go on, as it was told."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, one client and the whole queue may take.

    Args:
        body_bytes: of a request's body. picture_bytes: of one uploaded picture.
        picture_pixels: of one uploaded picture. fields: of one form.
        video_pixels: width x height x frames of one video.
        steps: denoising steps of one video.
        client_jobs: queued and running jobs of one client. queue_jobs: of all together.
        body_seconds: to send a whole body. idle_seconds: between two pieces of it.
        bodies: of more than 1 MiB, held at once. streams: progress streams held at once.
        decoders: pictures decoded at once, one sandbox each.
        decoded_bytes: of decoded pictures remembered for their next use.
        cutters: requests for a mask that wait or run; one runs at a time.
    """

    body_bytes: int = 64 * MEBIBYTE
    picture_bytes: int = 32 * MEBIBYTE
    picture_pixels: int = 25 * 10**6
    fields: int = 64
    video_pixels: int = 1280 * 720 * 129
    steps: int = 200
    client_jobs: int = 50
    queue_jobs: int = 10_000
    body_seconds: float = 120.0
    idle_seconds: float = 15.0
    bodies: int = 16
    streams: int = 500
    decoders: int = 2
    decoded_bytes: int = 64 * MEBIBYTE
    cutters: int = 8


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds, all measured on clocks that nobody can set.

    Args:
        heartbeat: between two signs of life of a running job.
        lease: without a sign of life, after which a job's worker counts as dead.
        idle: between two looks at an empty queue.
        job: that one job may run. watch: between two looks at jobs that clients watch.
        sweep: between two searches for files that belong to no job.
        keep: from a video's end to its removal; None keeps all. The one time that is taken from the
            wall clock, so a video goes only when two searches in a row found it overdue.
        grace: for workers to stop by themselves.
    """

    heartbeat: float = 1.0
    lease: float = 20.0
    idle: float = 0.3
    job: float = 4 * 3600.0
    watch: float = 0.5
    sweep: float = 3600.0
    grace: float = 5.0
    keep: float | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One service.

    Args:
        database: SQLAlchemy URL, `sqlite:///...` or `postgresql+psycopg://...`.
        store: a folder, or an fsspec URL such as `s3://bucket/videos`.
        models: names or folders of models, the first being the default.
        devices: one worker each; none makes a front door without workers.
        dtype: of the weights, as stored when None.
        memory: how workers hold a model, as `load_pipeline` reads it, for the model's usual size.
        keys: client names by the SHA-256 of their keys; empty serves everybody on this machine.
        hosts: names under which browsers may reach a service without keys.
        stub_step: seconds of a step of the stub model.
    """

    database: str
    store: str
    models: tuple[str, ...]
    devices: tuple[str, ...] = ()
    dtype: str | None = None
    memory: str | None = None
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    hosts: tuple[str, ...] = LOOPBACK_NAMES
    stub_step: float = 0.02
    limits: Limits = Limits()
    times: Times = Times()

    def to_json(self) -> str:
        """For a worker; without the clients' keys, which no worker needs."""
        return json.dumps(asdict(self) | {"keys": {}})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read back what `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        nested = {"limits": Limits(**values["limits"]), "times": Times(**values["times"])}
        lists = {name: tuple(values[name]) for name in ("models", "devices", "hosts")}
        return cls(**{**values, **nested, **lists})


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, keys: dict[str, str]) -> None:
    """Raise ServiceError for an address that others reach while anybody would be let in."""
    if not keys and not is_loopback(host):
        raise ServiceError(
            f"host {host!r} can be reached from other machines and no API keys are given; add "
            "--keys FILE with one `name key` per line, or serve on 127.0.0.1"
        )


def default_database(folder: Path) -> str:
    """SQLite in the service's own folder."""
    return f"sqlite:///{(folder / 'queue.sqlite').resolve()}"


def worker_environment() -> dict[str, str]:
    """The environment of a worker: this one, without what only the front door needs."""
    return {name: value for name, value in os.environ.items() if name != "ANYREF_KEYS"}
