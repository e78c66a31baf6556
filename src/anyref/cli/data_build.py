"""`anyref data build` and `rescore`: the data engine and its thresholds."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from anyref.cli import progress

if TYPE_CHECKING:
    from anyref.data.completion import Completed
    from anyref.data.runners import Progress

CHANGE = re.compile(r"[a-z_][a-z0-9_.]*=.*", re.DOTALL)
PLAIN_SECONDS = 15.0  # between lines where there is no terminal
REASONS = 12  # that a live table has room for

Recipe = Annotated[
    str | None, typer.Option(help="A YAML file, or the name of a shipped data recipe.")
]
Cache = Annotated[Path | None, typer.Option(help="Folder of the weights; $ANYREF_CACHE if absent.")]


class Runner(str, Enum):
    """What runs the stages."""

    RAY = "ray"
    LOCAL = "local"


def build(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT... [KEY=VALUE]...",
            help="Videos, folders, lists of both (.txt) or URLs; and changes of the recipe, e.g. "
            "clips.fps=24 rules.sharpness.at_least=20 grade=large.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DATASET", help="Folder of the dataset.")
    ],
    recipe: Recipe = None,
    runner: Annotated[
        Runner, typer.Option(help="ray: all cores, or a cluster; local: this process.")
    ] = Runner.RAY,
    workers: Annotated[
        int | None, typer.Option(min=1, help="CPU cores for ray; all if absent.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a running Ray cluster; auto finds it.")
    ] = None,
    cache: Cache = None,
) -> None:
    """Make a dataset of raw videos: clips, captions, references, masks, pairs across clips.

    The same command goes on where it was stopped; with more inputs it adds them.
    """
    from anyref.data import engine
    from anyref.data.ray_runner import RaySettings
    from anyref.errors import DataError

    changes, sources = split_changes(inputs)
    if runner is Runner.LOCAL and (workers is not None or address is not None):
        raise DataError("--workers and --address go with --runner ray; leave them out")
    loaded, name = engine.load_recipe(recipe, changes), cast(Any, runner.value)
    engine.check_ready(cache, name, loaded.grade, here=address is None)
    total = engine.count_sources(sources)
    ray = RaySettings(address=address, cpus=None if address else workers)
    try:
        with _watching(total) as watch:
            made = engine.build(sources, out, loaded, name, watch, ray=ray, cache=cache)
    except KeyboardInterrupt:
        progress.line(
            "stopped; the same command goes on where it was (what is done is kept)", error=True
        )
        raise
    _print_counts(made.progress.rejected)
    _print_completed(made.completed)
    progress.line(f"{made.accepted:,} records in use, {made.rejected:,} rejected, in {out}")
    _print_next(out, made.accepted)


def split_changes(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Changes of the recipe (key=value), and inputs: what exists is an input whatever its name.

    Raises:
        DataError: no input is left.
    """
    from anyref.errors import DataError

    changes = [a for a in arguments if CHANGE.fullmatch(a) and not os.path.lexists(a)]
    sources = [a for a in arguments if a not in changes]
    if not sources:
        raise DataError("no input is given; name videos, folders or a list of them")
    return changes, sources


def rescore(
    dataset: Annotated[Path, typer.Argument(help="Folder of the dataset.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="E.g. rules.sharpness.at_least=20."),
    ] = None,
    recipe: Recipe = None,
    cache: Cache = None,
) -> None:
    """Judge a dataset by other thresholds, and find its pairs anew; no model runs on the clips.

    Without a recipe the dataset's own is changed.
    """
    from anyref.data import engine

    if recipe is None:
        loaded = engine.dataset_recipe(dataset, changes or ())
    else:
        loaded = engine.load_recipe(recipe, changes or ())
    told = engine.rescore(dataset, loaded, cache)
    _print_counts(told.rejected)
    _print_completed(told.completed)
    rejected = sum(told.rejected.values())
    progress.line(
        f"{told.accepted:,} records in use ({told.gained:,} gained, {told.lost:,} lost), "
        f"{rejected:,} rejected"
    )
    if told.unfinished:
        progress.line(
            f"{told.unfinished:,} more would pass but were stopped early by older rules: run "
            "`anyref data build` with the new recipe to finish them"
        )


@contextmanager
def _watching(total: int) -> Iterator[Callable[[Progress], None]]:
    """What a run reports to: a live table on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True, markup=False, highlight=False)
    watch = _Watch(total, console)
    if not console.is_terminal:
        yield watch.line
        return
    with Live(get_renderable=watch.table, console=console, refresh_per_second=4, transient=True):
        yield watch.note


class _Watch:
    """What the last report said."""

    def __init__(self, total: int, console: Console) -> None:
        self._total, self._console = total, console
        self._last: Progress | None = None
        self._done_before: int | None = None
        self._started = self._told = time.monotonic()

    def note(self, report: Progress) -> None:
        """Remember a report."""
        if self._done_before is None:
            self._done_before = max(0, report.sources - 1)
        self._last = report

    def line(self, report: Progress) -> None:
        """Remember a report and print it, not too often."""
        self.note(report)
        if report.finished or time.monotonic() - self._told >= PLAIN_SECONDS:
            self._told = time.monotonic()
            self._console.print(self._summary(), soft_wrap=True)

    def _summary(self) -> str:
        report, seconds = self._last, time.monotonic() - self._started
        if report is None:
            return f"0 of {self._total:,} videos, {seconds:.0f} s"
        rejected = sum(report.rejected.values())
        left = "" if report.finished else f", {self._left(report, seconds)}"
        return (
            f"{report.sources:,} of {max(self._total, report.sources):,} videos, "
            f"{report.accepted + rejected:,} records: {report.accepted:,} in use, "
            f"{rejected:,} rejected; {report.rate:.2f} a second, {seconds:.0f} s{left}"
        )

    def _left(self, report: Progress, seconds: float) -> str:
        done = report.sources - (self._done_before or 0)
        if done <= 0:
            return "time left unknown"
        return f"{seconds / done * max(0, self._total - report.sources):.0f} s left"

    def table(self) -> RenderableType:
        """The report as it is now."""
        report = self._last
        if report is None:
            return Text(self._summary())
        parts: list[RenderableType] = [_stage_table(report.work)]
        if report.rejected:
            parts.append(_reason_table(report.rejected, REASONS))
        return Group(*parts, Text(self._summary()))


def _stage_table(work: Mapping[str, Any]) -> Table:
    table = Table("stage", box=None)
    for heading in ("in", "out", "rejected", "seconds", "CPU s"):
        table.add_column(heading, justify="right")
    for name, done in work.items():
        numbers = (f"{n:,}" for n in (done.taken, done.given, done.rejected))
        table.add_row(name, *numbers, f"{done.seconds:.1f}", f"{done.cpu_seconds:.1f}")
    return table


def _reason_table(rejected: Mapping[tuple[str, str], int], most: int | None = None) -> Table:
    table = Table("rejected at", "why", box=None)
    table.add_column("records", justify="right")
    ordered = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
    for (stage, reason), count in ordered[:most]:
        table.add_row(stage, reason, f"{count:,}")
    if most is not None and len(ordered) > most:
        table.add_row("", f"and {len(ordered) - most} more reasons", "")
    return table


def _print_counts(rejected: Mapping[tuple[str, str], int]) -> None:
    if rejected:
        Console(markup=False, highlight=False).print(_reason_table(rejected))


def _print_completed(done: Completed) -> None:
    progress.line(
        f"{done.duplicates:,} near-duplicates rejected; {done.identities:,} subjects seen in "
        f"several clips; {done.pairs:,} references from other clips in {done.paired:,} clips; "
        f"{done.generated:,} references made"
    )


def _print_next(out: Path, accepted: int) -> None:
    name = shlex.quote(str(out))
    progress.line(f"look at it: anyref data report {name}")
    if accepted:
        progress.line(f"train on it: anyref data export {name} SHARDS --format webdataset")
