"""The plot of benchmarks/accelerators.py as SVG: identity against work, one panel per measure."""

from __future__ import annotations

from typing import Any

PANELS = (
    ("match", "against_exact", "template match, against exact"),
    ("identity", "against_exact", "identity (one of 20), against exact"),
    ("psnr", "mean", "PSNR to the exact video, dB"),
)
COLOURS = (
    ("first-block", "#0a58ca"),
    ("taylorseer", "#d9480f"),
    ("guidance", "#2b8a3e"),
    ("steps", "#868e96"),
)
MIXED = "#9c36b5"
EXACT = "#000000"
WIDTH, HEIGHT, LEFT, TOP = 300.0, 190.0, 46.0, 40.0  # of a panel and its margins


def draw(summary: dict[str, Any], families: list[str]) -> str:
    """Points with 95 % intervals over the share of the blocks that ran, lines by accelerator."""
    shapes = [
        _panel(summary[family], family, panel, column, row)
        for row, family in enumerate(families)
        for column, panel in enumerate(PANELS)
        if summary[family]["clips"]
    ]
    width, height = len(PANELS) * (WIDTH + LEFT) + 20, len(families) * (HEIGHT + TOP) + 70
    entries = [("exact", EXACT), *COLOURS, ("cache and guidance", MIXED)]
    legend = "".join(
        f'<circle cx="{20 + 150 * i}" cy="{height - 16}" r="4" fill="{colour}"/>'
        f'<text x="{30 + 150 * i}" y="{height - 12}">{name}</text>'
        for i, (name, colour) in enumerate(entries)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="10"><rect width="100%" height="100%" fill="white"/>'
        + "".join(shapes)
        + legend
        + f'<text x="16" y="{height - 36}">across: share of the blocks that ran; bars: 95 % over '
        "clips</text>" + "</svg>\n"
    )


def _colour(variant: str) -> str:
    if "," in variant:
        return MIXED
    return next((colour for name, colour in COLOURS if name in variant), EXACT)


def _panel(
    made: dict[str, Any], family: str, panel: tuple[str, str, str], column: int, row: int
) -> str:
    measure, what, title = panel
    variants = [name for name in made if name != "clips"]
    if measure == "psnr":
        variants.remove("exact")  # endless
    points = {name: made[name][measure][what] for name in variants}
    values = [value for point in points.values() for value in point]
    low, high = min(values), max(values)
    pad = max(1e-3, (high - low) * 0.06)
    low, high = low - pad, high + pad
    x0, y0 = LEFT + column * (WIDTH + LEFT), TOP + row * (HEIGHT + TOP)

    def at(name: str, value: float) -> tuple[float, float]:
        across = made[name]["work"]["mean"][0] / 1.05
        return x0 + across * WIDTH, y0 + HEIGHT * (1 - (value - low) / (high - low))

    parts = [
        f'<rect x="{x0}" y="{y0}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>',
        f'<text x="{x0}" y="{y0 - 6}">tiny-{family}: {title}</text>',
        f'<text x="{x0 - 4}" y="{y0 + 8}" text-anchor="end">{high:.2f}</text>',
        f'<text x="{x0 - 4}" y="{y0 + HEIGHT}" text-anchor="end">{low:.2f}</text>',
    ]
    for share in (0.25, 0.5, 0.75, 1.0):
        x = x0 + share / 1.05 * WIDTH
        parts.append(
            f'<text x="{x}" y="{y0 + HEIGHT + 12}" text-anchor="middle">{share:.0%}</text>'
        )
    for colour in [colour for _, colour in COLOURS]:
        line = [name for name in variants if _colour(name) == colour]
        start = ["exact"] if "exact" in points else []
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(n, points[n][0]) for n in start + line))
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-opacity="0.5"/>'
        )
    for name, (mean, bottom, top) in points.items():
        (x, y), (_, y1), (_, y2) = at(name, mean), at(name, bottom), at(name, top)
        parts.append(
            f'<path d="M{x:.1f} {y1:.1f}V{y2:.1f}" stroke="{_colour(name)}" stroke-opacity="0.35"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_colour(name)}">'
            f"<title>{name}</title></circle>"
        )
    return "".join(parts)
