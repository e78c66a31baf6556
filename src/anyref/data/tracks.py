"""Sightings in sampled frames become tracks: who is where in every frame, and how it moves.

Axes: D features
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from anyref.data.record import Box as Corners
from anyref.data.thresholds import Section
from anyref.perception.contracts import Box


class TrackSettings(Section):
    """When two sightings are of one subject.

    Args:
        same_overlap: IoU from which two boxes of one frame are one thing under two names.
        min_overlap: IoU from which boxes of neighbouring frames are one subject.
        min_likeness: cosine of appearance from which it is one subject although it jumped.
        max_jump: how far it may jump, in frame diagonals.
        max_gap: how many sampled frames may pass without it.
    """

    same_overlap: float = 0.6
    min_overlap: float = 0.3
    min_likeness: float = 0.7
    max_jump: float = 0.35
    max_gap: int = 2


class Movement(Enum):
    """What a subject does in the picture, whoever moves: it or the camera."""

    RIGHT = "right"
    LEFT = "left"
    UP = "up"
    DOWN = "down"
    CLOSER = "closer"
    AWAY = "away"
    STAY = "stay"


@dataclass(frozen=True, kw_only=True, eq=False)
class Sighting:
    """A subject in one sampled frame.

    Args:
        frame: which of the sampled ones, from 0. label, score: the detector's; a subject that
            merely stands out has no label. feature: unit vector (D,) of its picture.
        mask: bool (Y, X), when it was found as one.
    """

    frame: int
    box: Box
    score: float
    label: str | None = None
    feature: NDArray[np.float32] | None = None
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Track:
    """Sightings of one subject, one per frame, in order."""

    sightings: tuple[Sighting, ...]

    def at(self, frame: int) -> Sighting | None:
        """What was seen in a sampled frame."""
        return next((seen for seen in self.sightings if seen.frame == frame), None)

    @property
    def weight(self) -> float:
        """How much of the clip it takes: the sum of the sides of its boxes, by score."""
        return sum(seen.score * math.sqrt(seen.box.area) for seen in self.sightings)


def distinct(sightings: Sequence[Sighting], same_overlap: float) -> list[Sighting]:
    """Sightings of one frame, best score first, without boxes that a better one covers alike."""
    kept: list[Sighting] = []
    for seen in sorted(sightings, key=lambda seen: -seen.score):
        if all(seen.box.overlap(other.box) < same_overlap for other in kept):
            kept.append(seen)
    return kept


def associate(
    frames: Sequence[Sequence[Sighting]], diagonal: float, settings: TrackSettings
) -> list[Track]:
    """Tracks of sightings frame by frame, the heaviest first.

    Greedy: of all pairs of a track and a sighting in the next frame, the likeliest is joined first.
    With a handful of subjects this differs from the best assignment only where it is a coin toss.

    Args:
        diagonal: of the frame, pixels.
    """
    tracks: list[list[Sighting]] = []
    for number, sightings in enumerate(frames):
        pairs = [
            (likelihood, t, s)
            for t, track in enumerate(tracks)
            if number - track[-1].frame <= settings.max_gap + 1
            for s, seen in enumerate(sightings)
            if (likelihood := _likelihood(track[-1], seen, diagonal, settings)) is not None
        ]
        joined: set[int] = set()
        grown: set[int] = set()
        for _, t, s in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            if t not in grown and s not in joined:
                tracks[t].append(sightings[s])
                grown.add(t)
                joined.add(s)
        tracks += [[seen] for s, seen in enumerate(sightings) if s not in joined]
    made = [Track(tuple(track)) for track in tracks]
    return sorted(made, key=lambda track: -track.weight)


def _likelihood(
    last: Sighting, seen: Sighting, diagonal: float, settings: TrackSettings
) -> float | None:
    """How well a sighting goes on from another, None where it cannot."""
    overlap = last.box.overlap(seen.box)
    alike = 0.0
    if last.feature is not None and seen.feature is not None:
        alike = float(last.feature @ seen.feature)
    (x0, y0), (x1, y1) = _centre(last.box), _centre(seen.box)
    near = math.hypot(x1 - x0, y1 - y0) <= settings.max_jump * diagonal
    if overlap >= settings.min_overlap or (alike >= settings.min_likeness and near):
        return overlap + alike
    return None


def boxes_of(
    track: Track, frame_numbers: Sequence[int], num_frames: int, max_gap: int
) -> tuple[Corners | None, ...]:
    """The track's box in every frame of the clip: in between, on the straight line.

    None before the first sighting, after the last, and where more than `max_gap` sampled frames
    passed without one.

    Args:
        frame_numbers: of the sampled frames, in the clip.
    """
    boxes: list[Corners | None] = [None] * num_frames
    for seen in track.sightings:
        boxes[frame_numbers[seen.frame]] = _corners(np.array(_edges(seen.box)))
    for one, two in zip(track.sightings, track.sightings[1:], strict=False):
        if two.frame - one.frame > max_gap + 1:
            continue
        first, last = frame_numbers[one.frame], frame_numbers[two.frame]
        start, end = np.array(_edges(one.box)), np.array(_edges(two.box))
        for frame in range(first + 1, last):
            boxes[frame] = _corners(start + (end - start) * (frame - first) / (last - first))
    return tuple(boxes)


def movement_of(
    track: Track, width: int, height: int, *, least: float = 0.08, growth: float = 1.35
) -> Movement | None:
    """What the track does from its first sighting to its last; None when it was seen once.

    A box that the frame's border cuts says little of where the subject's middle is, so a way along
    an axis counts only as far as the two edges of the box on that axis agree on it.

    Args:
        width, height: of the frame, pixels.
        least: way in frame widths (heights) that counts as moving.
        growth: ratio of the boxes' sides that counts as coming closer.
    """
    if len(track.sightings) < 2:
        return None
    first, last = track.sightings[0].box, track.sightings[-1].box
    right = _agreed(last.left - first.left, last.right - first.right) / width
    down = _agreed(last.top - first.top, last.bottom - first.bottom) / height
    if max(abs(right), abs(down)) >= least:
        if abs(right) >= abs(down):
            return Movement.RIGHT if right > 0 else Movement.LEFT
        return Movement.DOWN if down > 0 else Movement.UP
    ratio = math.sqrt(last.area / max(first.area, 1.0))
    if ratio >= growth:
        return Movement.CLOSER
    return Movement.AWAY if ratio <= 1 / growth else Movement.STAY


def _agreed(one: float, two: float) -> float:
    """The shorter of two ways in one direction, 0 when they differ in direction."""
    return 0.0 if one * two <= 0 else math.copysign(min(abs(one), abs(two)), one)


def _centre(box: Box) -> tuple[float, float]:
    return (box.left + box.right) / 2, (box.top + box.bottom) / 2


def _edges(box: Box) -> tuple[float, float, float, float]:
    return box.left, box.top, box.right, box.bottom


def _corners(edges: NDArray[np.float64]) -> Corners:
    left, top, right, bottom = (round(float(edge), 1) for edge in edges)
    return left, top, right, bottom
