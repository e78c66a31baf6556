"""What a run has finished, in a file that a kill cannot break.

One SQLite database beside the dataset that is being made. Of a source that is not finished it has
the bundles that are, with their rows; the rest of it is done when the run goes on.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

from anyref.data.flow import Finished, Shares, Work, WorkByStage, add_work
from anyref.data.rows import UNFINISHED, Row
from anyref.data.sources import Source
from anyref.errors import DataError

JOURNAL = "journal.sqlite"
WORK_SECONDS = 1.0
_TABLES = """
CREATE TABLE about (fingerprint TEXT NOT NULL);
CREATE TABLE sources (
    id TEXT PRIMARY KEY, uri TEXT NOT NULL, done INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_uri ON sources (uri);
CREATE TABLE rows (
    source TEXT NOT NULL, path BLOB NOT NULL, id TEXT NOT NULL UNIQUE, fate TEXT NOT NULL,
    row TEXT NOT NULL, PRIMARY KEY (source, path)
) WITHOUT ROWID;
CREATE TABLE bundles (
    source TEXT NOT NULL, place BLOB NOT NULL, share TEXT NOT NULL, PRIMARY KEY (source, place)
) WITHOUT ROWID;
CREATE TABLE work (stage TEXT PRIMARY KEY, work TEXT NOT NULL) WITHOUT ROWID;
"""

Fates = Counter[tuple[str, str]]  # (stage, reason), both "" for accepted rows


class Journal:
    """Open or start the journal of a folder. Only its writer's lock holder may.

    Args:
        fingerprint: of the recipe and the stages; another run's journal is an error.
        earlier: makes the rows of the folder's finished dataset; asked by a new journal only.

    Raises:
        DataError: an unfinished run with another recipe or other stages.
    """

    def __init__(
        self, folder: Path, fingerprint: str, earlier: Callable[[], Iterable[Row]] = tuple
    ) -> None:
        self.path = folder / JOURNAL
        self._base = sqlite3.connect(self.path, isolation_level=None)
        self._base.execute("PRAGMA locking_mode=EXCLUSIVE")  # needs no shared memory: network disks
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=NORMAL")
        self._closed = False
        self._shares: dict[str, Fraction] = {}  # of the sources in flight
        self._saved = time.monotonic()
        self._base.execute("BEGIN IMMEDIATE")
        try:
            self.resumed = self._prepare(fingerprint, earlier)
        except BaseException:
            self.close()
            raise
        self._commit()
        self.fates: Fates = self._count_fates()
        self.sources_done = int(self._one("SELECT COUNT(*) FROM sources WHERE done") or 0)
        self.work: WorkByStage = {
            stage: Work(**json.loads(text))
            for stage, text in self._base.execute("SELECT stage, work FROM work")
        }

    def _one(self, query: str, *values: str) -> int | str | None:
        found = self._base.execute(query, values).fetchone()
        return None if found is None else found[0]

    def _prepare(self, fingerprint: str, earlier: Callable[[], Iterable[Row]]) -> bool:
        """Tables made, unless a killed run left some; whether one did."""
        if self._one("SELECT name FROM sqlite_master WHERE name = 'about'") is None:
            for statement in _TABLES.split(";"):
                self._base.execute(statement)
            self._base.execute("INSERT INTO about VALUES (?)", (fingerprint,))
            self._load(earlier())
            return False
        if self._one("SELECT fingerprint FROM about") != fingerprint:
            raise DataError(
                f"{str(self.path.parent)!r} holds an unfinished run with another recipe or other "
                "stages; finish it with those, or choose another folder"
            )
        return True

    def _count_fates(self) -> Fates:
        query = "SELECT fate, COUNT(*) FROM rows GROUP BY fate"
        counted: Fates = Counter()
        for fate, number in self._base.execute(query):
            stage, reason = json.loads(fate)
            counted[stage, reason] = number
        return counted

    def begin(self, source: Source) -> Shares | None:
        """Note that a source is in flight, and say what of it is finished; None when all is.

        None as well when it is in flight already.
        """
        if source.id in self._shares or self._one(
            "SELECT 1 FROM sources WHERE id = ? AND done", source.id
        ):
            return None
        self._base.execute(
            "INSERT OR IGNORE INTO sources VALUES (?, ?, 0)", (source.id, source.uri)
        )
        query = "SELECT place, share FROM bundles WHERE source = ?"
        known = {place: Fraction(text) for place, text in self._base.execute(query, (source.id,))}
        self._shares[source.id] = sum(known.values(), Fraction(0))
        return known

    def add(self, finished: Finished) -> bool:
        """Note a bundle and its rows; whether they complete their source.

        Raises:
            DataError: for an id that another row has.
        """
        source = finished.source.id
        for path, row in finished.rows:
            self._insert(source, path, row)
            self.fates[row.stage or "", row.reason or ""] += 1
        self.work = add_work(self.work, finished.work)
        self._shares[source] += finished.share
        done = self._shares[source] == 1
        if done:
            del self._shares[source]
            self._base.execute("UPDATE sources SET done = 1 WHERE id = ?", (source,))
            self._base.execute("DELETE FROM bundles WHERE source = ?", (source,))
            self.sources_done += 1
        else:
            bundle = (source, finished.place, str(finished.share))
            self._base.execute("INSERT INTO bundles VALUES (?, ?, ?)", bundle)
        self._save_work()
        self._commit()
        return done

    def forget_unfinished(self) -> None:
        """Drop the rows of sources that were begun, but are no input any more."""
        unfinished = "(SELECT id FROM sources WHERE NOT done)"
        for table in ("rows", "bundles"):
            self._base.execute(f"DELETE FROM {table} WHERE source IN {unfinished}")
        self._base.execute("DELETE FROM sources WHERE NOT done")
        self._commit()
        self.fates = self._count_fates()

    def _insert(self, source: str, path: bytes, row: Row) -> None:
        fate = json.dumps([row.stage or "", row.reason or ""])
        text = json.dumps(asdict(row))
        try:
            self._base.execute(
                "INSERT INTO rows VALUES (?, ?, ?, ?, ?)", (source, path, row.id, fate, text)
            )
        except sqlite3.IntegrityError as error:
            other = self._one(
                "SELECT uri FROM rows JOIN sources ON source = sources.id WHERE rows.id = ?",
                row.id,
            )
            raise DataError(
                f"id {row.id!r} from {row.uri!r} is taken by a record of {other!r}; the stage that "
                "gives ids must give each its own"
            ) from error

    def _commit(self) -> None:
        self._base.execute("COMMIT")
        self._base.execute("BEGIN IMMEDIATE")

    def _save_work(self) -> None:
        """Figures for people; those of the last second before a kill may go missing."""
        if time.monotonic() - self._saved < WORK_SECONDS:
            return
        for stage, work in self.work.items():
            values = (stage, json.dumps(asdict(work)))
            self._base.execute("INSERT OR REPLACE INTO work VALUES (?, ?)", values)
        self._saved = time.monotonic()

    def _load(self, rows: Iterable[Row]) -> None:
        """Take over a finished dataset; sources with unfinished records count as not begun."""
        again: set[str] = set()
        for number, row in enumerate(rows):
            self._base.execute(
                "INSERT OR IGNORE INTO sources VALUES (?, ?, 1)", (row.source, row.uri)
            )
            self._insert(row.source, number.to_bytes(8, "big"), row)
            if row.reason == UNFINISHED:
                again.add(row.source)
        for source in again:
            self._base.execute("DELETE FROM rows WHERE source = ?", (source,))
            self._base.execute("DELETE FROM sources WHERE id = ?", (source,))

    def rows(self) -> Iterator[Row]:
        """The rows of finished sources, sources in the order of their uris."""
        query = (
            "SELECT row FROM sources CROSS JOIN rows ON rows.source = sources.id "
            "WHERE done ORDER BY uri, path"
        )
        for (text,) in self._base.execute(query):
            yield Row(**json.loads(text))

    def close(self) -> None:
        """Leave it for a run that goes on."""
        if self._closed:
            return
        self._closed = True
        with closing(self._base), suppress(sqlite3.Error):  # a full disk fails here once more
            self._base.execute("ROLLBACK")

    def discard(self) -> None:
        """Remove it: the dataset is finished."""
        self.close()
        for ending in ("", "-wal", "-shm"):
            Path(f"{self.path}{ending}").unlink(missing_ok=True)
