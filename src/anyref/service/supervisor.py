"""The supervisor: keeps one worker alive on every device.

A worker that dies is replaced, at once the first time and then ever more slowly, and what it was
running is handed on with the reason of its death.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from secrets import token_hex

from sqlalchemy.exc import SQLAlchemyError

from anyref.service.queue import Queue
from anyref.service.settings import Settings, worker_environment

LOOK_SECONDS = 0.1
HEALTHY_SECONDS = 30.0  # a worker that lived so long is replaced at once
MAX_PAUSE_SECONDS = 60.0


@dataclass
class Post:
    """One device and the worker on it.

    Args:
        deaths: in a row, each soon after the start. resume_at: on the monotonic clock.
        unreported: names and reasons of dead workers that the queue does not know of yet.
    """

    device: str
    process: subprocess.Popen[str] | None = None
    worker: str = ""
    started: float = 0.0
    deaths: int = 0
    resume_at: float = 0.0
    restarts: int = 0
    unreported: list[tuple[str, str]] = field(default_factory=list)


class Supervisor:
    """Starts workers, replaces those that die, and stops them with itself.

    Args:
        settings: what each worker is told. queue: where lost jobs are reported.
    """

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self.posts = [Post(device) for device in settings.devices]
        self._settings = settings
        self._queue = queue
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Start the workers."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the workers to give their jobs back and go; after the grace, end them."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for post in self.posts:
            _tell(post, "stop\n")
        deadline = time.monotonic() + self._settings.times.grace
        for post in self.posts:
            if post.process is None:
                continue
            try:
                post.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                post.process.kill()
                post.process.wait()
            _close(post.process)
            post.process = None

    @property
    def alive(self) -> int:
        """How many workers run now."""
        return sum(p.process is not None and p.process.poll() is None for p in self.posts)

    @property
    def restarts(self) -> int:
        """How many workers have been replaced."""
        return sum(post.restarts for post in self.posts)

    def _run(self) -> None:
        while not self._stopping.is_set():
            for post in self.posts:
                self._look_after(post)
            self._stopping.wait(LOOK_SECONDS)

    def _look_after(self, post: Post) -> None:
        now = time.monotonic()
        if post.process is not None and (code := post.process.poll()) is not None:
            _close(post.process)
            soon = now - post.started < HEALTHY_SECONDS
            post.deaths = post.deaths + 1 if soon else 0
            pause = min(MAX_PAUSE_SECONDS, 0.5 * 2 ** (post.deaths - 2)) if post.deaths > 1 else 0
            post.resume_at = now + pause
            post.unreported.append((post.worker, death(code)))
            post.process = None
            post.restarts += 1
        self._report(post)
        if post.process is None and now >= post.resume_at and not self._stopping.is_set():
            self._launch(post)

    def _report(self, post: Post) -> None:
        while post.unreported:
            try:
                self._queue.abandon_worker(*post.unreported[0])
            except SQLAlchemyError:
                return  # the next look tries again
            post.unreported.pop(0)

    def _launch(self, post: Post) -> None:
        place = post.device.replace(":", "-")
        post.worker = f"{socket.gethostname()[:64]}/{place}/{token_hex(6)}"
        post.started = time.monotonic()
        post.process = subprocess.Popen(
            [sys.executable, "-m", "anyref.service.worker", post.worker, post.device],
            stdin=subprocess.PIPE,
            env=worker_environment(),
            text=True,
        )
        _tell(post, self._settings.to_json() + "\n")


def death(code: int) -> str:
    """A process's exit code in words."""
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    return f"it was ended by {name}{hint}"


def _tell(post: Post, text: str) -> None:
    process = post.process
    if process is None or process.stdin is None:
        return
    try:
        process.stdin.write(text)
        process.stdin.flush()
    except OSError:
        return  # it is dead already; the next look sees it


def _close(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:
            return  # what it was still to be told is of no use any more
