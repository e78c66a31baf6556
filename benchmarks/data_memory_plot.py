"""The plot of what `data_memory.py` measured: memory over records, one line per process kind.

python benchmarks/data_memory_plot.py benchmarks/data_memory*.json > benchmarks/data_memory.svg
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 560.0, 260.0, 56.0, 16.0, 40.0
TICKS = 5
COLOURS = ("#0a58ca", "#d9480f", "#2b8a3e")

Line = tuple[str, list[tuple[float, float]]]


def lines_of(paths: list[Path]) -> Iterator[Line]:
    """(records, MiB) of the process that drives each runner, and of its workers if it has any."""
    for path in paths:
        made = json.loads(path.read_text())
        own = [(done, process) for done, process, _ in made["points"]]
        workers = [(done, mib) for done, _, mib in made["points"] if mib]
        yield f"{made['runner']}: driver", own
        if workers:
            yield f"{made['runner']}: all workers", workers


def draw(lines: list[Line]) -> str:
    """SVG; both axes begin at 0, so that a flat line is flat."""
    most = max(x for _, points in lines for x, _ in points)
    high = 1.1 * max(y for _, points in lines for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / most * WIDTH, TOP + (1 - y / high) * HEIGHT

    shapes = []
    for tick in range(TICKS + 1):
        x, y = place(most * tick / TICKS, high * tick / TICKS)
        floor, edge = TOP + HEIGHT, LEFT + WIDTH
        mib, records = f"{high * tick / TICKS:.0f}", f"{most * tick / TICKS:,.0f}"
        shapes += [
            f'<path d="M{LEFT} {y:.1f}H{edge}" stroke="#ddd"/>',
            f'<text x="{LEFT - 6}" y="{y + 3:.1f}" text-anchor="end">{mib}</text>',
            f'<text x="{x:.1f}" y="{floor + 15}" text-anchor="middle">{records}</text>',
        ]
    for (name, points), colour in zip(lines, COLOURS, strict=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        x, y = place(most * 0.02, points[len(points) // 2][1])
        shapes += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{x:.1f}" y="{y - 6:.1f}" fill="{colour}">{name}</text>',
        ]
    width, height = LEFT + WIDTH + 30, TOP + HEIGHT + BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        + "".join(shapes)
        + f'<text x="{LEFT + WIDTH / 2}" y="{height - 6}" text-anchor="middle">records; '
        "resident memory in MiB</text></svg>\n"
    )


if __name__ == "__main__":
    sys.stdout.write(draw(list(lines_of([Path(name) for name in sys.argv[1:]]))))
