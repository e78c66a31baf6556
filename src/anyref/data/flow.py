"""Items on their way through the stages: in bundles, depth first, the same way in every runner.

A bundle holds a part of one source. What it holds, and so what shares a batch, follows from the
source alone. When a bundle becomes several, each takes a share of its number: a source is finished
when shares that add up to 1 have come out, in whatever order. A run that goes on after a kill knows
the shares that had come out, and leaves out every bundle that they add up to.
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import Any

from anyref.data.dataset import hash_of, write_asset
from anyref.data.judging import rejected
from anyref.data.record import Flags, Provenance
from anyref.data.rows import Row
from anyref.data.sources import Source
from anyref.data.stages import (
    Blob,
    Item,
    Rejection,
    Result,
    Stage,
    Stored,
    part_id,
    rejection_of,
    results_of,
)
from anyref.data.thresholds import Judge
from anyref.errors import AnyRefError, DataError

BUNDLE_ITEMS = 64
BUNDLE_BYTES = 64 * 2**20
NOTHING = "nothing came out"
# not the item's fault: the run stops and goes on when there is room again
MACHINE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """An item and where it stands. path: its place among the parts of its source, sortable."""

    path: bytes
    item: Item
    rejection: Rejection | None = None
    judged: bool = False
    stopped: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a stage has done: items, wall-clock and CPU seconds of its process."""

    taken: int = 0
    given: int = 0
    rejected: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            taken=self.taken + other.taken,
            given=self.given + other.given,
            rejected=self.rejected + other.rejected,
            seconds=self.seconds + other.seconds,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
        )


WorkByStage = Mapping[str, Work]
Shares = Mapping[bytes, Fraction]  # of bundles that are through all stages, by their places


def add_work(one: WorkByStage, other: WorkByStage) -> dict[str, Work]:
    """The sum, stage by stage."""
    return {name: one.get(name, Work()) + other.get(name, Work()) for name in {**one, **other}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """Entries of one source.

    Args:
        place: which part of which part of the source, four bytes each.
        size: bytes of their payload. work: done since the last bundle.
        known: what of it came out of an earlier run.
    """

    source: Source
    place: bytes = b""
    share: Fraction = Fraction(1)
    entries: tuple[Entry, ...]
    size: int = 0
    work: WorkByStage = field(default_factory=dict)
    known: Shares = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """Rows that a bundle ended in, each with its path."""

    source: Source
    place: bytes
    share: Fraction
    rows: tuple[tuple[bytes, Row], ...]
    work: WorkByStage


def start(source: Source, known: Shares | None = None) -> Bundle:
    """The one item that a source begins as, and what of it came out of an earlier run."""
    entry = Entry(path=b"", item=Item(id=source.id, source=source))
    return Bundle(source=source, entries=(entry,), known=known or {})


def machine_error(error: BaseException | None) -> OSError | None:
    """What is wrong with the machine, when that is behind an exception.

    A full disk or too few file handles; a GPU that runs out of memory counts as well.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
            return error
        if type(error).__name__ == "OutOfMemoryError":  # torch's, not imported here
            return OSError(errno.ENOMEM, str(error))
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _stop_for_machine(error: Exception) -> None:
    """Raise what `machine_error` finds."""
    fault = machine_error(error)
    if fault is not None:
        raise fault


class Chain:
    """Stages that run one after another in one process.

    Args:
        root: the dataset's folder, for assets.
    """

    def __init__(self, stages: Sequence[Stage], judge: Judge, root: Path) -> None:
        self._stages, self._judge, self._root = tuple(stages), judge, root
        self._functions: dict[str, Any] = {}
        self._work: dict[str, Work] = {}
        self._marks = {
            stage.name: Provenance(
                stage=stage.name,
                tool=stage.tool,
                version=stage.version,
                config_hash=hash_of(dict(stage.settings))[:16] if stage.settings else None,
            )
            for stage in stages
        }

    def load(self) -> None:
        """Load what stages load, once; a model that cannot be loaded is no item's fault.

        Raises:
            AnyRefError: when one cannot.
        """
        for stage in self._stages:
            if stage.name in self._functions:
                continue
            try:
                made = stage.function if stage.load is None else stage.load()
            except AnyRefError:
                raise
            except Exception as error:
                _stop_for_machine(error)
                raise DataError(f"stage {stage.name!r} cannot be loaded: {error!r}") from error
            self._functions[stage.name] = made

    def advance(self, gang: Sequence[Bundle], place: int = 0) -> Iterator[Bundle]:
        """Take bundles through the stages; some come out while others are still to be made.

        Raises:
            OSError, MediaError: as `machine_error` says. AnyRefError: as `load`.
        """
        self.load()
        if place == len(self._stages):
            for bundle in gang:
                work, self._work = self._work, {}
                yield replace(bundle, work=add_work(bundle.work, work))
            return
        waiting: list[Bundle] = []
        for bundle in self._step(self._stages[place], gang):
            waiting.append(bundle)
            many = sum(len(b.entries) for b in waiting) >= BUNDLE_ITEMS
            if many or sum(b.size for b in waiting) >= BUNDLE_BYTES:
                yield from self.advance(waiting, place + 1)
                waiting = []
        if waiting:
            yield from self.advance(waiting, place + 1)

    def _step(self, stage: Stage, gang: Sequence[Bundle]) -> Iterator[Bundle]:
        """One stage; bundles that have become too large are cut."""
        groups = [gang] if stage.mixes_sources else [[bundle] for bundle in gang]
        for group in groups:
            live = [e for bundle in group for e in bundle.entries if e.rejection is None]
            if len(group) == 1:
                ended = (e for e in group[0].entries if e.rejection is not None)
                yield from _cut(group[0], stage, chain(ended, self._results(stage, live)))
                continue
            made: dict[int, list[Entry]] = {id(bundle): [] for bundle in group}
            owners = [id(b) for b in group for e in b.entries if e.rejection is None]
            for owner, entries in zip(owners, self._families(stage, live), strict=True):
                made[owner] += entries
            for bundle in group:
                ended = (e for e in bundle.entries if e.rejection is not None)
                yield from _cut(bundle, stage, chain(ended, made[id(bundle)]))

    def _results(self, stage: Stage, entries: Sequence[Entry]) -> Iterator[Entry]:
        for family in self._families(stage, entries):
            yield from family

    def _families(self, stage: Stage, entries: Sequence[Entry]) -> Iterator[Iterator[Entry]]:
        """For each entry what became of it."""
        size = stage.batch_size or 1
        for first in range(0, len(entries), size):
            batch = entries[first : first + size]
            for entry, result in zip(batch, self._call(stage, batch), strict=True):
                yield self._family(stage, entry, result)

    def _call(self, stage: Stage, batch: Sequence[Entry]) -> Sequence[Result]:
        """One result per entry. A batch that fails as a whole is tried one by one."""
        function = self._functions[stage.name]
        items = [entry.item for entry in batch]
        started = time.perf_counter(), time.process_time()
        try:
            if stage.batch_size is None:
                return [function(items[0])]
            results = list(function(items))
            if len(results) != len(items):
                raise ValueError(f"{len(results)} results for {len(items)} items")
            return results
        except Exception as error:
            _stop_for_machine(error)
            if len(batch) == 1:
                return [rejection_of(stage.name, error)]
        finally:
            self._count(stage, started)
        return [self._call(stage, [entry])[0] for entry in batch]

    def _family(self, stage: Stage, entry: Entry, result: Result) -> Iterator[Entry]:
        """The entries that one entry became, at least one."""
        self._add(stage, Work(taken=1))
        whole = not isinstance(result, Iterable)
        parts = results_of(result)
        for number in count():
            started = time.perf_counter(), time.process_time()
            try:
                part = next(parts, None)
            except Exception as error:
                _stop_for_machine(error)
                part = rejection_of(stage.name, error)
                whole = number == 0
            self._count(stage, started)
            if part is None:
                if number:
                    return
                part, whole = Rejection(stage.name, NOTHING), True
            path = entry.path + struct.pack(">I", number)
            if isinstance(part, Rejection) and part.item is None:
                name = entry.item.id if whole else part_id(entry.item.id, stage.name, number)
                part = replace(part, item=entry.item.child(name))
            made = self._entry(stage, path, entry.item, part)
            self._add(stage, Work(rejected=1) if made.rejection else Work(given=1))
            yield made

    def _entry(self, stage: Stage, path: bytes, parent: Item, part: Item | Rejection) -> Entry:
        """Blobs written, provenance added, rules that may stop it asked."""
        item = part if isinstance(part, Item) else part.item
        assert item is not None
        added = set(item.measurements) - set(parent.measurements) - set(stage.measures)
        if added:
            words = f"stage measures {min(added)!r}, which it does not declare"
            part = Rejection(stage.name, "undeclared measurement", detail=words)
            item = replace(item, measurements=parent.measurements)
        item = replace(
            item,
            payload={name: self._settle(value) for name, value in item.payload.items()},
            provenance=(*parent.provenance, self._marks[stage.name]),
        )
        failed, judged = self._judge.after(stage.name, item.measurements), True
        if isinstance(part, Rejection):
            failed, judged = replace(part, item=None), False
        if failed is None:
            return Entry(path=path, item=item)
        stored = {name: v for name, v in item.payload.items() if isinstance(v, Stored)}
        return Entry(
            path=path,
            item=replace(item, payload=stored),
            rejection=failed,
            judged=judged,
            stopped=stage.name,
        )

    def _settle(self, value: Any) -> Any:
        if not isinstance(value, Blob):
            return value
        return Stored(write_asset(self._root, value.data, value.suffix), self._root)

    def _count(self, stage: Stage, started: tuple[float, float]) -> None:
        wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
        self._add(stage, Work(seconds=wall, cpu_seconds=cpu))

    def _add(self, stage: Stage, work: Work) -> None:
        self._work[stage.name] = self._work.get(stage.name, Work()) + work


def _cut(bundle: Bundle, stage: Stage, entries: Iterator[Entry]) -> Iterator[Bundle]:
    """A bundle's successors: share n is 1 / (n (n + 1)) of its own, the last takes what is left."""
    most = stage.spread or BUNDLE_ITEMS
    chunk: list[Entry] = []
    size, number, left = 0, 0, bundle.share
    for entry in entries:
        if len(chunk) >= most or size >= BUNDLE_BYTES:
            number += 1
            share = bundle.share / (number * (number + 1))
            left -= share
            yield from _part(replace(bundle, work={}), number, share, chunk, size)
            chunk, size = [], 0
        chunk.append(entry)
        size += sum(_bytes_of(value) for value in entry.item.payload.values())
    yield from _part(bundle, number + 1, left, chunk, size)


def _part(
    bundle: Bundle, number: int, share: Fraction, entries: Sequence[Entry], size: int
) -> Iterator[Bundle]:
    """A bundle's successor of that number, unless an earlier run is through with all of it."""
    place = bundle.place + struct.pack(">I", number)
    known = {other: part for other, part in bundle.known.items() if other.startswith(place)}
    if sum(known.values(), Fraction(0)) != share:
        yield replace(
            bundle, place=place, share=share, entries=tuple(entries), size=size, known=known
        )


def _bytes_of(value: Any) -> int:
    """About how much memory a payload takes."""
    if isinstance(value, (list, tuple)):
        return sum(_bytes_of(part) for part in value)
    if isinstance(value, Mapping):
        return sum(_bytes_of(part) for part in value.values())
    if isinstance(value, (bytes, str)):
        return len(value)
    return int(getattr(value, "nbytes", 64))


def finish(bundle: Bundle, judge: Judge) -> Finished:
    """The rows of a bundle that is through all stages."""
    rows = tuple((entry.path, _row_of(entry, bundle.source, judge)) for entry in bundle.entries)
    return Finished(
        source=bundle.source, place=bundle.place, share=bundle.share, rows=rows, work=bundle.work
    )


def _row_of(entry: Entry, source: Source, judge: Judge) -> Row:
    item, rejection, judged = entry.item, entry.rejection, entry.judged
    if rejection is None:
        rejection, judged = judge.verdict(item.measurements, entry.stopped), True
    text, stopped = None, entry.stopped
    if item.record is not None:
        flags = Flags(filtered_by=None if rejection is None else rejection.stage)
        update = {"id": item.id, "provenance": item.provenance, "flags": flags}
        try:
            text = item.record.model_copy(update=update).to_json()
        except Exception as error:  # text that is not Unicode, and whatever else JSON refuses
            rejection, judged, stopped = rejection_of("record", error), False, None
    stored = {n: str(v.asset.uri) for n, v in item.payload.items() if isinstance(v, Stored)}
    row = Row(
        id=item.id,
        source=source.id,
        uri=source.uri,
        judged=judged,
        stopped=stopped,
        measurements=dict(sorted(item.measurements.items())),
        assets=dict(sorted(stored.items())),
        record=text,
    )
    return row if rejection is None else rejected(row, rejection)
