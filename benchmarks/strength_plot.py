"""The plot of benchmarks/strength.py as SVG: one panel per family and measure.

Drawn are means over clips of the difference to strength 1 on the same clip.
"""

from __future__ import annotations

import math
from typing import Any

PANELS = (
    ("identity, one of 20", (("chosen_identity", "#0a58ca"), ("others_identity", "#d9480f"))),
    ("template match", (("chosen_match", "#0a58ca"), ("others_match", "#d9480f"))),
    ("direction right", (("direction", "#2b8a3e"),)),
    ("change per frame, grey levels", (("change", "#2b8a3e"),)),
)
FAMILIES = ("kaleido", "magref")
DASHES = {"guidance": "none", "attention": "1.5 2.5", "uniform": "6 3"}
WIDTH, HEIGHT, LEFT, TOP = 210.0, 150.0, 40.0, 40.0  # of a panel and its margins


def draw(summary: dict[str, Any]) -> str:
    """Lines with 95 % intervals over strength, on a logarithmic axis.

    Blue is the subject whose strength is changed, orange the others; whole lines are the map
    guidance, dotted ones attention, broken ones uniform.
    """
    strengths = summary["strengths"]
    shapes = [
        _panel(summary, family, title, lines, strengths, column, row)
        for row, family in enumerate(FAMILIES)
        for column, (title, lines) in enumerate(PANELS)
        if summary.get(family, {}).get("clips")
    ]
    width, height = len(PANELS) * (WIDTH + LEFT) + 20, len(FAMILIES) * (HEIGHT + TOP) + 50
    legend = (
        f'<text x="10" y="{height - 12}">blue: the chosen subject; orange: the others; '
        "whole: map guidance; dotted: attention; broken: uniform; against strength 1 on the same "
        "clip, bars: 95 %</text>"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="10"><rect width="100%" height="100%" fill="white"/>'
        + "".join(shapes)
        + legend
        + "</svg>\n"
    )


def _panel(
    summary: dict[str, Any],
    family: str,
    title: str,
    lines: tuple[tuple[str, str], ...],
    strengths: list[float],
    column: int,
    row: int,
) -> str:
    made = summary[family]
    values = [x for how in DASHES for name, _ in lines for point in made[how][name]["against_1"]
              for x in point]  # fmt: skip
    low, high = min(values), max(values)
    pad = max(1e-3, (high - low) * 0.06)
    low, high = low - pad, high + pad
    x0, y0 = LEFT + column * (WIDTH + LEFT), TOP + row * (HEIGHT + TOP)
    first, last = math.log(strengths[0]), math.log(strengths[-1])

    def at(strength: float, value: float) -> tuple[float, float]:
        across = (math.log(strength) - first) / (last - first)
        return x0 + across * WIDTH, y0 + HEIGHT * (1 - (value - low) / (high - low))

    parts = [
        f'<rect x="{x0}" y="{y0}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>',
        f'<text x="{x0}" y="{y0 - 6}">tiny-{family}: {title}</text>',
        f'<text x="{x0 - 4}" y="{y0 + 8}" text-anchor="end">{high:.2f}</text>',
        f'<text x="{x0 - 4}" y="{y0 + HEIGHT}" text-anchor="end">{low:.2f}</text>',
    ]
    for strength in strengths:
        x, _ = at(strength, low)
        parts.append(f'<text x="{x}" y="{y0 + HEIGHT + 12}" text-anchor="middle">{strength}</text>')
    for how, dash in DASHES.items():
        for name, colour in lines:
            points = made[how][name]["against_1"]
            ends = [at(s, p[0]) for s, p in zip(strengths, points, strict=True)]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in ends)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5" '
                f'stroke-dasharray="{dash}"/>'
            )
            for s, (_, bottom, top) in zip(strengths, points, strict=True):
                (x, y1), (_, y2) = at(s, bottom), at(s, top)
                parts.append(f'<path d="M{x:.1f} {y1:.1f}V{y2:.1f}" stroke="{colour}"/>')
    return "".join(parts)
