"""A service without processes: its parts in this one, and a worker that is called by hand."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from anyref.service.jobs import Draft
from anyref.service.makers import StubMaker
from anyref.service.queue import Queue
from anyref.service.settings import Limits, Settings, Times
from anyref.service.store import new_id
from anyref.service.tables import connect, metadata
from anyref.service.worker import Worker
from postgres import temporary_database

TIMES = Times(heartbeat=0.05, lease=1.0, idle=0.02, watch=0.02)


@pytest.fixture(scope="session")
def server():
    """The URL of a PostgreSQL server's database, for the slow half of these tests."""
    with temporary_database() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request, tmp_path):
    """The URL of an empty queue."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'queue.sqlite'}"
    url = request.getfixturevalue("server")
    engine = connect(url)
    metadata.drop_all(engine)
    engine.dispose()
    return url


@pytest.fixture
def settings(tmp_path, database):
    return Settings(
        database=database,
        store=str(tmp_path / "store"),
        models=("stub",),
        hosts=("testserver",),
        stub_step=0.0,
        limits=Limits(client_jobs=5, queue_jobs=8),
        times=TIMES,
    )


@pytest.fixture
def queue(settings):
    engine = connect(settings.database)
    yield Queue(engine, settings.limits)
    engine.dispose()


@pytest.fixture
def draft():
    """Makes drafts of jobs."""
    numbers = itertools.count()

    def make(prompt="a fox", owner="ann", **fields):
        request = {"prompt": prompt, "model": "stub", "seed": next(numbers)}
        defaults = {
            "id": new_id(),
            "owner": owner,
            "request": json.dumps(request),
            "model": "stub",
            "width": 96,
            "height": 96,
            "num_frames": 9,
            "fps": 8.0,
        }
        return Draft(**{**defaults, **fields})

    return make


@pytest.fixture
def worker(settings, queue):
    return Worker("worker-1", settings, queue, StubMaker(0.0))


@dataclass(frozen=True)
class Pictures:
    """Pictures as clients send them."""

    folder: Path

    @staticmethod
    def png(color="orange", size=(40, 30), mode="RGB") -> bytes:
        return encoded(Image.new(mode, size, color), "PNG")

    @staticmethod
    def jpeg(color="orange", size=(40, 30)) -> bytes:
        return encoded(Image.new("RGB", size, color), "JPEG")


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.fixture
def pictures(tmp_path):
    return Pictures(tmp_path)
