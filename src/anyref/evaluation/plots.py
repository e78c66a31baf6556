"""Drawings of figures as SVG inside a page: a radar of metrics, and points with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from anyref.data.markup import Markup, joined, plain, tag

SERIES = ("one", "two", "three")  # classes of the page's colours
CENTRE, RADIUS, TEXT_AT = (220.0, 150.0), 105.0, 118.0
RINGS = (0.25, 0.5, 0.75, 1.0)
WIDTH, LABELS, ROW = 320.0, 110.0, 18.0  # units: of a drawing, of its words, of a line
MAX_LABEL = 22


@dataclass(frozen=True)
class Point:
    """A figure on a line of its own.

    Args:
        value: on a scale of 0 to 1; low, high: ends of its interval, None without one.
        series: which colour, an index of `SERIES`.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    series: int = 0


def radar(axes: Sequence[str], series: Sequence[tuple[str, Mapping[str, float]]]) -> Markup | None:
    """Figures by axis for up to three names; None for fewer than three axes.

    Args:
        series: names, and values by axis on a scale of 0 to 1; they are drawn inside the rings,
            those that are not there at the centre.
    """
    if len(axes) < 3:
        return None
    angles = [2 * math.pi * place / len(axes) - math.pi / 2 for place in range(len(axes))]
    rings = [_polygon([(a, share) for a in angles], "rail") for share in RINGS]
    words = [_axis_label(axis, angle) for axis, angle in zip(axes, angles, strict=True)]
    shapes = [
        _polygon(
            [(a, values.get(axis, 0.0)) for a, axis in zip(angles, axes, strict=True)],
            f"{name_class} area",
        )
        for name_class, (_, values) in zip(SERIES, series, strict=False)
    ]
    drawing = tag("svg", *rings, *shapes, *words, viewBox="0 0 440 300", role="img",
                  aria_label=f"radar of {', '.join(axes)}")  # fmt: skip
    return tag("figure", drawing, _legend([name for name, _ in series]), class_="narrow")


def _polygon(corners: Sequence[tuple[float, float]], name_class: str) -> Markup:
    points = " ".join("{:.1f},{:.1f}".format(*_at(angle, share)) for angle, share in corners)
    return tag("polygon", points=points, class_=name_class)


def _at(angle: float, share: float, radius: float = RADIUS) -> tuple[float, float]:
    length = min(max(share, 0.0), 1.0) * radius
    return CENTRE[0] + length * math.cos(angle), CENTRE[1] + length * math.sin(angle)


def _axis_label(axis: str, angle: float) -> Markup:
    x, y = _at(angle, 1.0, TEXT_AT)
    side = math.cos(angle)
    anchor = "middle" if abs(side) < 0.3 else "start" if side > 0 else "end"
    return tag("text", _words(axis), x=round(x, 1), y=round(y + 3, 1), class_="tick",
               text_anchor=anchor)  # fmt: skip


def _legend(names: Sequence[str]) -> Markup:
    keys = [
        joined(_key(place), tag("span", f"{name}  "))
        for place, name in enumerate(names[: len(SERIES)])
    ]
    return tag("figcaption", *keys)


def _key(series: int) -> Markup:
    square = tag("rect", x=0, y=0, width=10, height=10, class_=SERIES[series])
    return tag("svg", square, viewBox="0 0 10 10", class_="key", style="display:inline-block")


def interval_plot(title: str, about: str, points: Sequence[Point]) -> Markup:
    """A figure: a line per point with its words, its interval and its value, from 0 to 1.

    Intervals and points that leave the scale (a suite's own may) are drawn at its end.
    """
    rows = [_row(point, place) for place, point in enumerate(points)]
    bottom = len(points) * ROW
    scale = [
        tag("line", x1=_across(share), x2=_across(share), y1=0, y2=bottom, class_="rail")
        for share in (0.0, 0.5, 1.0)
    ]
    ends = [
        tag("text", f"{share:g}", x=_across(share), y=bottom + 11, class_="tick",
            text_anchor="middle")
        for share in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    drawing = tag("svg", *scale, *rows, *ends, viewBox=f"0 -2 {WIDTH + 40:g} {bottom + 16:g}",
                  role="img", aria_label=plain(f"{title} by part", 120))  # fmt: skip
    return tag("figure", tag("figcaption", tag("b", title), tag("span", f" {about}")), drawing)


def _row(point: Point, place: int) -> Markup:
    y = place * ROW + ROW / 2
    low, high = (point.value if end is None else end for end in (point.low, point.high))
    return tag(
        "g",
        tag("text", _words(point.label), x=0, y=y + 3, class_="tick"),
        tag("line", x1=_across(low), x2=_across(high), y1=y, y2=y, class_="whisker"),
        tag("circle", cx=_across(point.value), cy=y, r=3.5, class_=SERIES[point.series]),
        tag("text", f"{point.value:.3f}", x=WIDTH + 8, y=y + 3, class_="tick"),
    )


def _across(share: float) -> float:
    return round(LABELS + min(max(share, 0.0), 1.0) * (WIDTH - LABELS), 1)


def _words(text: str) -> str:
    return plain(text.replace("_", " "), MAX_LABEL)
