"""The first pass over a film: its shots, the times of its frames, and its black bars.

Axes: T frames of the film, Y X pixels
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from anyref.data.footage import BadFilmError, Clock, Film, Geometry
from anyref.media import fit
from anyref.perception.contracts import Picture, ShotDetector
from anyref.perception.runtimes import opencv

Corners = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the film, exclusive

LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601
SEEN = 256  # long side in which shots are looked for
BLACK = 20  # of 255; a bar is nowhere brighter
BAR_EVERY = 12  # frames between two that are searched for bars
BAR_PERCENTILE = 98  # of a row or column; a mark of the channel may stand in a bar
MAX_BARS = 0.6  # of a side; more than that is no bar
MAX_RATE = 480  # frames per second that a film may have on average
KEPT = 64  # pictures of a film at most, among which what stays is looked for
STAY_SHOTS = 4  # of a film at least, before what stays through its cuts says something
STAYS = 0.75  # of those shots show an edge that stays
STAY_EDGE = 4.0  # levels of grey per pixel; weaker edges do not count
STAY_NEAR = 3  # pixels around such an edge


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What the first pass over a film finds.

    Args:
        edges: when each frame begins and the last one ends, float64 (T + 1,), seconds.
        shots: half-open frame numbers. content: the film without its bars.
        stays: where an edge stays through the cuts, as a watermark does: bool (Y, X) of the whole
            film, small; None for a film of few shots.
        damage, damage_detail: why the film ends early; None when it does not.
    """

    geometry: Geometry
    edges: NDArray[np.float64]
    shots: tuple[tuple[int, int], ...]
    content: Corners
    stays: NDArray[np.bool_] | None = None
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
    shots = tuple(pairwise(sorted(starts)))
    whole = (0, 0, look.geometry.width, look.geometry.height)
    return Survey(
        geometry=look.geometry,
        edges=look.clock.edges(),
        shots=shots,
        content=look.bars.content(*whole[2:]) if crop_bars else whole,
        stays=look.stays.through(shots),
        damage=film.damage,
        damage_detail=film.damage_detail,
    )


class _Look:
    """The first pass: small pictures go to the detector, times and bars are noted in passing."""

    def __init__(self, film: Film, max_seconds: float) -> None:
        self.geometry: Geometry | None = None
        self.clock = Clock(film.rate)
        self.bars = _Bars()
        self.stays = _Stays()
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
            self.stays.add(number, picture)
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


class _Stays:
    """Pictures from all over a film, and the edges that all of its shots have in common."""

    def __init__(self) -> None:
        self._kept: dict[int, NDArray[np.uint8]] = {}  # grey (Y, X) by frame number
        self._step = 1

    def add(self, number: int, picture: Picture) -> None:
        """Keep a frame now and then, more seldom the longer the film is."""
        if number % self._step:
            return
        self._kept[number] = (picture @ LUMA).astype(np.uint8)
        if len(self._kept) > KEPT:
            self._step *= 2
            self._kept = {n: grey for n, grey in self._kept.items() if n % self._step == 0}

    def through(self, shots: Sequence[tuple[int, int]]) -> NDArray[np.bool_] | None:
        """Where the shots have the same edge, bool (Y, X); None when too few were kept."""
        starts = [start for start, _ in shots]
        of_shot = {int(np.searchsorted(starts, n, "right")): n for n in sorted(self._kept)}
        if len(of_shot) < STAY_SHOTS:
            return None
        greys = np.stack([self._kept[n] for n in of_shot.values()]).astype(np.float32)
        strength = np.quantile(common_edges(greys), 1 - STAYS, axis=0)  # (Y, X)
        with opencv(1) as cv2:
            around = np.ones((2 * STAY_NEAR + 1,) * 2, np.uint8)
            return np.asarray(cv2.dilate((strength > STAY_EDGE).astype(np.uint8), around) > 0)


def common_edges(greys: NDArray[np.float32]) -> NDArray[np.float32]:
    """How strong the edge that most pictures have is in each of them, in levels of grey per pixel.

    The projection of a picture's gradient on the median of all of them, which finds the mark in
    Dekel et al. 2017.

    Args:
        greys: (T, Y, X).

    Returns:
        float32 (T, Y, X); below 0 for an edge the other way round.
    """
    x = np.gradient(greys, axis=2)
    y = np.gradient(greys, axis=1)
    middle_x, middle_y = np.median(x, 0), np.median(y, 0)  # (Y, X)
    length = np.maximum(np.hypot(middle_x, middle_y), 1e-6)
    return np.asarray((x * middle_x + y * middle_y) / length, np.float32)


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
