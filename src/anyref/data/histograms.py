"""Histograms of measurements as SVG, with the limits of the rules."""

# Axes: N numbers, B bins

from __future__ import annotations

import numpy as np

from anyref.data.markup import Child, Markup, tag
from anyref.data.thresholds import Rule

BINS = 40
WIDTH, HEIGHT, BASE = 320.0, 90.0, 76.0  # units of the drawing; bars stand on the base


def histogram(name: str, numbers: np.ndarray, rules: tuple[Rule, ...]) -> Markup:
    """A figure: bars of how many records have what number, those that fail a limit in red.

    The bars span what lies between the 0.5th and the 99.5th percentile and the limits; numbers
    outside are in the first and the last bar.

    Args:
        numbers: float64 (N,), finite, at least one.
    """
    low, high = _span(numbers, rules)
    counts, edges = np.histogram(np.clip(numbers, low, high), BINS, (low, high))  # (B,) (B + 1,)
    middles = (edges[1:] + edges[:-1]) / 2
    step = WIDTH / BINS
    bars = [
        tag(
            "rect",
            x=round(place * step, 2),
            y=round(BASE - tall, 2),
            width=round(step - 1, 2),
            height=round(tall, 2),
            class_="bar" if _passes(middle, rules) else "bar out",
        )
        for place, (middle, tall) in enumerate(zip(middles, _heights(counts), strict=True))
        if tall
    ]
    marks = [_mark((limit - low) / (high - low) * WIDTH, limit) for limit in _limits(rules)]
    ends = (
        tag("text", _number(low), x=0, y=HEIGHT, class_="tick"),
        tag("text", _number(high), x=WIDTH, y=HEIGHT, class_="tick", text_anchor="end"),
    )
    drawing = tag("svg", *bars, *marks, *ends, viewBox=f"0 -12 {WIDTH:g} {HEIGHT + 16:g}",
                  role="img", aria_label=f"histogram of {name}")  # fmt: skip
    return tag("figure", tag("figcaption", tag("b", name), _words(numbers, rules)), drawing)


def _heights(counts: np.ndarray) -> list[float]:
    """Of the bars: by the square root, so that few are seen beside many; at least 1 unit."""
    tallest = max(1, int(counts.max()))
    return [0.0 if not n else max(1.0, BASE * float(np.sqrt(n / tallest))) for n in counts]


def _span(numbers: np.ndarray, rules: tuple[Rule, ...]) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(numbers, [0.5, 99.5]))
    low, high = min([low, *_limits(rules)]), max([high, *_limits(rules)])
    if high - low < 1e-12 * max(1.0, abs(low)):
        return low - 0.5, high + 0.5
    return low, high


def _limits(rules: tuple[Rule, ...]) -> list[float]:
    ends = [limit for rule in rules for limit in (rule.at_least, rule.at_most)]
    return [limit for limit in ends if limit is not None]


def _passes(number: float, rules: tuple[Rule, ...]) -> bool:
    return all(rule.judge("", float(number)) is None for rule in rules)


def _mark(x: float, limit: float) -> Markup:
    anchor = "start" if x < WIDTH / 3 else "end" if x > WIDTH * 2 / 3 else "middle"
    line = tag("line", x1=round(x, 2), x2=round(x, 2), y1=0, y2=BASE, class_="limit")
    words = tag("text", _number(limit), x=round(x, 2), y=-3, class_="tick", text_anchor=anchor)
    return tag("g", line, words)


def _words(numbers: np.ndarray, rules: tuple[Rule, ...]) -> Markup:
    low, middle, high = np.percentile(numbers, [0, 50, 100])
    text: list[Child] = [
        f" {len(numbers):,} records, {_number(low)} to {_number(high)}, median {_number(middle)}"
    ]
    for rule in rules:
        if rule.at_least is not None:
            text.append(f"; {int((numbers < rule.at_least).sum()):,} under {rule.at_least:g}")
        if rule.at_most is not None:
            text.append(f"; {int((numbers > rule.at_most).sum()):,} over {rule.at_most:g}")
    return tag("span", *text)


def _number(value: float) -> str:
    return f"{value:.4g}"
