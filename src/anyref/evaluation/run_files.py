"""An evaluation as files for machines and for text: results.json, results.csv, report.md.

They hold no dates and no paths, so that two evaluations of the same videos give the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anyref.data.markup import plain
from anyref.evaluation.metric import Score
from anyref.evaluation.profiles.magref import NAME as MAGREF
from anyref.evaluation.profiles.opens2v_files import write_merged, write_score_folder
from anyref.evaluation.profiles.score_tables import write_table
from anyref.evaluation.profiles.vbench_files import write_eval_results
from anyref.evaluation.run import Evaluation, Figures, Scored
from anyref.evaluation.run_profile import Gate
from anyref.evaluation.statistics import Comparison, Intervals, Paired
from anyref.lab.statistics import Estimate
from anyref.media import write_atomically

FORMAT = 1
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")  # that a spreadsheet would calculate
SHOWN_CASES = 5  # best and worst in the Markdown
SMALL = (
    "Published rows were measured with the suite's own models, this evaluation with small ones "
    "that packages ship: the rows show the field, they are not to be compared with ours."
)


def write_files(folder: Path, evaluation: Evaluation, gates: Sequence[Gate] = ()) -> None:
    """Write the three files.

    Raises:
        MediaError: when the folder cannot be written.
    """
    said = json.dumps(to_json(evaluation, gates), indent=1, allow_nan=False, sort_keys=True)
    texts = {
        "results.json": said + "\n",
        "results.csv": to_csv(evaluation),
        "report.md": to_markdown(evaluation),
    }
    for name, text in texts.items():
        data = text.encode("utf-8", errors="backslashreplace")
        write_atomically(folder / name, lambda file, data=data: file.write(data))  # type: ignore[misc]


def write_suite_files(folder: Path, evaluation: Evaluation) -> None:
    """Write what the scripts of the profile's suite write; nothing for our own profile.

    Raises:
        MediaError: when the folder cannot be written.
    """
    profile, summary = evaluation.profile, evaluation.figures.summary
    table, videos = evaluation.model.table, evaluation.model.results
    name = evaluation.model.name.replace("/", "-")
    if profile.name.startswith("opens2v"):
        write_score_folder(folder / f"{name}_output_json", table)
        write_merged(folder / f"{name}_{profile.groups[0].name}.json", summary)
    elif profile.name.startswith("vbench"):
        files = {sample: Path(path.name) for sample, path in videos.found.items()} if videos else {}
        write_eval_results(folder / f"{name}_eval_results.json", profile, summary, table, files)
    elif profile.name == MAGREF:
        write_table(folder / "scores.csv", table, [column.name for column in profile.columns])


def to_json(evaluation: Evaluation, gates: Sequence[Gate] = ()) -> dict[str, Any]:
    """Everything, as plain values."""
    benchmark, figures = evaluation.benchmark, evaluation.figures
    return {
        "format": FORMAT,
        "benchmark": {"name": benchmark.name, "cases": len(benchmark), "faults": benchmark.faults},
        "profile": evaluation.profile.name,
        "grade": evaluation.grade,
        "seed": evaluation.seed,
        "metrics": {
            name: {**asdict(spec), "needs": sorted(spec.needs)}
            for name, spec in sorted(evaluation.specs.items())
        },
        "model": _scored(evaluation.model),
        "other": None if evaluation.other is None else _scored(evaluation.other),
        "figures": _figures(figures),
        "parts": {
            by: {name: _figures(part) for name, part in named.items()}
            for by, named in evaluation.parts.items()
        },
        "case_scores": dict(sorted(evaluation.case_scores.items())),
        "published": [asdict(row) for row in evaluation.published],
        "gates": [
            {
                "name": gate.name,
                "limit": gate.limit,
                "value": gate.value(figures.summary),
                "passed": gate.holds(figures.summary),
            }
            for gate in gates
        ],
    }


def _scored(scored: Scored) -> dict[str, Any]:
    videos = scored.results
    return {
        "name": scored.name,
        "scores": scored.table.to_json(),
        "faults": list(scored.faults),
        "videos": None
        if videos is None
        else {
            "found": len(videos.found),
            "refused": {f"{case}-{take}": why for (case, take), why in videos.refused.items()},
            "missing": [f"{case}-{take}" for case, take in videos.missing],
            "extra": list(videos.extra),
        },
    }


def _figures(figures: Figures) -> dict[str, Any]:
    known = figures.intervals
    return {
        "cases": figures.cases,
        "total": {"value": figures.summary.total, **_ends(known.total)},
        "groups": dict(figures.summary.groups),
        "metrics": {
            figure.name: {**asdict(figure), **_ends(known.metrics.get(figure.name))}
            for figure in figures.summary.figures
        },
        "notes": list(figures.summary.notes),
        "comparison": None if figures.comparison is None else _comparison(figures.comparison),
    }


def _ends(estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {"low": None, "high": None}
    return {"low": estimate.low, "high": estimate.high}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "total": None if comparison.total is None else _paired(comparison.total),
        "metrics": {name: _paired(pair) for name, pair in comparison.metrics.items()},
    }


def _paired(pair: Paired) -> dict[str, Any]:
    return {**asdict(pair), "note": pair.note}


def to_csv(evaluation: Evaluation) -> str:
    """One row per case and take: values as measured, and why there is none."""
    table, names = evaluation.model.table, [c.name for c in evaluation.profile.columns]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    headings = ("case", "take", "category", "references", "case_score")
    writer.writerow([*headings, *names, "not measured"])
    for case_id, take in table.samples:
        outcomes = {name: table.outcomes(name).get((case_id, take)) for name in names}
        known = case_id in evaluation.benchmark
        case = evaluation.benchmark[case_id] if known else None
        whole = evaluation.case_scores.get(case_id)
        why = [
            f"{name}: {outcome.reason} ({outcome.cause})"
            for name, outcome in outcomes.items()
            if outcome is not None and not isinstance(outcome, Score)
        ]
        values = [o.value if isinstance(o, Score) else "" for o in outcomes.values()]
        words = (case.category, len(case.kinds)) if case else ("", "")
        row = [case_id, take, *words, "" if whole is None else whole, *values, "; ".join(why)]
        writer.writerow([_cell(value) for value in row])
    return file.getvalue()


def _cell(value: Any) -> Any:
    """Text that no spreadsheet takes for a formula."""
    if isinstance(value, str):
        text = plain(value, 2000)
        return f"'{text}" if text.startswith(FORMULA_SIGNS) else text
    return value


def to_markdown(evaluation: Evaluation) -> str:
    """A table to paste: figures with intervals, published rows, comparison, cases."""
    lines = [
        f"# {_words(evaluation.model.name)} on {_words(evaluation.benchmark.name)}",
        "",
        f"Profile {evaluation.profile.name}, metrics of grade {evaluation.grade}, "
        f"{evaluation.figures.cases} cases; figures are on a scale of 0 (worst) to 1 (best) with "
        "95 % intervals over cases.",
        "",
    ]
    headings = ("", "score", "95 % interval", "scored", "as worst", "left out")
    lines += _table(headings, _rows(evaluation))
    if evaluation.published:
        names = [column.name for column in evaluation.profile.columns]
        rows = [
            (row.model, _number(row.total), *(_number(row.values.get(n)) for n in names),
             f"published by {row.evaluated_by} in {row.source}")
            for row in evaluation.published
        ]  # fmt: skip
        sources = sorted({row.source for row in evaluation.published})
        lines += ["", f"## Published figures ({_words('; '.join(sources))})", ""]
        lines += [SMALL, ""] if evaluation.grade == "small" else []
        lines += _table(("model", "total", *names, "by"), rows)
    if evaluation.figures.comparison is not None and evaluation.other is not None:
        lines += ["", f"## Difference to {_words(evaluation.other.name)}", ""]
        lines += _table(
            ("", "difference", "95 % interval", "effect", "p", ""),
            comparison_rows(evaluation.figures.comparison),
        )
    ordered = sorted(evaluation.case_scores.items(), key=lambda item: (-item[1], item[0]))
    lines += ["", "## Cases", "", "Best: " + _cases(ordered[:SHOWN_CASES])]
    lines += ["", "Worst: " + _cases(ordered[::-1][:SHOWN_CASES])]
    notes = [f"- {_words(note)}" for note in evaluation.figures.summary.notes]
    return "\n".join([*lines, "", "## Notes", "", *notes, ""])


def _rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    figures = evaluation.figures
    total = _interval(figures.intervals.total)
    rows: list[tuple[str, ...]] = [
        ("**total**", f"**{_number(figures.summary.total)}**", total, "", "", "")
    ]
    for figure in figures.summary.figures:
        counts = (figure.scored, figure.penalised, figure.left_out)
        between = _interval(figures.intervals.metrics.get(figure.name))
        rows.append((figure.name, _number(figure.value), between, *(str(n) for n in counts)))
    return rows


def comparison_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Name, difference, interval, effect, p and the note on power; the total first."""
    named: Mapping[str, Paired] = {
        **({"total": comparison.total} if comparison.total else {}),
        **comparison.metrics,
    }
    return [
        (
            name,
            f"{pair.difference:+.4f}",
            f"{pair.low:+.4f} to {pair.high:+.4f}",
            "-" if pair.effect is None else f"{pair.effect:+.2f}",
            f"{pair.p:.2g}",
            pair.note,
        )
        for name, pair in named.items()
    ]


def interval_words(known: Intervals, name: str) -> str:
    """The interval of a metric, or of "total"."""
    return _interval(known.total if name == "total" else known.metrics.get(name))


def _interval(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.low:.4f} to {estimate.high:.4f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _cases(ordered: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{_words(case)} ({value:.3f})" for case, value in ordered) or "none"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    head = f"| {' | '.join(headings)} |"
    body = [f"| {' | '.join(_words(cell) for cell in row)} |" for row in rows]
    return [head, "|" + "---|" * len(headings), *body]


def _words(text: str) -> str:
    """Text that makes no markup: what Markdown or HTML would act on is escaped."""
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;")
    for sign in "\\`|[]#":
        safe = safe.replace(sign, f"\\{sign}")
    return safe
