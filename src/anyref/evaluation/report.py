"""An evaluation as one page: figures beside published ones, drawings, cases to look at.

The page needs nothing else: styles are in it, pictures are data URIs, and it may load nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from anyref.data.markup import Child, Markup, joined, table, tag
from anyref.data.report import Album, section, tiles, write_page
from anyref.evaluation.plots import Point, interval_plot, radar
from anyref.evaluation.report_cases import CaseBook
from anyref.evaluation.run import Evaluation, Figures
from anyref.evaluation.run_files import SMALL, comparison_rows, interval_words
from anyref.lab.statistics import Estimate

PICTURE_BYTES = 16 * 2**20  # of all pictures of a page, as text
MAX_LISTED = 60  # missing videos, refused ones, extra ones


def write_report(
    target: Path, evaluation: Evaluation, *, picture_bytes: int = PICTURE_BYTES
) -> Path:
    """Write the page; where.

    Args:
        picture_bytes: bound on all pictures, as text in the page; best and worst cases come first.

    Raises:
        MediaError: the page cannot be written.
    """
    book = CaseBook(evaluation, Album(picture_bytes))
    best, worst = book.extremes()
    parts = (
        _heading(evaluation),
        _scores(evaluation),
        _leaderboard(evaluation),
        _comparison(evaluation),
        _drawings(evaluation),
        section("Best cases", "wide", best) if best else None,
        section("Worst cases", "wide", worst) if worst else None,
        _gaps(evaluation),
        tag("section", tag("h2", "Every case"), *book.every()),
        _credits(evaluation),
    )
    title = f"{evaluation.model.name} on {evaluation.benchmark.name}"
    write_page(target, title, (part for part in parts if part is not None))
    return target


def _heading(evaluation: Evaluation) -> Markup:
    figures, results = evaluation.figures, evaluation.model.results
    total = figures.summary.total
    numbers: dict[str, Child] = {
        "total, 0 to 1": "-" if total is None else f"{total:.3f}",
        "its 95 % interval": _between(figures.intervals.total),
        "cases": f"{len(evaluation.benchmark):,}",
    }
    if results is not None:
        numbers["videos"] = f"{len(results.found):,}"
        numbers["missing or refused"] = f"{len(results.missing) + len(results.refused):,}"
    said = (
        f"Benchmark {evaluation.benchmark.name}, profile {evaluation.profile.name}, metrics of "
        f"grade {evaluation.grade}. Figures go from 0, the worst, to 1, the best; intervals are "
        "of 95 % over cases."
    )
    return joined(
        tag("h1", f"{evaluation.model.name} on {evaluation.benchmark.name}"),
        tag("p", said, class_="soft"),
        tiles(numbers),
    )


def _between(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.low:.2f} – {estimate.high:.2f}"


def _scores(evaluation: Evaluation) -> Markup:
    figures = evaluation.figures
    rows: list[tuple[Child, ...]] = []
    meanings = []
    for figure, column in zip(figures.summary.figures, evaluation.profile.columns, strict=True):
        spec, mean = evaluation.specs.get(figure.name), "-"
        if figure.value is not None:
            mean = f"{column.floor + figure.value * (column.ceiling - column.floor):.4g}"
        if spec is not None:
            about = f": {spec.about} As measured, {spec.direction} is better."
            meanings.append(tag("li", tag("b", figure.name), about))
        between = _unbroken(interval_words(figures.intervals, figure.name))
        causes = ", ".join(f"{n} {cause}" for cause, n in (figure.causes or {}).items())
        counts = (figure.scored, figure.penalised, figure.left_out)
        score = tag("b", _short(figure.value))
        rows.append((figure.name, score, between, mean, *counts, _unbroken(causes)))
    headings = (
        "metric", "score", "95 % interval", "mean as measured", "scored", "as worst", "left out",
        "not scored",
    )  # fmt: skip
    notes = (tag("li", note) for note in figures.summary.notes)
    told = tag("details", tag("summary", "What the metrics measure"), tag("ul", *meanings))
    return tag(
        "section",
        tag("h2", "Scores"),
        table(headings, rows),
        tag("ul", *notes),
        told if meanings else None,
    )


def _unbroken(words: str) -> Markup:
    """Words that stay on one line, as figures in a table should."""
    return tag("span", words, style="white-space:nowrap")


def _leaderboard(evaluation: Evaluation) -> Markup | None:
    """Ours among the published rows, by total; None where nothing is published."""
    if not evaluation.published:
        return None
    names = [column.name for column in evaluation.profile.columns]
    lines: list[tuple[float, tuple[Child, ...]]] = []
    for model, values in _models(evaluation):
        ours = (tag("b", _short(values.get(name))) for name in ("total", *names))
        row = (tag("b", model), *ours, tag("b", _unbroken("measured here")))
        lines.append((values.get("total", -1.0), row))
    for published in evaluation.published:
        printed = (_short(published.values.get(name)) for name in names)
        by = tag("span", _unbroken(f"published, by {published.evaluated_by}"), class_="soft")
        name = _unbroken(published.model)
        line: tuple[Child, ...] = (name, _short(published.total), *printed, by)
        lines.append((published.total, line))
    lines.sort(key=lambda line: -line[0])
    headings = (name.replace("_", " ") for name in names)  # which may break
    source = {row.source for row in evaluation.published}
    said = f"Published rows as printed in: {'; '.join(sorted(source))}."
    small = tag("p", SMALL, class_="why") if evaluation.grade == "small" else None
    return tag(
        "section",
        tag("h2", f"Beside published figures: {evaluation.profile.groups[0].name}"),
        small,
        table(("model", "total", *headings, ""), [row for _, row in lines]),
        tag("p", said, class_="soft"),
    )


def _models(evaluation: Evaluation) -> Iterator[tuple[str, dict[str, float]]]:
    """Names and figures of the model and of the other one, the total among them."""
    for scored, summary in (
        (evaluation.model, evaluation.figures.summary),
        (evaluation.other, evaluation.other_summary),
    ):
        if scored is not None and summary is not None:
            total = {} if summary.total is None else {"total": summary.total}
            yield scored.name, {**summary.values, **total}


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _comparison(evaluation: Evaluation) -> Markup | None:
    if evaluation.other is None or evaluation.figures.comparison is None:
        return None
    rows: list[tuple[Child, ...]] = [
        _unbroken_row(row) for row in comparison_rows(evaluation.figures.comparison)
    ]
    of_parts: list[tuple[Child, ...]] = []
    for by, named in evaluation.parts.items():
        for name, part in named.items():
            for first, *rest in comparison_rows(part.comparison) if part.comparison else ():
                row = _unbroken_row((f"{first} of {_part(by, name)}", *rest))
                (rows if first == "total" else of_parts).append(row)
    headings = ("", "difference", "95 % interval", "effect (d)", "p", "power")
    told = tag("details", tag("summary", "Each metric of each part"), table(headings, of_parts))
    said = (
        "On the cases and takes that both have; positive means better than the other. The effect "
        "is the mean difference over its spread from case to case. A part's total is of the "
        "metrics that apply to it."
    )
    return tag(
        "section",
        tag("h2", f"Difference to {evaluation.other.name}"),
        table(headings, rows),
        tag("p", said, class_="soft"),
        told if of_parts else None,
    )


def _unbroken_row(row: Sequence[str]) -> tuple[Child, ...]:
    return tuple(_unbroken(cell) for cell in row)


def _drawings(evaluation: Evaluation) -> Markup:
    axes = [f.name for f in evaluation.figures.summary.figures if f.value is not None]
    series = list(_models(evaluation))
    if evaluation.published:
        best = max(evaluation.published, key=lambda row: row.total)
        series.append((f"{best.model} (published)", dict(best.values)))
    plots = [radar(axes, series), *_plots(evaluation)]
    return section("Metrics and parts", "", (plot for plot in plots if plot is not None))


def _plots(evaluation: Evaluation) -> Iterator[Markup]:
    """A drawing per metric, and one of the total: all cases, then each part."""
    for name in ("total", *(column.name for column in evaluation.profile.columns)):
        points = [_point("all", evaluation.figures, name, 0)]
        for by, named in evaluation.parts.items():
            points += [_point(_part(by, n), part, name, 2) for n, part in named.items()]
        known = [point for point in points if point is not None]
        if known:
            yield interval_plot(name, "with 95 % intervals", known)


def _part(by: str, name: str) -> str:
    if by == "category":
        return name or "no category"
    return f"{name} reference{'' if name == '1' else 's'}"


def _point(label: str, figures: Figures, name: str, series: int) -> Point | None:
    known, summary = figures.intervals, figures.summary
    value = summary.total if name == "total" else summary.values.get(name)
    if value is None:
        return None
    estimate = known.total if name == "total" else known.metrics.get(name)
    low, high = (None, None) if estimate is None else (estimate.low, estimate.high)
    return Point(f"{label} ({figures.cases})", value, low, high, series)


def _gaps(evaluation: Evaluation) -> Markup | None:
    """Videos that are missing, refused or extra, and cases and score files with faults."""
    results = evaluation.model.results
    said = [f"{case}: {fault}" for case, fault in evaluation.benchmark.faults.items()]
    said += list(evaluation.model.faults)
    if results is not None:
        said += [f"{case}, take {take}: {why}" for (case, take), why in results.refused.items()]
        said += [f"{case}, take {take}: there is no video" for case, take in results.missing]
        said += [f"{name}: belongs to no case" for name in results.extra]
    if not said:
        return None
    more = [f"and {len(said) - MAX_LISTED} more"] if len(said) > MAX_LISTED else []
    items = (tag("li", line) for line in [*said[:MAX_LISTED], *more])
    return tag("section", tag("h2", "What could not be used"), tag("ul", *items))


def _credits(evaluation: Evaluation) -> Markup | None:
    """Who made the reference pictures, folded up; None where the benchmark does not say."""
    said = evaluation.benchmark.credits
    used = dict.fromkeys(path for case in evaluation.benchmark.cases for path in case.pictures)
    items = [tag("li", f"{path}: {said[path]}") for path in used if path in said]
    if not items:
        return None
    return tag("section", tag("details", tag("summary", "Reference pictures"), tag("ul", *items)))
