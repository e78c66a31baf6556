"""OpenS2V-Eval's files: a folder of score files per model, merged figures, leaderboards as CSV.

MODEL_output_json/aesthetic_score.json    {"faceobj_14": {"aes_score": 4.81}, ...}
MODEL_output_json/naturalscore_1.json     {"faceobj_14": "4", ...}        (also _2, _3)
MODEL_Open-Domain.json                    {"total_score": 0.57, "aes_score": 0.47, ...}
leaderboard                               Model,Venue,Evaluated by,TotalScore↑,Aesthetics↑,...
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyref.errors import EvaluationError
from anyref.evaluation.metric import Outcome, Score, Skipped
from anyref.evaluation.profiles.opens2v import Domain, Version, natural_score, opens2v
from anyref.evaluation.profiles.profile import Profile, Summary
from anyref.evaluation.published import PublishedRow
from anyref.evaluation.results import ScoreTable
from anyref.evaluation.videos import Sample
from anyref.media import write_atomically

MAX_FILE_BYTES = 64 * 2**20
# file's stem, the field in it, our column; a later one stands in for an earlier one
SCORE_FILES = (
    ("aesthetic_score", "aes_score", "aes_score"),
    ("motionscore", "motion_fb", "motion_amplitude"),  # its name in v1.0
    ("motion_amplitude", "motion_fb", "motion_amplitude"),
    ("motion_smoothness", "motion_smoothness", "motion_smoothness"),
    ("facesim", "cur_score", "facesim_cur"),
    ("gmescore", "gme_score", "gme_score"),
    ("nexusscore", "nexus_score", "nexus_score"),
)
JUDGE_FILES = ("naturalscore_1", "naturalscore_2", "naturalscore_3")
MERGED_1_0 = {"motion_amplitude": "motion_score"}  # as v1.0 calls it in merged figures
HEADERS = {
    "aes_score": "Aesthetics",
    "motion_smoothness": "MotionSmoothness",
    "motion_amplitude": "MotionAmplitude",
    "facesim_cur": "FaceSim",
    "gme_score": "GmeScore",
    "nexus_score": "NexusScore",
    "natural_score": "NaturalScore",
}
OF_HEADER = {header: name for name, header in HEADERS.items()} | {"Motion": "motion_amplitude"}
LINK = re.compile(r"\[([^\]]*)\]\((\S*)\)")


@dataclass(frozen=True)
class ScoreFolder:
    """What a folder of score files says, and what in it could not be used."""

    table: ScoreTable
    faults: tuple[str, ...]


def read_score_folder(folder: str | Path) -> ScoreFolder:
    """Read a model's score files; videos are the first takes of the cases they are named after.

    A file or an entry that cannot be used becomes a fault (the authors' script crashes on some);
    an answer of the judge that is no number leaves the video's other answers to count.

    Raises:
        EvaluationError: for a folder that is not there or holds none of the files.
    """
    folder = Path(folder)
    names = [name for name, _, _ in SCORE_FILES] + list(JUDGE_FILES)
    there = {name: folder / f"{name}.json" for name in names}
    there = {name: path for name, path in there.items() if path.is_file()}
    if not there:
        raise EvaluationError(
            f"{str(folder)!r} holds none of OpenS2V-Eval's score files ({', '.join(names)}); give "
            "the folder that its scripts wrote"
        )
    faults: list[str] = []
    said = {name: _read_object(path, faults) for name, path in there.items()}
    columns: dict[str, dict[Sample, Outcome]] = {}
    for name, field, column in SCORE_FILES:
        for case, entry in said.get(name, {}).items():
            value: Any = entry.get(field) if isinstance(entry, dict) else None
            if _is_number(value):
                columns.setdefault(column, {})[case, 0] = Score(float(value))
            else:
                faults.append(f"{name}.json, {case!r:.80}: no number under {field!r}")
    natural = _natural([(name, said[name]) for name in JUDGE_FILES if name in said], faults)
    if natural:
        columns["natural_score"] = natural
    return ScoreFolder(ScoreTable(columns), tuple(faults))


def _natural(
    runs: Sequence[tuple[str, Mapping[str, Any]]], faults: list[str]
) -> dict[Sample, Outcome]:
    answers: dict[str, list[float]] = defaultdict(list)
    for name, said in runs:
        for case, answer in said.items():
            try:
                answers[case].append(natural_score([answer]))
            except (EvaluationError, TypeError):
                answers.setdefault(case, [])
                faults.append(f"{name}.json, {case!r:.80}: the answer {answer!r:.80} is no number")
    unjudged = Skipped("the judge gave no number", "unavailable")
    return {
        (case, 0): Score(sum(given) / len(given), {"answers": given}) if given else unjudged
        for case, given in answers.items()
    }


def _read_object(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError("it is over 64 MiB")
        said = json.loads(data.decode("utf-8-sig"))
        if not isinstance(said, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        faults.append(f"{path.name}: {error}")
        return {}
    return said


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def write_score_folder(folder: str | Path, table: ScoreTable) -> None:
    """Write the first takes' scores as the authors' scripts do; `read_score_folder` reads them.

    Natural scores become three equal answers unless the score keeps the judge's own.

    Raises:
        MediaError: when the folder cannot be written.
    """
    folder = Path(folder)
    for name, field, column in SCORE_FILES:
        values = _first_takes(table, column)
        if values and name != "motionscore":
            _write(folder / f"{name}.json", {case: {field: s.value} for case, s in values.items()})
    judged = _first_takes(table, "natural_score")
    for run, name in enumerate(JUDGE_FILES if judged else ()):
        answers = {
            case: given[run]
            for case, score in judged.items()
            if run < len(given := score.details.get("answers", [score.value] * len(JUDGE_FILES)))
        }
        said = {case: repr(float(n)).removesuffix(".0") for case, n in answers.items()}
        _write(folder / f"{name}.json", said)


def _first_takes(table: ScoreTable, column: str) -> dict[str, Score]:
    outcomes = sorted(table.outcomes(column).items())
    return {
        case: outcome
        for (case, take), outcome in outcomes
        if take == 0 and isinstance(outcome, Score)
    }


def merged_figures(summary: Summary) -> dict[str, float | None]:
    """Figures under the keys of the authors' merged JSON, total first, 0 to 1."""
    renamed = MERGED_1_0 if summary.profile == "opens2v-v1.0" else {}
    values = {renamed.get(f.name, f.name): f.value for f in summary.figures}
    return {"total_score": summary.total, **values}


def write_merged(path: str | Path, summary: Summary) -> None:
    """Write MODEL_DOMAIN.json as merge_result.py does.

    Raises:
        MediaError: when the folder cannot be written.
    """
    _write(Path(path), merged_figures(summary))


def _write(path: Path, said: Mapping[str, Any]) -> None:
    text = json.dumps(said, indent=4)
    write_atomically(path, lambda file: file.write(text.encode()))


def read_leaderboard(path: str | Path, version: Version, domain: Domain) -> list[PublishedRow]:
    """The rows of one of the benchmark's CSV files, scaled to 0..1 and marked as published.

    Raises:
        EvaluationError: for a file that cannot be read, a column that is missing or a cell that is
            no percentage.
    """
    profile = opens2v(version, domain)
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"leaderboard {str(path)!r} cannot be read: {error}") from error
    lines = list(csv.DictReader(text.splitlines()))
    return [_row(line, profile, domain, f"{path}, row {n}") for n, line in enumerate(lines, 1)]


def _row(line: dict[str, str | None], profile: Profile, domain: str, where: str) -> PublishedRow:
    cells = {(key or "").rstrip("↑"): cell or "" for key, cell in line.items() if key}
    values = {OF_HEADER[key]: cell for key, cell in cells.items() if key in OF_HEADER}
    wanted = [column.name for column in profile.columns]
    if missing := [name for name in (*wanted,) if name not in values]:
        raise EvaluationError(f"leaderboard {where}: no column for {', '.join(missing)}")
    model = cells.get("Model", "")
    link = LINK.fullmatch(model)
    return PublishedRow(
        profile=profile.name,
        table=domain,
        model=link[1] if link else model,
        values={name: _percentage(values[name], where) for name in wanted},
        total=_percentage(cells.get("TotalScore", ""), where),
        evaluated_by=cells.get("Evaluated by", ""),
        source=link[2] if link else "",
    )


def _percentage(cell: str, where: str) -> float:
    try:
        value = float(cell.strip().removesuffix("%")) / 100
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise EvaluationError(f"leaderboard {where}: {cell!r:.40} is no percentage such as 52.51%")
    return value


def leaderboard_line(
    summary: Summary, model: str, evaluated_by: str, venue: str = "Open-Source"
) -> str:
    """A row for a leaderboard's CSV, percentages with two decimals, in its columns' order.

    The benchmark's own upload form swaps smoothness and amplitude (leaderboard/app.py); this
    does not. Motion comes after aesthetics in both versions.

    Raises:
        EvaluationError: where a figure is not there.
    """
    if summary.total is None or any(f.value is None for f in summary.figures):
        raise EvaluationError(f"the figures of {model!r} are not complete: {summary.values}")
    figures = [summary.total, *(f.value for f in summary.figures)]
    cells = [model, venue, evaluated_by, *(f"{100 * float(v or 0):.2f}%" for v in figures)]
    if any(character in cell for cell in cells for character in ',"\r\n'):
        raise EvaluationError(f"{cells[:3]} hold a comma, a quote or a line break; leave it out")
    return ",".join(cells)
