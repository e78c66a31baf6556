"""VBench's result files: results_..._eval_results.json, one or several in a folder.

    {"subject_consistency": [0.95, [{"video_path": ".../a fox-0.mp4", "video_results": 0.96}]]}

The first number is the dimension over all videos, and the one that counts; a list of videos may be
empty. Imaging quality is over 1 there and over 100 in the videos' own results; in our tables it is
over 1 everywhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import Benchmark
from anyref.evaluation.metric import Outcome, Score
from anyref.evaluation.profiles.profile import Profile, Summary
from anyref.evaluation.profiles.vbench import SCALES
from anyref.evaluation.results import ScoreTable
from anyref.evaluation.videos import TAKE, Sample, sample_of
from anyref.media import write_atomically

MAX_FILE_BYTES = 256 * 2**20
PATTERN = "*_eval_results.json"
OVER = {"imaging_quality": 100.0}  # the scale of the videos' own results


@dataclass(frozen=True)
class VBenchResults:
    """What result files say.

    Args:
        raw: dimensions as VBench prints them; `vbench.scaled` scales them for the totals.
        table: the videos' scores, and `raw` as what was printed. faults: what could not be used.
    """

    raw: Mapping[str, float]
    table: ScoreTable
    faults: tuple[str, ...]


def read_eval_results(path: str | Path, benchmark: Benchmark | None = None) -> VBenchResults:
    """Read a file, or every result file of a folder; of a repeated dimension the last counts.

    Args:
        benchmark: whose cases the videos are of, by prompt or id; without it, a name's last "-N" is
            its take.

    Raises:
        EvaluationError: for no file, or one that is not JSON of this form at all; for videos of
            which none is the benchmark's.
    """
    path = Path(path)
    files = sorted(path.glob(PATTERN)) if path.is_dir() else [path]
    if not files:
        raise EvaluationError(f"{str(path)!r} holds no {PATTERN}; give VBench's output folder")
    raw: dict[str, float] = {}
    columns: dict[str, dict[Sample, Outcome]] = {}
    faults: list[str] = []
    any_video = False
    for file in files:
        for dimension, said in _read(file).items():
            known = dimension in SCALES and isinstance(said, list) and len(said) == 2
            if not known or not _is_number(said[0]) or not isinstance(said[1], list):
                faults.append(f"{file.name}: {dimension!r:.60} is not a dimension with results")
                continue
            raw[dimension] = float(said[0])
            any_video = any_video or bool(said[1])
            columns[dimension] = _videos(dimension, said[1], benchmark, faults)
    if benchmark is not None and any_video and not any(columns.values()):
        raise EvaluationError(
            f"{str(path)!r} has results of 0 videos of the benchmark ({faults[0]}); name a "
            "benchmark with their prompts, such as VBench_full_info.json"
        )
    if not raw:
        raise EvaluationError(f"{str(path)!r} has no dimension of VBench ({'; '.join(faults[:1])})")
    return VBenchResults(raw, ScoreTable(columns, printed=raw), tuple(faults))


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ValueError("it is over 256 MiB")
        said = json.loads(file.read_text("utf-8-sig"))
        if not isinstance(said, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise EvaluationError(f"{str(file)!r} cannot be used: {error}") from error
    return said


def _videos(
    dimension: str, said: list[Any], benchmark: Benchmark | None, faults: list[str]
) -> dict[Sample, Outcome]:
    outcomes: dict[Sample, Outcome] = {}
    for entry in said:
        fields = entry if isinstance(entry, dict) else {}
        path = fields.get("video_path")
        value: Any = fields.get("video_results")
        sample = _sample(path, benchmark) if isinstance(path, str) else None
        if sample is None or not (_is_number(value) or isinstance(value, bool)):
            faults.append(f"{dimension}: {str(entry)[:120]!r} is no video with a number")
        else:
            outcomes[sample] = Score(float(value) / OVER.get(dimension, 1.0))
    return outcomes


def _sample(path: str, benchmark: Benchmark | None) -> Sample | None:
    stem = path.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    if benchmark is not None:
        return sample_of(stem, benchmark)
    match = TAKE.fullmatch(stem)
    return (match[1], int(match[2])) if match else (stem, 0)


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def write_eval_results(
    path: str | Path,
    profile: Profile,
    summary: Summary,
    table: ScoreTable,
    videos: Mapping[Sample, Path],
) -> None:
    """Write the dimensions that were measured as VBench does; `read_eval_results` reads them.

    Args:
        profile: of the summary. videos: the file of each sample; those without are left out.

    Raises:
        MediaError: when the folder cannot be written.
    """
    scales = {column.name: (column.floor, column.ceiling) for column in profile.columns}
    said = {}
    for name, value in summary.values.items():
        floor, ceiling = scales[name]
        entries = [
            {"video_path": str(videos[sample]), "video_results": score * OVER.get(name, 1.0)}
            for sample, score in sorted(table.values(name).items())
            if sample in videos
        ]
        said[name] = [floor + value * (ceiling - floor), entries]
    text = json.dumps(said, indent=4)
    write_atomically(path, lambda file: file.write(text.encode()))
