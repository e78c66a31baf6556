"""What `anyref evaluate` shows on a terminal: progress, the figures, gates that do not hold."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from anyref.cli import progress
from anyref.data.markup import plain
from anyref.evaluation.metric import Outcome, Score, Skipped
from anyref.evaluation.run import Evaluation, OnVideo
from anyref.evaluation.run_profile import Gate
from anyref.evaluation.statistics import Comparison
from anyref.evaluation.videos import Sample
from anyref.lab.statistics import Estimate

PLAIN_LINES = 20  # of progress at most, where there is no terminal
BAR, WIDE = 20, 100  # letters of a bar; a terminal narrower than this shows none
MAX_NOTES = 12
SKIPS = 60  # reasons that are printed while scoring


@contextmanager
def watching(name: str, total: int) -> Iterator[OnVideo]:
    """What scoring reports to: a bar on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_terminal:
        yield _Lines(name, total, console).note
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(plain(name, 40), total=total)

        def note(sample: Sample, outcomes: Mapping[str, Outcome]) -> None:
            bar.advance(task)
            problem = _problem(sample, outcomes)
            if problem is not None:
                bar.console.print(problem, soft_wrap=True)

        yield note


class _Lines:
    """Counts videos, and prints a line for some."""

    def __init__(self, name: str, total: int, console: Console) -> None:
        self._name, self._total, self._console = plain(name, 40), total, console
        self._done, self._problems, self._started = 0, 0, time.monotonic()

    def note(self, sample: Sample, outcomes: Mapping[str, Outcome]) -> None:
        """A video is done."""
        self._done += 1
        problem = _problem(sample, outcomes)
        if problem is not None and self._problems < SKIPS:
            self._problems += 1
            self._console.print(problem, soft_wrap=True)
        if self._done % max(1, -(-self._total // PLAIN_LINES)) == 0 or self._done == self._total:
            each = (time.monotonic() - self._started) / self._done
            left = each * (self._total - self._done)
            words = f"{self._name}: {self._done}/{self._total} scored, {left:.0f} s left"
            self._console.print(words, soft_wrap=True)


def _problem(sample: Sample, outcomes: Mapping[str, Outcome]) -> str | None:
    """Why a video has no score at all, if the video or the case is at fault, or a metric failed."""
    failed = [(n, o) for n, o in outcomes.items() if isinstance(o, Skipped) and o.cause == "failed"]
    if failed:
        return f"{sample[0]}, take {sample[1]}: {failed[0][0]}: {plain(failed[0][1].reason)}"
    if any(isinstance(outcome, Score) for outcome in outcomes.values()):
        return None
    faults = [o for o in outcomes.values() if not isinstance(o, Score) and o.cause != "unavailable"]
    if not faults:
        return None
    at_fault = min(faults, key=lambda skip: skip.cause == "inapplicable")
    return f"{sample[0]}, take {sample[1]}: {plain(at_fault.reason)} ({at_fault.cause})"


def show(evaluation: Evaluation) -> None:
    """Print the figures with their intervals, the comparison, and the notes."""
    if not progress.prints():
        return
    console = Console(markup=False, highlight=False)
    names = evaluation.model.name, evaluation.benchmark.name, evaluation.profile.name
    progress.line("{} on {}, profile {}".format(*(plain(name, 60) for name in names)))
    console.print(_figures(evaluation, console.width >= WIDE))
    comparison = evaluation.figures.comparison
    if comparison is not None and evaluation.other is not None:
        progress.line(f"less {plain(evaluation.other.name, 60)}, on the cases of both")
        console.print(_differences(comparison))
    notes = evaluation.figures.summary.notes
    for note in notes[:MAX_NOTES]:
        progress.line(f"note: {note}")
    if len(notes) > MAX_NOTES:
        progress.line(f"note: and {len(notes) - MAX_NOTES} more, in the report")


def _figures(evaluation: Evaluation, wide: bool) -> Table:
    table = _table("score", "95 % interval", "scored", "as worst", "left out")
    if wide:
        table.add_column("", no_wrap=True)
    known, summary = evaluation.figures.intervals, evaluation.figures.summary
    for figure in summary.figures:
        counts = tuple(str(n) for n in (figure.scored, figure.penalised, figure.left_out))
        between = _between(known.metrics.get(figure.name))
        row = (figure.name, _number(figure.value), between, *counts)
        table.add_row(*row, *((_bar(figure.value),) if wide else ()))
    row = ("total", _number(summary.total), _between(known.total), "", "", "")
    table.add_row(*row, *((_bar(summary.total),) if wide else ()))
    return table


def _differences(comparison: Comparison) -> Table:
    table = _table("difference", "95 % interval", "effect", "p", "cases", "needed")
    total = {"total": comparison.total} if comparison.total else {}
    for name, pair in {**comparison.metrics, **total}.items():
        table.add_row(
            name,
            f"{pair.difference:+.3f}",
            f"{pair.low:+.3f} to {pair.high:+.3f}",
            "-" if pair.effect is None else f"{pair.effect:+.2f}",
            f"{pair.p:.2g}",
            str(pair.count),
            "-" if pair.needed is None else f"{pair.needed:,}",
        )
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _between(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.low:.3f} to {estimate.high:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _bar(value: float | None) -> str:
    return "" if value is None else "█" * round(min(max(value, 0.0), 1.0) * BAR)


def under(evaluation: Evaluation, gates: Sequence[Gate]) -> bool:
    """Say which figures are under their limits; whether any is."""
    summary, failed = evaluation.figures.summary, False
    for gate in gates:
        if not gate.holds(summary):
            failed = True
            value = gate.value(summary)
            said = "not measured" if value is None else f"{value:.4f}"
            progress.line(f"{gate.name} is {said}, the limit is {gate.limit:g}", error=True)
    return failed
