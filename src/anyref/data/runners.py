"""Running stages over sources into a dataset, so that a kill costs only what was in flight.

What is through all stages is noted in a journal, a bundle of records at a time, and becomes the
dataset when all is there. The dataset does not depend on the runner, on scheduling, or on how often
it was killed.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from anyref.data.dataset import Dataset, DatasetWriter, Manifest, StageEntry, hash_of
from anyref.data.flow import (
    BUNDLE_BYTES,
    BUNDLE_ITEMS,
    Bundle,
    Chain,
    Finished,
    Work,
    finish,
    machine_error,
    start,
)
from anyref.data.journal import Fates, Journal
from anyref.data.ray_runner import RaySettings, run_ray
from anyref.data.rows import Row
from anyref.data.sources import VIDEO_SUFFIXES, Source, read_sources
from anyref.data.stages import Stage, check_stages
from anyref.data.thresholds import Judge, Recipe
from anyref.errors import AnyRefError, DataError

WINDOW = 8  # sources whose items share batches, where a stage allows it
REPORT_SECONDS = 0.2
Runner = Literal["local", "ray"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands, what earlier runs of the same command did included.

    Args:
        sources: finished ones. accepted: records in use. rejected: counts by (stage, reason).
        work: by stage, what it took and gave and how long it ran.
        seconds: since this run started. rate: records (rejected ones too) per second of this run.
        finished: whether this is the last report.
    """

    sources: int = 0
    accepted: int = 0
    rejected: Mapping[tuple[str, str], int] = field(default_factory=dict)
    work: Mapping[str, Work] = field(default_factory=dict)
    seconds: float = 0.0
    rate: float = 0.0
    finished: bool = False


def _ignore(progress: Progress) -> None:
    """Report to nobody."""


def run(
    inputs: Iterable[str | Path | Source],
    stages: Sequence[Stage],
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    runner: Runner = "local",
    ray: RaySettings | None = None,
    suffixes: tuple[str, ...] = VIDEO_SUFFIXES,
    on_progress: Callable[[Progress], None] = _ignore,
) -> Progress:
    """Make a dataset, or finish or extend the one in `out`.

    The same call after a kill goes on where it was. A call with more inputs adds them; what is in
    the dataset already is not done again.

    Args:
        inputs, suffixes: as `read_sources` takes them.
        on_progress: called a few times a second at most, and at the end.

    Raises:
        DataError: stages or rules that do not fit, a folder made with others, an input that does
            not exist, a full disk. Bad content of an input is a rejection, never an error.
    """
    check_stages(stages)
    recipe = recipe or Recipe()
    entries = tuple(_entry(stage) for stage in stages)
    judge = Judge(recipe.rules, entries)
    values = recipe.model_dump(mode="json")
    writer = DatasetWriter(
        out,
        recipe=values,
        stages=entries,
        measures=[name for stage in stages for name in stage.measures],
    )
    try:
        with writer, closing(_open(writer.folder, values, entries, stages)) as journal:
            if journal.resumed:
                writer.sweep()
            report = _Report(journal, on_progress)
            began = 0

            def pending() -> Iterator[Bundle]:
                nonlocal began
                for source in read_sources(inputs, suffixes):
                    known = journal.begin(source)
                    if known is not None:
                        began += 1
                        yield start(source, known)

            if runner == "ray":
                done = run_ray(pending(), stages, judge, writer.folder, ray or RaySettings())
            else:
                done = _run_local(pending(), stages, judge, writer.folder)
            with closing(done):
                for finished in done:
                    journal.add(finished)
                    report.soon()
            return _conclude(writer, journal, report, began)
    except (OSError, sqlite3.Error, AnyRefError) as error:
        raise _explained(error, out) from error


def _entry(stage: Stage) -> StageEntry:
    return StageEntry(
        name=stage.name,
        tool=stage.tool,
        version=stage.version,
        settings=dict(stage.settings),
        measures=stage.measures,
    )


def _fingerprint(recipe: Mapping[str, object], stages: Sequence[StageEntry]) -> str:
    return hash_of({"recipe": dict(recipe), "stages": [s.model_dump(mode="json") for s in stages]})


def _open(
    folder: Path,
    recipe: Mapping[str, object],
    entries: Sequence[StageEntry],
    stages: Sequence[Stage],
) -> Journal:
    """The journal of an unfinished run, or a new one that knows what the folder's dataset has."""
    wanted = _fingerprint(recipe, entries)

    def earlier() -> Iterable[Row]:
        old = _dataset_in(folder)
        if old is None:
            return ()
        if _fingerprint(old.manifest.recipe, old.manifest.stages) != wanted:
            raise DataError(_differs(folder, old.manifest, recipe, entries))
        return old.rows()

    # what a bundle holds depends on these as well
    bundles = [BUNDLE_ITEMS, BUNDLE_BYTES, [stage.spread for stage in stages]]
    return Journal(folder, hash_of([wanted, bundles]), earlier)


def _dataset_in(folder: Path) -> Dataset | None:
    return Dataset.open(folder) if (folder / "manifest.json").exists() else None


def _differs(
    folder: Path, old: Manifest, recipe: Mapping[str, object], stages: Sequence[StageEntry]
) -> str:
    settings = {key: value for key, value in old.recipe.items() if key != "rules"}
    same = settings == {key: value for key, value in recipe.items() if key != "rules"}
    if same and old.stages == tuple(stages):
        return (
            f"{str(folder)!r} was made with other rules; apply these with `anyref data rescore`, "
            "or choose another folder"
        )
    return f"{str(folder)!r} was made with other stages or settings; choose another folder"


def _run_local(
    bundles: Iterator[Bundle], stages: Sequence[Stage], judge: Judge, root: Path
) -> Generator[Finished, None, None]:
    chain = Chain(stages, judge, root)
    window = WINDOW if any(stage.mixes_sources for stage in stages) else 1
    while gang := list(islice(bundles, window)):
        for bundle in chain.advance(gang):
            yield finish(bundle, judge)


def _conclude(writer: DatasetWriter, journal: Journal, report: _Report, began: int) -> Progress:
    """Make the journal the dataset, unless the dataset is there and nothing is new."""
    if began or journal.resumed or _dataset_in(writer.folder) is None:
        journal.forget_unfinished()
        for row in journal.rows():
            writer.add(row)
        writer.finish()
    if journal.resumed:
        writer.sweep()  # workers of the killed run may have lived a little longer
    journal.discard()
    return report.last()


class _Report:
    """Calls back, not too often."""

    def __init__(self, journal: Journal, on_progress: Callable[[Progress], None]) -> None:
        self._journal, self._call = journal, on_progress
        self._started = self._told = time.monotonic()
        self._before = journal.fates.total()

    def soon(self) -> None:
        """Report when the last time is long enough ago."""
        if time.monotonic() - self._told >= REPORT_SECONDS:
            self._call(self._now())
            self._told = time.monotonic()

    def last(self) -> Progress:
        """Report the end."""
        progress = replace(self._now(), finished=True)
        self._call(progress)
        return progress

    def _now(self) -> Progress:
        journal, fates = self._journal, self._journal.fates
        seconds = time.monotonic() - self._started
        return Progress(
            sources=journal.sources_done,
            accepted=fates["", ""],
            rejected=_rejected(fates),
            work=dict(journal.work),
            seconds=seconds,
            rate=(fates.total() - self._before) / max(seconds, 1e-9),
        )


def _rejected(fates: Fates) -> dict[tuple[str, str], int]:
    return {fate: number for fate, number in sorted(fates.items()) if fate != ("", "") and number}


def _explained(error: Exception, out: str | Path) -> AnyRefError:
    """A machine's fault in words that say what to do."""
    fault = machine_error(error)
    if fault is None and isinstance(error, AnyRefError):
        return error
    if isinstance(error, sqlite3.Error):
        return DataError(f"cannot write {str(out)!r}: {error}; free some space and run this again")
    words = getattr(fault or error, "strerror", None) or error
    return DataError(
        f"cannot go on with {str(out)!r}: {words}; put that right (free some space) and "
        "run this again, which goes on where it stopped"
    )
