"""What passes through the data engine, and what a stage is.

An `Item` goes in; items, or a `Rejection`, come out. A stage knows nothing of the runner, of other
items, or of limits: it measures, and the rules of `thresholds` decide.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anyref.data.dataset import asset_of, read_asset
from anyref.data.record import Asset, Provenance, Sample
from anyref.data.sources import Source
from anyref.errors import DataError

MAX_DETAIL = 2000  # letters of an exception that are kept


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that a stage wants kept: the runner writes them and puts a `Stored` in their place.

    Args:
        suffix: of the file, without the dot: png, mp4, npy.
    """

    data: bytes
    suffix: str

    @property
    def asset(self) -> Asset:
        """Where it will lie in the dataset; what the record names."""
        return asset_of(self.data, self.suffix)


@dataclass(frozen=True, slots=True)
class Stored:
    """A written asset, as later stages find it.

    Args:
        root: the dataset's folder.
    """

    asset: Asset
    root: Path

    @property
    def path(self) -> Path:
        """Its file."""
        return self.root / str(self.asset.uri)

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            DataError: missing, or not what was written.
        """
        return read_asset(self.root, self.asset)


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A record in progress.

    Args:
        id: unique in the dataset. The item of a source starts with the source's.
        payload: what stages hand on under names of theirs. A `Blob` is written when the stage
            returns; arrays and bytes travel between processes, so drop what is no longer needed.
        measurements: what rules look at, by name; finite numbers.
        provenance: the stages that made it, in order; the runner adds to it.
        record: what the dataset will hold; stages replace it as they learn more.
    """

    id: str
    source: Source
    payload: Mapping[str, Any] = field(default_factory=dict)
    measurements: Mapping[str, float] = field(default_factory=dict)
    provenance: tuple[Provenance, ...] = ()
    record: Sample | None = None

    def measure(self, **numbers: float) -> Item:
        """The item with more measurements.

        Raises:
            ValueError: for a number that is not finite.
        """
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise ValueError(f"measurement {name} is {number}; leave it out if unknown")
        added = {name: float(number) for name, number in numbers.items()}
        return replace(self, measurements={**self.measurements, **added})

    def hold(self, **payload: Any) -> Item:
        """The item with more payload."""
        return replace(self, payload={**self.payload, **payload})

    def drop(self, *names: str) -> Item:
        """The item without some of its payload."""
        kept = {name: value for name, value in self.payload.items() if name not in names}
        return replace(self, payload=kept)

    def child(self, id: str) -> Item:  # noqa: A002
        """A part of the item under an id of its own, everything else inherited."""
        return replace(self, id=id)

    def record_as(self, record: Sample) -> Item:
        """The item with a record, whose id it takes."""
        return replace(self, id=record.id, record=record)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an item ends here.

    Args:
        stage: the name of the stage. reason: a few words, the same for all items of one fault; it
            is what gets counted.
        number, limit: what was measured and what it was compared with.
        detail: what is particular to this item, such as the words of an exception.
        item: what is rejected when it is not the item that the stage was given, but a part of it.
    """

    stage: str
    reason: str
    number: float | None = None
    limit: float | None = None
    detail: str | None = None
    item: Item | None = None


Result = Item | Rejection | Iterable[Item | Rejection]
OneByOne = Callable[[Item], Result]
InBatches = Callable[[Sequence[Item]], Sequence[Result]]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step: a function, and what a runner has to know of it.

    Args:
        function: of one item, or with `batch_size` of a list of up to so many, to one result per
            item: an item, a `Rejection`, or any number of both (a generator is consumed as needed).
            It must give the same for the same items, since work that a kill interrupts is done
            again. An exception is a rejection of that item.
        load: instead of `function`: makes it, once per worker (a model).
        batch_size: a batch holds items of one source, so that results do not depend on
            scheduling, unless `mixes_sources` promises that batch mates do not matter.
        cpus, gpus: of one worker; parts are allowed. workers: at most so many on the cluster.
        spread: hand its results on in parts of so many, which other workers may take: set it where
            one item becomes many (a film cut into shots).
        measures: names of the measurements that it adds; no other stage adds them.
        tool, version, settings: what the provenance of its items says, and what a run that goes on
            must have in common with the run before.
    """

    name: str
    function: OneByOne | InBatches | None = None
    load: Callable[[], OneByOne | InBatches] | None = None
    batch_size: int | None = None
    mixes_sources: bool = False
    cpus: float = 1
    gpus: float = 0
    workers: int | None = None
    spread: int | None = None
    measures: tuple[str, ...] = ()
    tool: str | None = None
    version: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.function is None) == (self.load is None):
            raise DataError(f"stage {self.name!r} needs a function or load, one of the two")
        if self.batch_size is not None and self.batch_size < 1:
            raise DataError(f"stage {self.name!r} has batch_size {self.batch_size}; at least 1")
        if self.mixes_sources and self.batch_size is None:
            raise DataError(f"stage {self.name!r} mixes sources but has no batch_size; give one")
        if self.cpus < 0 or self.gpus < 0:
            raise DataError(f"stage {self.name!r} asks for fewer than 0 CPUs or GPUs")
        if min(self.spread or 1, self.workers or 1) < 1:
            raise DataError(f"stage {self.name!r} has spread or workers under 1; leave them out")


def check_stages(stages: Sequence[Stage]) -> None:
    """Raise DataError for no stages, two of one name, or a measurement of two stages."""
    if not stages:
        raise DataError("0 stages given; a run needs at least one")
    seen: dict[str, str] = {}
    for stage in stages:
        if sum(other.name == stage.name for other in stages) > 1:
            raise DataError(f"two stages are called {stage.name!r}; names are unique")
        for name in stage.measures:
            if name in seen:
                raise DataError(
                    f"stages {seen[name]!r} and {stage.name!r} both measure {name!r}; rename one"
                )
            seen[name] = stage.name


def results_of(result: Result) -> Iterator[Item | Rejection]:
    """One by one, whatever form a stage gave them in.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(result, (Item, Rejection)):
        yield result
        return
    if not isinstance(result, Iterable):
        raise TypeError(f"the stage returned {type(result).__name__}, not items or a rejection")
    for one in result:
        if not isinstance(one, (Item, Rejection)):
            raise TypeError(f"the stage returned {type(one).__name__} among its items")
        yield one


def rejection_of(stage: str, error: Exception) -> Rejection:
    """An exception as a rejection."""
    words = (str(error) or type(error).__name__)[:MAX_DETAIL]
    words = words.encode(errors="backslashreplace").decode()  # a file's name need not be Unicode
    return Rejection(stage, f"raised {type(error).__name__}", detail=words)


def part_id(parent: str, stage: str, index: int) -> str:
    """Id of a part that has none: 16 hex digits that follow from where it comes from."""
    text = f"{parent}|{stage}|{index}"
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]
