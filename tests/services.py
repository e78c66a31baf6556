"""Real services for the slow tests: processes that can be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from anyref.service.settings import Settings

START_SECONDS = 300


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


STUB = ("--model", "stub", "--device", "cpu", "--device", "cpu")
FROM_SETTINGS = (
    "import sys; from anyref.service.settings import Settings; "
    "from anyref.service.server import serve; "
    "serve(Settings.from_json(sys.argv[1]), '127.0.0.1', int(sys.argv[2]))"
)


@dataclass
class Running:
    """A service in a folder of its own.

    Args:
        options: of `anyref serve`. settings: instead of options, what the command line hides.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    options: tuple[str, ...] = STUB
    settings: Settings | None = None
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = ["-m", "anyref", "serve", "--port", str(self.port)]
        command += ["--folder", str(self.folder / "service"), *self.options]
        if self.settings is not None:
            command = ["-c", FROM_SETTINGS, self.settings.to_json(), str(self.port)]
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, *command], stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                health = httpx.get(f"{self.url}/healthz", timeout=5).json()
            except httpx.TransportError:
                assert self.process.poll() is None, (self.folder / "log.txt").read_text()
            else:
                if health["status"] == "ok":
                    return
            time.sleep(0.1)
        raise AssertionError(f"not ready: {(self.folder / 'log.txt').read_text()}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(30)

    def workers(self) -> list[int]:
        """Process ids of this service's workers."""
        path = Path(f"/proc/{self.process.pid}/task")
        children: list[int] = []
        try:
            for task in path.iterdir():
                children += [int(pid) for pid in (task / "children").read_text().split()]
        except OSError:
            return []
        return [pid for pid in children if b"anyref.service.worker" in _command(pid)]

    def kill_worker(self, random) -> bool:
        workers = self.workers()
        if not workers:
            return False
        try:
            os.kill(random.choice(workers), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


@contextmanager
def running(folder: Path, *options: str, settings: Settings | None = None):
    service = Running(folder, options=options or STUB, settings=settings)
    service.start()
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.stop()


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
