"""Write the tables of docs/metrics.md from metric_response.json and metric_rank.json.

python benchmarks/metric_tables.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from metric_corruptions import CORRUPTIONS, Corruption

from anyref.media import write_atomically

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs/metrics.md"
ENOUGH = 0.9


def response(cells: Iterable[Mapping[str, Any]]) -> str:
    """Corruptions, and what sees them; claims first, then what sees them besides."""
    by_corruption: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        by_corruption.setdefault(cell["corruption"], []).append(cell)
    lines = ["| corruption | metric | real: AUC (pairs), clips | lab: AUC (pairs), clips |",
             "|---|---|---|---|"]  # fmt: skip
    for corruption in CORRUPTIONS:
        some = by_corruption.get(corruption.name, [])
        title = f"**{corruption.name}**: {corruption.about}"
        for metric in corruption.sees:
            shown = [_cell(some, corruption, metric, source) for source in ("real", "lab")]
            lines.append(f"| {title} | {metric} | {shown[0]} | {shown[1]} |")
            title = ""
            photos = _cell(some, corruption, metric, "photo")
            if photos != "-":
                lines.append(f"| | *the same, photographs* | {photos} | |")
        others = sorted(
            {
                cell["metric"]
                for cell in some
                if cell["metric"] not in corruption.sees
                and cell["source"] == "real"
                and cell["auc"] >= ENOUGH
            }
        )
        if others:
            lines.append(f"| {title} | *also seen on real clips by* {', '.join(others)} | | |")
    return "\n".join(lines)


def _cell(
    cells: Iterable[Mapping[str, Any]], corruption: Corruption, metric: str, source: str
) -> str:
    for cell in cells:
        if cell["metric"] == metric and cell["source"] == source:
            missed = "" if cell["auc"] >= ENOUGH else " **below 0.9**"
            mark = missed if corruption.claims(metric, source) else " *not claimed*"
            return f"{cell['auc']:.2f} ({cell['pairs']:.2f}), {cell['clips']}{mark}"
    return "-"


def everything(cells: Sequence[Mapping[str, Any]]) -> str:
    """AUC of every metric (rows) and corruption (columns) on real clips, lab clips in brackets."""
    names = list(dict.fromkeys(cell["metric"] for cell in cells))
    columns = [c.name for c in CORRUPTIONS if any(cell["corruption"] == c.name for cell in cells)]
    found = {(c["metric"], c["corruption"], c["source"]): c["auc"] for c in cells}
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        row = []
        for column in columns:
            real, lab = (found.get((name, column, source)) for source in ("real", "lab"))
            shown = [f"{real:.2f}"] if real is not None else []
            row.append(" ".join([*shown, *([f"({lab:.2f})"] if lab is not None else [])]))
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def rank(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Rank correlations with their intervals."""
    lines = ["| metric ~ truth | videos | rank correlation | 95 % | AUC of thirds |",
             "|---|---|---|---|---|"]  # fmt: skip
    for name, parts in found.items():
        for part, cell in parts.items():
            low, high = cell["interval"]
            row = [f"{name}, {part}", f"{cell['videos']}", f"{cell['rho']:.2f}"]
            row += [f"{low:.2f} to {high:.2f}", f"{cell['thirds']:.2f}"]
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def filled(text: str, name: str, table: str) -> str:
    """A text with what stands between two marks exchanged. ValueError: without the marks."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Fill in the tables."""
    text = DOCS.read_text("utf-8")
    cells = json.loads((HERE / "metric_response.json").read_text("utf-8"))["cells"]
    text = filled(text, "response", response(cells))
    text = filled(text, "everything", everything(cells))
    ranks = json.loads((HERE / "metric_rank.json").read_text("utf-8"))
    text = filled(text, "rank", rank(ranks["correlations of videos"]))
    text = filled(text, "blind", rank(ranks["correlations of blind"]))
    write_atomically(DOCS, lambda file: file.write(text.encode()))


if __name__ == "__main__":
    main()
