"""Scores of a suite that has no files of its own, as a table: MAGREF's.

    scores.csv     case,take,id_sim,aesthetic,motion,gme_score        (take may be left out)
                   fox-1,0,0.61,5.4,0.95,0.70                         (an empty cell is no score)
    scores.json    {"fox-1": {"id_sim": 0.61, "aesthetic": 5.4, ...}, "fox-1-1": {...}}

In JSON a further take of a case is ID-1, ID-2, as its video is.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyref.data.markup import plain
from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import Benchmark
from anyref.evaluation.metric import Outcome, Score, Skipped
from anyref.evaluation.results import ScoreTable
from anyref.evaluation.videos import Sample, sample_of
from anyref.media import write_atomically

MAX_FILE_BYTES = 64 * 2**20
NAMES = ("scores.csv", "scores.json")


@dataclass(frozen=True)
class ReadTable:
    """Scores, and what could not be used."""

    table: ScoreTable
    faults: tuple[str, ...]


def score_file(path: Path) -> Path | None:
    """The file itself, or that of a folder; None where there is none of a name that tells."""
    if path.suffix.lower() in (".csv", ".json") and path.is_file():
        return path
    return next((path / name for name in NAMES if (path / name).is_file()), None)


def read_table(path: Path, columns: Sequence[str], benchmark: Benchmark) -> ReadTable:
    """Read a file; cases of the benchmark without a score are missing.

    Raises:
        EvaluationError: for a file that cannot be read, or that has no score of the columns for any
            case of the benchmark.
    """
    faults: list[str] = []
    found: dict[str, dict[Sample, Outcome]] = {name: {} for name in columns}
    rows = _csv(path) if path.suffix.lower() == ".csv" else _json(path)
    for where, sample_name, cells in rows:
        sample = sample_of(sample_name, benchmark)
        if sample is None:
            faults.append(f"{where}: {plain(sample_name, 80)!r} is no case of the benchmark")
            continue
        for name in columns:
            value = _number(cells.get(name))
            if value is not None:
                found[name][sample] = Score(value)
            elif cells.get(name) not in (None, ""):
                faults.append(f"{where}: {plain(cells[name], 80)!r} of {name} is no number")
    samples = {sample for column in found.values() for sample in column}
    if not samples:
        raise EvaluationError(
            f"{str(path)!r} has no score of {', '.join(columns)} for a case of "
            f"{benchmark.name!r} ({'; '.join(faults[:1]) or 'no rows'}); see docs/evaluate.md"
        )
    gap = Skipped("no score was given", "missing")
    takes = sorted({take for _, take in samples})
    every = [(case.id, take) for case in benchmark.cases for take in takes]
    filled = {name: {**dict.fromkeys(every, gap), **column} for name, column in found.items()}
    return ReadTable(ScoreTable(filled), tuple(faults))


Row = tuple[str, str, Mapping[str, Any]]  # where it stands, the name of the sample, its cells


def _csv(path: Path) -> Iterable[Row]:
    for number, line in enumerate(csv.DictReader(_text(path).splitlines()), start=2):
        take = (line.get("take") or "0").strip()
        name = (line.get("case") or "").strip()
        yield f"line {number}", name if take == "0" else f"{name}-{take}", line


def _json(path: Path) -> Iterable[Row]:
    try:
        said = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{str(path)!r} is not JSON: {error}") from error
    if not isinstance(said, dict):
        raise EvaluationError(f"{str(path)!r} is no JSON object of cases; see docs/evaluate.md")
    for name, cells in said.items():
        yield path.name, name, cells if isinstance(cells, dict) else {}


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise EvaluationError(f"{str(path)!r} is over 64 MiB; give one model's scores")
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise EvaluationError(f"{str(path)!r} cannot be read: {why}") from error


def _number(said: Any) -> float | None:
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        return None
    try:
        value = float(said)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def write_table(path: Path, table: ScoreTable, columns: Sequence[str]) -> None:
    """Write scores as a CSV that `read_table` reads.

    Raises:
        MediaError: when the folder cannot be written.
    """
    lines = [",".join(("case", "take", *columns))]
    values = {name: table.values(name) for name in columns}
    for case, take in table.samples:
        cells = (values[name].get((case, take)) for name in columns)
        said = ("" if cell is None else repr(cell) for cell in cells)
        lines.append(",".join((case, str(take), *said)))
    text = "\n".join([*lines, ""])
    write_atomically(path, lambda file: file.write(text.encode()))
