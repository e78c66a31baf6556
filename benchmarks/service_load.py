"""What a service holds with the stub model: status reads, submissions, streams, memory.

    python benchmarks/service_load.py --out service_load.json [--parts reads queue streams memory]

Clients and service share this machine. Reads are sent on a timetable, not one after the other's
answer, and timed from when they were due, so that a service that stalls cannot hide it. The
server's processor time per request is measured too, which neighbours on the machine hardly change.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anyref.service.settings import Limits, Settings

PARTS = ("reads", "queue", "streams", "memory")
SERVE = (
    "import sys; from anyref.service.settings import Settings; "
    "from anyref.service.server import serve; "
    "serve(Settings.from_json(sys.argv[1]), '127.0.0.1', int(sys.argv[2]))"
)
PORT = 8699
LONG_STEPS, LONG_STEP_SECONDS = 200, 1.0
READS_PER_SECOND = 320
CONNECTIONS = 16
MIB = 2**20


@dataclass
class Connection:
    """One kept-alive connection that asks one thing at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", PORT))

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of an answer."""
        await self.send(method, path, body)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def send(self, method: str, path: str, body: bytes = b"") -> None:
        """Ask without waiting."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)
        await self.writer.drain()


@contextmanager
def service(folder: Path, step_seconds: float) -> Iterator[int]:
    """A service with two workers; its process id."""
    settings = Settings(
        database=f"sqlite:///{folder / 'queue.sqlite'}",
        store=str(folder / "store"),
        models=("stub",),
        devices=("cpu", "cpu"),
        stub_step=step_seconds,
        limits=replace(Limits(), client_jobs=20_000, queue_jobs=20_000),
    )
    process = subprocess.Popen([sys.executable, "-c", SERVE, settings.to_json(), str(PORT)])
    try:
        asyncio.run(_ready())
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)


async def _ready() -> None:
    for _ in range(600):
        await asyncio.sleep(0.1)
        try:
            connection = await Connection.open()
            _, body = await connection.ask("GET", "/healthz")
        except OSError:
            continue
        if json.loads(body)["status"] == "ok":
            return
    raise SystemExit("the service did not start")


async def submit(connection: Connection, prompt: str, steps: int = 8) -> str:
    """Queue one video; its id."""
    fields = {"prompt": prompt, "num_inference_steps": steps}
    status, body = await connection.ask("POST", "/v1/videos", json.dumps(fields).encode())
    if status != 200:
        raise SystemExit(f"refused: {status} {body[:200]!r}")
    return str(json.loads(body)["id"])


async def occupy() -> list[str]:
    """Keep both workers busy for longer than a part takes; the two videos."""
    connection = await Connection.open()
    ids = [await submit(connection, f"long {i}", LONG_STEPS) for i in range(2)]
    while json.loads((await connection.ask("GET", "/healthz"))[1])["running"] < 2:
        await asyncio.sleep(0.1)
    return ids


async def read_on_time(ids: list[str], seconds: float) -> list[float]:
    """Seconds that each of the timetable's reads took, from when it was due."""
    connections = [await Connection.open() for _ in range(CONNECTIONS)]
    start, took = time.perf_counter() + 0.2, []

    async def reader(place: int) -> None:
        due = start + place / READS_PER_SECOND
        while due < start + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            status, _ = await connections[place].ask("GET", f"/v1/videos/{ids[place % len(ids)]}")
            if status != 200:
                raise SystemExit(f"a read was answered with {status}")
            took.append(time.perf_counter() - due)
            due += CONNECTIONS / READS_PER_SECOND

    await asyncio.gather(*(reader(place) for place in range(CONNECTIONS)))
    return took


def processor_seconds(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summary(seconds: list[float]) -> dict[str, float]:
    """Milliseconds: median, 99th percentile and longest."""
    cuts = statistics.quantiles(seconds, n=100)
    values = {"median": cuts[49], "p99": cuts[98], "longest": max(seconds)}
    return {name: round(value * 1000, 1) for name, value in values.items()}


def measure_reads(folder: Path, seconds: float) -> dict[str, Any]:
    """Reads on a timetable while two jobs run."""

    async def part(pid: int) -> tuple[list[float], float]:
        ids = await occupy()
        used = processor_seconds(pid)
        took = await read_on_time(ids, seconds)
        return took, processor_seconds(pid) - used

    with service(folder, LONG_STEP_SECONDS) as pid:
        took, used = asyncio.run(part(pid))
    return {
        "reads_per_second": round(len(took) / seconds),
        "milliseconds": summary(took),
        "processor_milliseconds_each": round(used / len(took) * 1000, 2),
    }


def measure_queue(folder: Path, count: int) -> dict[str, Any]:
    """Submissions into an empty queue and behind a long one, while two jobs run."""

    async def part(pid: int) -> dict[str, Any]:
        await occupy()
        connection, found = await Connection.open(), {}
        for name, number in (("empty", 100), ("", count - 100), (f"behind_{count}", 100)):
            took, used = [], processor_seconds(pid)
            for i in range(number):
                start = time.perf_counter()
                await submit(connection, f"number {i}")
                took.append(time.perf_counter() - start)
            used = (processor_seconds(pid) - used) / number * 1000
            if name:
                found[name] = {**summary(took), "processor_each": round(used, 2)}
        return found

    with service(folder, LONG_STEP_SECONDS) as pid:
        return {"milliseconds": asyncio.run(part(pid))}


def measure_streams(folder: Path, count: int, seconds: float) -> dict[str, Any]:
    """Progress streams held, events each, and reads meanwhile."""

    async def follow(id_: str) -> int:
        connection = await Connection.open()
        await connection.send("GET", f"/v1/videos/{id_}/events")
        events, end = 0, time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            try:
                line = await asyncio.wait_for(connection.reader.readline(), left)
            except asyncio.TimeoutError:
                break
            events += line.startswith(b"event: progress")
        connection.writer.close()
        return events

    async def part() -> tuple[list[int], list[float]]:
        ids = await occupy()
        streams = asyncio.gather(*(follow(ids[i % 2]) for i in range(count)))
        took = await read_on_time(ids, seconds - 1)
        return await streams, took

    with service(folder, LONG_STEP_SECONDS):
        events, took = asyncio.run(part())
    return {
        "streams": count,
        "events_each": [min(events), max(events)],
        "reads_milliseconds": summary(took),
    }


def resident(pid: int) -> dict[str, float]:
    """MiB of memory of a service and of each of its workers."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += [int(child) for child in (task / "children").read_text().split()]
    pages = {"server": pid} | {f"worker_{i}": child for i, child in enumerate(sorted(children))}
    size = os.sysconf("SC_PAGE_SIZE")
    return {
        name: round(int(Path(f"/proc/{p}/statm").read_text().split()[1]) * size / MIB, 1)
        for name, p in pages.items()
    }


def measure_memory(folder: Path, count: int) -> dict[str, Any]:
    """Memory after each tenth of so many jobs."""

    async def work(upto: int, done: int) -> None:
        connection = await Connection.open()
        for i in range(done, upto):
            await submit(connection, f"number {i}", steps=1)
        while True:
            health = json.loads((await connection.ask("GET", "/healthz"))[1])
            if health["queued"] + health["running"] == 0:
                return
            await asyncio.sleep(0.2)

    rows, tenth, start = [], count // 10, time.perf_counter()
    with service(folder, 0.0) as pid:
        for done in range(0, count, tenth):
            asyncio.run(work(done + tenth, done))
            rows.append({"jobs": done + tenth, **resident(pid)})
            print(rows[-1], flush=True)
    rate = count / (time.perf_counter() - start)
    return {"jobs_per_second": round(rate, 1), "mebibytes": rows}


def main() -> None:
    """Measure the chosen parts and write what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--jobs", type=int, default=10_000)
    given = parser.parse_args()
    measure = {
        "reads": lambda folder: measure_reads(folder, given.seconds),
        "queue": lambda folder: measure_queue(folder, 1000),
        "streams": lambda folder: measure_streams(folder, 100, given.seconds),
        "memory": lambda folder: measure_memory(folder, given.jobs),
    }
    found = json.loads(given.out.read_text()) if given.out.is_file() else {"cores": os.cpu_count()}
    for part in given.parts:
        with tempfile.TemporaryDirectory() as folder:
            found[part] = measure[part](Path(folder))
        print(part, json.dumps(found[part]), flush=True)
        given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
