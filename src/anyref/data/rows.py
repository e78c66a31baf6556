"""The rows of a dataset, and how they lie in Parquet. All that knows pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

from anyref.data.record import Sample
from anyref.errors import DataError

BATCH_ROWS = 256
UNFINISHED = "unfinished"  # passes the rules as they are now, but was stopped by older ones
Status = Literal["accepted", "rejected"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One record of a dataset, in use or not.

    Args:
        source, uri: id and path or URL of the source.
        stage, reason, detail, number, limit: of the rejection; None for an accepted one.
        judged: whether rules gave it its status; False where a stage itself rejected it.
        stopped: the stage after which no other ran; None when all did.
        measurements: what rules look at, by name.
        assets: names to uris, of what the stages stored.
        record: the `Sample` as JSON.
    """

    id: str
    source: str
    uri: str
    status: Status = "accepted"
    stage: str | None = None
    reason: str | None = None
    detail: str | None = None
    number: float | None = None
    limit: float | None = None
    judged: bool = True
    stopped: str | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)
    assets: Mapping[str, str] = field(default_factory=dict)
    record: str | None = None

    def sample(self) -> Sample:
        """The record, read.

        Raises:
            DataError: when the stages gave it none. TrainingError: when it is not valid.
        """
        if self.record is None:
            raise DataError(f"{self.id!r} was {self.status} before it had a record")
        return Sample.from_json(self.record)


def import_arrow() -> Any:
    """pyarrow and its Parquet module.

    Raises:
        DataError: when it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError("datasets need pyarrow; install anyref[data]") from error
    return pyarrow


class RowTable:
    """Columns of the rows of one dataset.

    Args:
        measures: names of the measurements, each a column inside the struct `measurements`.
    """

    def __init__(self, measures: Sequence[str]) -> None:
        self._arrow = arrow = import_arrow()
        self.version = str(arrow.__version__)
        kinds: dict[str, Any] = {
            "number": arrow.float64(),
            "limit": arrow.float64(),
            "judged": arrow.bool_(),
            "measurements": arrow.struct([(name, arrow.float64()) for name in measures]),
            "assets": arrow.map_(arrow.string(), arrow.string()),
        }
        names = [f.name for f in fields(Row) if f.name != "measurements" or measures]
        self.schema = arrow.schema([(name, kinds.get(name, arrow.string())) for name in names])

    def write(self, file: BinaryIO) -> Any:
        """A writer of row groups into an open file."""
        return self._arrow.parquet.ParquetWriter(file, self.schema, compression="zstd")

    def pack(self, rows: Sequence[Row]) -> Any:
        """Rows as an Arrow table; what is made of equal rows is equal."""
        packed = []
        for row in rows:
            values = asdict(row)
            values["assets"] = sorted(row.assets.items())
            packed.append(values)
        return self._arrow.Table.from_pylist(packed, schema=self.schema)

    def read(self, path: Path) -> Iterator[Row]:
        """The rows of a part, some hundred in memory.

        Raises:
            DataError: missing or damaged.
        """
        for batch in self._batches(path, BATCH_ROWS, None):
            for values in batch.to_pylist():
                yield _row(values)

    def find(self, path: Path, id: str) -> Row | None:  # noqa: A002
        """The row of an id in a part; only ids are read to find it.

        Raises:
            DataError: missing or damaged.
        """
        start = 0
        for batch in self._batches(path, BATCH_ROWS, ["id"]):
            ids = batch.column(0).to_pylist()
            if id in ids:
                return self._at(path, start + ids.index(id))
            start += len(ids)
        return None

    def _at(self, path: Path, index: int) -> Row:
        with self._arrow.parquet.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if index < rows:
                    return _row(file.read_row_group(group).slice(index, 1).to_pylist()[0])
                index -= rows
        raise DataError(f"{str(path)!r} ends before row {index}; copy the dataset again")

    def _batches(self, path: Path, size: int, columns: list[str] | None) -> Iterator[Any]:
        try:
            with self._arrow.parquet.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=size, columns=columns)
        except (OSError, self._arrow.ArrowException) as error:
            raise DataError(
                f"{str(path)!r} cannot be read ({error}); copy the dataset again"
            ) from error


def _row(values: dict[str, Any]) -> Row:
    numbers = values.get("measurements") or {}
    values["measurements"] = {name: n for name, n in numbers.items() if n is not None}
    values["assets"] = dict(values["assets"])
    return Row(**values)


@lru_cache(maxsize=8)
def table_of(measures: tuple[str, ...]) -> RowTable:
    """The columns of a dataset with these measurements."""
    return RowTable(measures)
