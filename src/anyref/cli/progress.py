"""What the user sees while a video is made: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_STEP_LINES = 10  # at most this many lines for the steps of one video


def prints() -> bool:
    """True on the one process that prints and writes (rank 0 under torchrun)."""
    return os.environ.get("RANK", "0") == "0"


def line(text: str, *, error: bool = False) -> None:
    """Print one line, unwrapped and without markup; nothing on ranks above 0."""
    if prints():
        one_line = " ".join(text.split())
        console = Console(stderr=error, markup=False, highlight=False, emoji=False)
        console.print(one_line, soft_wrap=True)


class Reporter:
    """Shows stages and steps; times every stage.

    Args:
        bar: live bars, or None for plain lines on `console`; both None shows nothing.
    """

    def __init__(self, console: Console | None, bar: Progress | None) -> None:
        self._console = console
        self._bar = bar
        self._task: TaskID | None = None
        self._started = time.perf_counter()

    def stage(self, name: str) -> None:
        """A stage begins: load, encode, steps, decode, write."""
        self._started = time.perf_counter()
        if self._bar is not None:
            self._finish_task()
            self._task = self._bar.add_task(name, total=None, count="")
        elif self._console is not None:
            self._console.print(name, soft_wrap=True)

    def step(self, done: int, total: int) -> None:
        """One of `total` denoising steps is done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total, completed=done, count=f"{done}/{total}")
        elif self._console is not None and done % max(1, -(-total // PLAIN_STEP_LINES)) == 0:
            left = (time.perf_counter() - self._started) / done * (total - done)
            self._console.print(f"step {done}/{total}, {left:.0f} s left", soft_wrap=True)

    def _finish_task(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=1, completed=1)


@contextmanager
def reporting() -> Iterator[Reporter]:
    """A reporter on stderr for one video: live, plain, or silent above rank 0."""
    if not prints():
        yield Reporter(None, None)
        return
    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_terminal:
        yield Reporter(console, None)
        return
    columns = (
        TextColumn("{task.description:<6}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Reporter(None, bar)
