"""What a dataset holds, counted in one pass: fates, measurements, references, and a sample."""

# Axes: N numbers

from __future__ import annotations

import hashlib
import heapq
import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from anyref.data.dataset import Dataset
from anyref.data.rows import Row

REASONS = 40  # of which rows are drawn; all are counted


class Lot:
    """A few of many, drawn by a hash: the same ones whatever the order they come in.

    Args:
        size: how many. seed: another one draws others.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed = size, seed
        self._heap: list[tuple[int, str]] = []

    def add(self, key: str) -> None:
        """Take part in the draw."""
        ticket = hashlib.sha256(f"{self._seed}|{key}".encode(errors="backslashreplace")).digest()
        entry = (-int.from_bytes(ticket[:8], "big"), key)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def drawn(self) -> list[str]:
        """The keys that won, in the order of their tickets."""
        return [key for _, key in sorted(self._heap, reverse=True)]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage in the funnel. left: records in use after it."""

    stage: str
    tool: str
    rejected: Counter[str]
    left: int


@dataclass(kw_only=True)
class Tally:
    """Counts of one dataset.

    Args:
        rejected: by stage, then by reason. numbers: of every measurement, 8 bytes each.
        references: counts by (kind, pair type). subjects: of clips by how many they have.
        accepted, pairs: what was drawn; a pair is "<record id> <ref_id>". refused: by reason.
    """

    total: int = 0
    in_use: int = 0
    rejected: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    numbers: dict[str, array[float]] = field(default_factory=lambda: defaultdict(_no_numbers))
    references: Counter[tuple[str, str]] = field(default_factory=Counter)
    subjects: Counter[int] = field(default_factory=Counter)
    entities: int = 0
    accepted: list[str] = field(default_factory=list)
    refused: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    pairs: list[str] = field(default_factory=list)

    def funnel(self, dataset: Dataset) -> Iterator[Step]:
        """The dataset's stages in order, then whatever else rejected records."""
        tools = {
            s.name: " ".join(filter(None, (s.tool, s.version))) for s in dataset.manifest.stages
        }
        left = self.total
        for stage in dict.fromkeys((*tools, *self.rejected)):
            reasons = self.rejected.get(stage, Counter())
            left -= reasons.total()
            yield Step(stage=stage, tool=tools.get(stage, ""), rejected=reasons, left=left)

    def measured(self, name: str) -> np.ndarray:
        """The numbers of a measurement: float64 (N,)."""
        return np.array(self.numbers[name])


def _no_numbers() -> array[float]:
    return array("d")


def tally(dataset: Dataset, *, seed: int = 0, samples: int = 12) -> Tally:
    """Count a dataset, and draw some of its records.

    Args:
        samples: how many accepted records and pairs; of every reason a third of it.

    Raises:
        DataError: when a part is missing or damaged.
    """
    made = Tally()
    accepted, pairs = Lot(samples, seed), Lot(samples, seed)
    refused: dict[tuple[str, str], Lot] = {}
    entities: set[str] = set()
    for row in dataset.rows():
        made.total += 1
        for name, number in row.measurements.items():
            made.numbers[name].append(number)
        if row.status == "rejected":
            fate = (row.stage or "", row.reason or "")
            made.rejected[fate[0]][fate[1]] += 1
            if fate in refused or len(refused) < REASONS:
                refused.setdefault(fate, Lot(max(1, samples // 3), seed)).add(row.id)
            continue
        made.in_use += 1
        accepted.add(row.id)
        _count_references(row, made, entities, pairs)
    made.entities = len(entities)
    made.accepted, made.pairs = accepted.drawn(), pairs.drawn()
    made.refused = {fate: lot.drawn() for fate, lot in sorted(refused.items())}
    return made


def _count_references(row: Row, made: Tally, entities: set[str], pairs: Lot) -> None:
    """Count from the JSON itself: reading it as a record takes twenty times as long."""
    said = json.loads(row.record) if row.record is not None else {}
    references = said.get("references", ())
    own = {reference["entity_id"] for reference in references}
    entities |= own
    made.subjects[len(own)] += 1
    for reference in references:
        pair_type = reference.get("pair_type", "regular")
        made.references[reference["kind"], pair_type] += 1
        if pair_type == "cross_clip" and reference.get("origin", {}).get("sample_id"):
            pairs.add(f"{row.id} {reference['ref_id']}")
