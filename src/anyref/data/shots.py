"""The first pass over a film: its shots, the times of its frames, and its black bars.

Axes: T frames of the film, Y X pixels
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from anyref.data.footage import BadFilmError, Clock, Film, Geometry
from anyref.media import fit
from anyref.perception.contracts import Picture, ShotDetector

Corners = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the film, exclusive

SEEN = 256  # long side in which shots are looked for
BLACK = 20  # of 255; a bar is nowhere brighter
BAR_EVERY = 12  # frames between two that are searched for bars
BAR_PERCENTILE = 98  # of a row or column; a mark of the channel may stand in a bar
MAX_BARS = 0.6  # of a side; more than that is no bar
MAX_RATE = 480  # frames per second that a film may have on average


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What the first pass over a film finds.

    Args:
        edges: when each frame begins and the last one ends, float64 (T + 1,), seconds.
        shots: half-open frame numbers. content: the film without its bars.
        damage, damage_detail: why the film ends early; None when it does not.
    """

    geometry: Geometry
    edges: NDArray[np.float64]
    shots: tuple[tuple[int, int], ...]
    content: Corners
    damage: str | None = None
    damage_detail: str | None = None


def survey(
    film: Film, detector: ShotDetector, max_seconds: float, *, crop_bars: bool = True
) -> Survey:
    """Find the shots of a film and its bars, reading it once.

    Raises:
        BadFilmError: over a limit, or without a frame.
    """
    look = _Look(film, max_seconds)
    (found,) = detector.split([look.pictures()], fps=film.rate)
    if look.geometry is None:
        raise BadFilmError(film.damage or "no frames", 0, detail=film.damage_detail)
    starts = {shot.start for shot in found} | set(look.clock.joins) | {0, len(look.clock)}
    whole = (0, 0, look.geometry.width, look.geometry.height)
    return Survey(
        geometry=look.geometry,
        edges=look.clock.edges(),
        shots=tuple(pairwise(sorted(starts))),
        content=look.bars.content(*whole[2:]) if crop_bars else whole,
        damage=film.damage,
        damage_detail=film.damage_detail,
    )


class _Look:
    """The first pass: small pictures go to the detector, times and bars are noted in passing."""

    def __init__(self, film: Film, max_seconds: float) -> None:
        self.geometry: Geometry | None = None
        self.clock = Clock(film.rate)
        self.bars = _Bars()
        self._film, self._limit = film, max_seconds

    def pictures(self) -> Iterator[Picture]:
        """Every frame as RGB, small."""
        limit = self._limit
        size = (0, 0)
        for number, frame in enumerate(self._film.frames()):
            if self.geometry is None:
                self.geometry = self._film.geometry(frame)
                size = fit(self.geometry.width, self.geometry.height, SEEN, SEEN)
            seconds = self.clock.add(frame.time)
            if seconds > limit:
                raise BadFilmError("film too long", seconds, limit)
            if number > limit * MAX_RATE:
                raise BadFilmError("too many frames", number, limit * MAX_RATE)
            picture = self._film.picture(frame, self.geometry, *size, draft=True)
            if number % BAR_EVERY == 0:
                self.bars.add(picture)
            yield picture


class _Bars:
    """Black at the edges of a film, the same in all frames looked at."""

    def __init__(self) -> None:
        self._rows = self._columns = np.zeros(0, np.uint8)

    def add(self, picture: Picture) -> None:
        """Note how bright the rows and columns of a frame are."""
        grey = picture.max(-1)  # (Y, X)
        bright = [bright_lines(grey), bright_lines(grey.T)]
        if self._rows.size:
            bright = [np.maximum(self._rows, bright[0]), np.maximum(self._columns, bright[1])]
        self._rows, self._columns = bright

    def content(self, width: int, height: int) -> Corners:
        """The film without bars: those come in pairs, of almost one size, and leave something."""
        left = bar_lines(self._columns)
        top = bar_lines(self._rows)
        x = math.ceil(left * width / self._columns.size)
        y = math.ceil(top * height / self._rows.size)
        return x, y, width - x, height - y


def bright_lines(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A high percentile of each row."""
    rank = min(grey.shape[1] - 1, grey.shape[1] * BAR_PERCENTILE // 100)
    return np.partition(grey, rank, axis=1)[:, rank]


def bar_lines(bright: NDArray[np.uint8]) -> int:
    """How many lines the bars at both ends have, the wider one; 0 when they are no pair."""
    lit = np.flatnonzero(bright > BLACK)
    if not lit.size:
        return 0
    first, last = int(lit[0]), int(bright.size - 1 - lit[-1])
    pair = min(first, last) > 0 and abs(first - last) <= 2
    return max(first, last) if pair and first + last <= MAX_BARS * bright.size else 0
