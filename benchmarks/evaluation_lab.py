"""The small models and two baselines on anyref-lab, as one table.

    for MODEL in tiny-magref tiny-kaleido text-only:tiny-kaleido; do
      anyref evaluate run --model $MODEL --benchmark anyref-lab --out WORK/${MODEL%%:*}
    done
    anyref evaluate run --model copy-paste --benchmark anyref-lab --size 96x96 --frames 17 \\
      --out WORK/copy-paste
    python benchmarks/evaluation_lab.py WORK/*/results.json > benchmarks/anyref_lab/figures.md

Prints Markdown: every metric and the total on the scale of the report, 0 the worst and 1 the best,
with half the width of the 95 % interval; the models by their total, best first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

TOTAL = "total"


def rows(evaluations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of a table with a column per model."""
    ordered = sorted(evaluations, key=lambda one: -(one["figures"][TOTAL]["value"] or 0))
    yield f"| | {' | '.join(one['model']['name'] for one in ordered)} |"
    yield "|---" * (1 + len(ordered)) + "|"
    names = dict.fromkeys(name for one in ordered for name in one["figures"]["metrics"])
    for name in (TOTAL, *names):
        cells = []
        for one in ordered:
            figures = one["figures"]
            cells.append(cell(figures[TOTAL] if name == TOTAL else figures["metrics"].get(name)))
        if any(cells):
            yield f"| {name} | {' | '.join(cells)} |"


def cell(figure: Mapping[str, Any] | None) -> str:
    """A value and half its interval; empty for what was not measured."""
    if figure is None or figure["value"] is None:
        return ""
    half = 0.0 if figure["low"] is None else (figure["high"] - figure["low"]) / 2
    return f"{figure['value']:.2f} ± {half:.2f}"


def main() -> None:
    """Read and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", nargs="+", type=Path, help="results.json of evaluations")
    given = parser.parse_args()
    print("\n".join(rows([json.loads(path.read_text("utf-8")) for path in given.results])))


if __name__ == "__main__":
    main()
