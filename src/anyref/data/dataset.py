"""A dataset in a folder: a manifest, rows in Parquet, and assets under their checksums.

    manifest.json                    schema, versions, recipe and its hash, stages, parts, counts
    records/part-00000-<hash>.parquet   a row per record, rejected ones too
    assets/<sha[:2]>/<sha>.<ext>     clips, pictures, masks, arrays

The manifest names the parts that belong to it and is written last, so a folder holds the old
dataset or the new one, never a mixture. Nothing has to be read out of a name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anyref import __version__
from anyref.data.record import Asset, Sample
from anyref.data.rows import Row, RowTable, Status, table_of
from anyref.errors import DataError
from anyref.media import MAX_VIDEO_BYTES, write_atomically

SCHEMA: Literal["anyref.dataset/1"] = "anyref.dataset/1"
MANIFEST, RECORDS, ASSETS, LOCK = "manifest.json", "records", "assets", ".lock"
PART_ROWS, PART_BYTES, GROUP_ROWS = 10_000, 64 * 2**20, 500
MAX_MANIFEST_BYTES = 64 * 2**20
TEMPORARY = ".anyref-"  # how `anyref.media` starts the names of unfinished files
ASSET_URI = re.compile(r"assets/([0-9a-f]{2})/(\1[0-9a-f]{62})\.[a-z0-9]{1,8}")


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class StageEntry(_Closed):
    """A stage, as far as its results depend on it."""

    name: str
    tool: str | None = None
    version: str | None = None
    settings: dict[str, Any] = {}
    measures: tuple[str, ...] = ()


class Part(_Closed):
    """A file of rows."""

    file: Annotated[str, Field(pattern=r"^records/part-[0-9]{5}-[0-9a-f]{12}\.parquet$")]
    rows: int = Field(gt=0)
    sha256: str


class Manifest(_Closed):
    """What a dataset is. measures: the columns of numbers, sorted."""

    schema_version: Literal["anyref.dataset/1"] = Field(default=SCHEMA, alias="schema")
    versions: dict[str, str] = {}
    recipe: dict[str, Any] = {}
    recipe_sha256: str
    stages: tuple[StageEntry, ...] = ()
    measures: tuple[str, ...] = ()
    accepted: int = 0
    rejected: int = 0
    parts: tuple[Part, ...] = ()


def hash_of(value: Any) -> str:
    """sha256 of a JSON value, keys sorted."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def asset_of(data: bytes, suffix: str) -> Asset:
    """Where bytes lie in any dataset.

    Raises:
        DataError: for a suffix other than 1 to 8 small letters or digits.
    """
    digest = hashlib.sha256(data).hexdigest()
    uri = f"{ASSETS}/{digest[:2]}/{digest}.{suffix}"
    if not ASSET_URI.fullmatch(uri):
        raise DataError(f"suffix {suffix!r} of an asset is not 1 to 8 of a-z and 0-9, no dot")
    return Asset(uri=uri, sha256=digest)


def write_asset(root: Path, data: bytes, suffix: str) -> Asset:
    """Store bytes, once. Safe to call from many processes.

    Raises:
        DataError: over 2 GiB. OSError, MediaError: when the folder cannot be written.
    """
    if len(data) > MAX_VIDEO_BYTES:
        raise DataError(f"an asset of {len(data):,} bytes is over 2 GiB; cut it")
    asset = asset_of(data, suffix)
    path = root / str(asset.uri)
    if not path.exists():
        write_atomically(path, lambda file: file.write(data))
    return asset


def read_asset(root: Path, asset: Asset | str) -> bytes:
    """The bytes of an asset, checked.

    Raises:
        DataError: not the uri of an asset, missing, over 2 GiB, or not what was written.
    """
    uri = asset if isinstance(asset, str) else asset.uri or ""
    named = ASSET_URI.fullmatch(uri)
    if named is None:
        raise DataError(f"{uri!r} is no asset of a dataset; they are assets/<2>/<sha256>.<suffix>")
    try:
        with (root / uri).open("rb") as file:
            data = file.read(MAX_VIDEO_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"asset {uri!r} cannot be read ({error.strerror}); copy the dataset again"
        ) from error
    if hashlib.sha256(data).hexdigest() != named[2]:
        raise DataError(f"asset {uri!r} does not match its checksum; copy the dataset again")
    return data


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout:
        raise DataError(f"{str(folder)!r} is being written by another process; wait") from None
    except OSError as error:
        raise DataError(f"cannot write {str(folder)!r}: {error.strerror or error}") from error
    with lock:
        yield


class DatasetWriter:
    """Writes a dataset; one at a time per folder, as a context manager.

    Nothing of an older dataset in the folder is touched before `finish`, which replaces it.

    Args:
        recipe: any JSON value with keys: what the dataset was made with.
        measures: names of the measurements that rows may have.

    Raises:
        DataError: when another process writes the folder, or it cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        recipe: Mapping[str, Any] | None = None,
        stages: Sequence[StageEntry] = (),
        measures: Sequence[str] = (),
    ) -> None:
        self.folder = Path(folder).absolute()
        self.recipe, self.stages = dict(recipe or {}), tuple(stages)
        self.measures = tuple(sorted(measures))
        self._table = table_of(self.measures)
        self._stack = ExitStack()
        self._reset()

    def _reset(self) -> None:
        self._rows: list[Row] = []
        self._parts: list[Part] = []
        self._part: _OpenPart | None = None
        self._counts = {"accepted": 0, "rejected": 0}

    def __enter__(self) -> DatasetWriter:
        self._stack.enter_context(_locked(self.folder))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._part is not None:
            self._part.discard()
        self._stack.close()

    def write_asset(self, data: bytes, suffix: str) -> Asset:
        """Store bytes; see `write_asset`."""
        return write_asset(self.folder, data, suffix)

    def add(self, row: Row) -> None:
        """Append a row. Ids are the caller's to keep unique."""
        if unknown := sorted(set(row.measurements) - set(self.measures)):
            raise DataError(f"row {row.id!r} has the undeclared measurement {unknown[0]!r}")
        self._rows.append(row)
        self._counts[row.status] += 1
        if len(self._rows) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._part is None:
            self._part = _OpenPart(self.folder / RECORDS, self._table)
        self._part.write(self._rows)
        self._rows = []
        if self._part.rows >= PART_ROWS or self._part.size >= PART_BYTES:
            self._close_part()

    def _close_part(self) -> None:
        if self._part is not None:
            self._parts.append(self._part.finish(len(self._parts)))
            self._part = None

    def finish(self) -> Manifest:
        """Make what was added the folder's dataset, and drop the one before."""
        self._flush()
        self._close_part()
        manifest = Manifest(
            versions={"anyref": __version__, "pyarrow": self._table.version},
            recipe=self.recipe,
            recipe_sha256=hash_of(self.recipe),
            stages=self.stages,
            measures=self.measures,
            accepted=self._counts["accepted"],
            rejected=self._counts["rejected"],
            parts=tuple(self._parts),
        )
        text = json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=1) + "\n"
        write_atomically(self.folder / MANIFEST, lambda file: file.write(text.encode()))
        named = {Path(part.file).name for part in self._parts}
        for path in (self.folder / RECORDS).glob("*"):
            if path.name not in named:
                path.unlink(missing_ok=True)
        self._reset()
        return manifest

    def sweep(self) -> None:
        """Remove the unfinished files of processes that were killed."""
        for folder in (self.folder, self.folder / RECORDS, *(self.folder / ASSETS).glob("??")):
            for path in folder.glob(f"{TEMPORARY}*"):
                path.unlink(missing_ok=True)


class _OpenPart:
    """A part under a temporary name."""

    def __init__(self, folder: Path, table: RowTable) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=TEMPORARY)
        self.rows = 0
        self._path, self._table = Path(name), table
        self._file = os.fdopen(handle, "w+b")
        self._groups = table.write(self._file)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def write(self, rows: Sequence[Row]) -> None:
        """Append a row group."""
        self._groups.write_table(self._table.pack(rows))
        self.rows += len(rows)

    def finish(self, number: int) -> Part:
        """Give it the name that follows from its place and content."""
        self._groups.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.seek(0)
        digest = hashlib.sha256()
        while block := self._file.read(2**20):
            digest.update(block)
        self._file.close()
        name = f"part-{number:05d}-{digest.hexdigest()[:12]}.parquet"
        self._path.chmod(0o644)
        self._path.replace(self._path.with_name(name))
        return Part(file=f"{RECORDS}/{name}", rows=self.rows, sha256=digest.hexdigest())

    def discard(self) -> None:
        """Remove it."""
        for closing in (self._groups.close, self._file.close):
            with suppress(OSError):  # a full disk fails here once more
                closing()
        self._path.unlink(missing_ok=True)


class Dataset:
    """A finished dataset; rows are read as they are asked for."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    @classmethod
    def open(cls, folder: str | Path) -> Dataset:
        """Read the manifest.

        Raises:
            DataError: none there, unfinished, or not valid.
        """
        folder = Path(folder).absolute()
        path = folder / MANIFEST
        try:
            with path.open("rb") as file:
                text = file.read(MAX_MANIFEST_BYTES)
            return cls(folder, Manifest.model_validate_json(text))
        except OSError as error:
            raise DataError(
                f"{str(folder)!r} holds no finished dataset ({MANIFEST}: {error.strerror}); check "
                "the path, or run the command that makes it again"
            ) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{str(path)!r} is not valid: {place}: {first['msg']}") from error

    def __len__(self) -> int:
        return self.manifest.accepted + self.manifest.rejected

    def rows(self, status: Status | None = None) -> Iterator[Row]:
        """All rows, or those of a status, in the dataset's order.

        Raises:
            DataError: when a part is missing or damaged.
        """
        table = table_of(self.manifest.measures)
        for part in self.manifest.parts:
            for row in table.read(self.folder / part.file):
                if status is None or row.status == status:
                    yield row

    def samples(self) -> Iterator[Sample]:
        """The records of the accepted rows."""
        return (row.sample() for row in self.rows("accepted"))

    def row(self, id: str) -> Row:  # noqa: A002
        """The row of an id.

        Raises:
            DataError: when there is none.
        """
        table = table_of(self.manifest.measures)
        for part in self.manifest.parts:
            found = table.find(self.folder / part.file, id)
            if found is not None:
                return found
        raise DataError(f"{id!r} is not among the {len(self)} records of {str(self.folder)!r}")

    def read(self, asset: Asset | str) -> bytes:
        """The bytes of an asset, checked; see `read_asset`."""
        return read_asset(self.folder, asset)


def rewrite(
    folder: str | Path, change: Callable[[Row], Row], recipe: Mapping[str, Any] | None = None
) -> Dataset:
    """Replace every row of a dataset by another, at once or not at all.

    Args:
        recipe: the new one; the old one when None.

    Raises:
        DataError: as `Dataset.open` and `DatasetWriter`.
    """
    old = Dataset.open(folder)
    made = old.manifest
    writer = DatasetWriter(
        folder,
        recipe=made.recipe if recipe is None else recipe,
        stages=made.stages,
        measures=made.measures,
    )
    with writer:
        for row in old.rows():
            writer.add(change(row))
        return Dataset(old.folder, writer.finish())
