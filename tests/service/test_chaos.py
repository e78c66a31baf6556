"""Servers, workers and clients are killed at random, and nothing is lost or doubled."""

from __future__ import annotations

import io
import json
import random
import signal
import socket
import threading
import time
from collections import Counter
from dataclasses import replace

import httpx
import pytest
from PIL import Image

from anyref.media import read_metadata
from anyref.service.jobs import MAX_DEATHS
from anyref.service.queue import Queue
from anyref.service.settings import Limits, Settings, Times
from anyref.service.store import Store
from anyref.service.tables import connect
from postgres import temporary_database
from services import Running

pytestmark = pytest.mark.slow

NUM_JOBS = 200
SERVER_KILLS = 20
WORKER_KILLS = 40
NUM_CLIENTS = 4
PATIENCE_SECONDS = 900


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request, tmp_path):
    base = Settings(
        database=f"sqlite:///{tmp_path / 'queue.sqlite'}",
        store=str(tmp_path / "store"),
        models=("stub",),
        devices=("cpu", "cpu"),
        stub_step=0.05,
        limits=Limits(client_jobs=10 * NUM_JOBS),
        times=Times(heartbeat=0.3, lease=3.0, sweep=5.0),
    )
    if request.param == "sqlite":
        yield base
        return
    with temporary_database() as url:
        yield replace(base, database=url)


class Client(threading.Thread):
    """Submits jobs until each is accepted; now and then it dies in the middle of a request."""

    def __init__(self, service: Running, keys: list[str], seed: int) -> None:
        super().__init__()
        self.accepted: dict[str, set[str]] = {key: set() for key in keys}
        self.deaths = 0
        self._service = service
        self._random = random.Random(seed)

    def run(self):
        for key in self.accepted:
            while not self.accepted[key]:
                if self._random.random() < 0.3:
                    self._die(key)
                self._submit(key)
            if self._random.random() < 0.2:
                self._submit(key)  # the answer was lost, say

    def _submit(self, key: str) -> None:
        try:
            answer = httpx.post(
                f"{self._service.url}/v1/videos",
                data={"prompt": f"number {key}", "num_inference_steps": 4 + int(key) % 16},
                files={"input_reference": ("x.png", picture(key), "image/png")},
                headers={"Idempotency-Key": key},
                timeout=20,
            )
        except httpx.TransportError:
            time.sleep(0.3)
            return
        if answer.status_code == 503:
            time.sleep(0.3)
            return
        assert answer.status_code == 200, answer.text
        self.accepted[key].add(answer.json()["id"])

    def _die(self, key: str) -> None:
        """Send a part of the request, or all of it, and be gone before the answer."""
        body = json.dumps({"prompt": f"number {key}"}).encode()
        head = (
            "POST /v1/videos HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nIdempotency-Key: dead-{key}-{self.deaths}\r\n\r\n"
        )
        whole = head.encode() + body
        sent = whole if self._random.random() < 0.3 else whole[: self._random.randrange(len(whole))]
        self.deaths += 1
        try:
            with socket.create_connection(("127.0.0.1", self._service.port), timeout=5) as opened:
                opened.sendall(sent)
        except OSError:
            return


def picture(key: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (int(key) % 256, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def test_nothing_is_lost_and_nothing_is_doubled(tmp_path, settings):
    service = Running(tmp_path, settings=settings)
    service.start()
    try:
        clients = start_clients(service)
        wreak_havoc(service, random.Random(1))
        for client in clients:
            client.join(PATIENCE_SECONDS)
            assert not client.is_alive()
        service.wait_until_ready()
        jobs = wait_for_all(service)
        check_nothing_is_lost(service, clients, jobs)
    finally:
        assert service.stop() in (0, -signal.SIGTERM)
    check_nothing_is_doubled(settings, jobs)


def start_clients(service: Running) -> list[Client]:
    keys = [str(i) for i in range(NUM_JOBS)]
    clients = [Client(service, keys[i::NUM_CLIENTS], seed=i) for i in range(NUM_CLIENTS)]
    for client in clients:
        client.start()
    return clients


def wreak_havoc(service: Running, randomness: random.Random) -> None:
    """Kill the server 20 times, some of them before it is ready, and workers in between."""
    killed = 0
    for kill in range(SERVER_KILLS):
        for _ in range(WORKER_KILLS // SERVER_KILLS):
            if kill % 5:
                wait_until_one_runs(service)
            time.sleep(randomness.uniform(0.0, 0.15))  # a job takes 0.2 to 1 s
            killed += service.kill_worker(randomness)
        time.sleep(randomness.uniform(0.0, 1.0))
        service.kill()
        service.start()
    assert killed >= SERVER_KILLS


def wait_until_one_runs(service: Running) -> None:
    service.wait_until_ready()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if httpx.get(f"{service.url}/healthz", timeout=20).json()["running"]:
            return
        time.sleep(0.05)


def wait_for_all(service: Running) -> list[dict]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        health = httpx.get(f"{service.url}/healthz", timeout=20).json()
        if health["queued"] + health["running"] == 0:
            break
        time.sleep(0.5)
    jobs: list[dict] = []
    page = {"data": [], "has_more": True, "last_id": None}
    while page["has_more"]:
        after = {"after": page["last_id"]} if page["last_id"] else {}
        page = httpx.get(
            f"{service.url}/v1/videos", params={"limit": 100, **after}, timeout=20
        ).json()
        jobs += page["data"]
    return jobs


def check_nothing_is_lost(service: Running, clients: list[Client], jobs: list[dict]) -> None:
    accepted = {key: ids for client in clients for key, ids in client.accepted.items()}
    assert len(accepted) == NUM_JOBS
    assert {key: len(ids) for key, ids in accepted.items()} == dict.fromkeys(accepted, 1)
    by_id = {job["id"]: job for job in jobs}
    assert len(by_id) == len(jobs)
    assert {next(iter(ids)) for ids in accepted.values()} <= set(by_id)
    states = Counter(job["status"] for job in jobs)
    assert set(states) <= {"completed", "failed"}
    assert states["completed"] >= NUM_JOBS // 2, states
    for job in jobs:
        if job["status"] == "failed":
            assert job["error"]["code"] == "worker_died"
            assert f"its worker died {MAX_DEATHS} times" in job["error"]["message"]
        else:
            content = httpx.get(f"{service.url}/v1/videos/{job['id']}/content", timeout=20)
            assert content.content[4:8] == b"ftyp"


def check_nothing_is_doubled(settings: Settings, jobs: list[dict]) -> None:
    """Every finished job has one video, which is its own; the sweeps left no other file."""
    engine = connect(settings.database)
    queue, store = Queue(engine), Store(settings.store)
    videos = [name for name in store.names() if name.endswith(".mp4")]
    rows = queue.get_many([job["id"] for job in jobs])
    assert len(rows) == len(jobs)
    contents = {row.content for row in rows.values() if row.state == "completed"}
    assert contents <= set(videos)
    for row in rows.values():
        assert (row.content is not None) == (row.state == "completed")
        assert row.deaths <= MAX_DEATHS
        if row.content is not None:
            assert read_metadata(store.fetch(row.content, None))["id"] == row.id
    engine.dispose()
    assert any(row.deaths for row in rows.values())  # some were killed while a job ran
