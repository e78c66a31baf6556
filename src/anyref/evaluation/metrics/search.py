"""Where a reference may be in a frame: places whose coarse colours are laid out as the cut-out's.

What stands out and what detectors find misses subjects that are small, blurred, or badly made, the
ones that metrics of likeness must judge. So each cut-out is looked for itself: at 48 pixels, at
seven sizes and mirrored, by its correlation with every place (light changes are free). That only
proposes; how alike a place and the reference are is for the features of the place to say.
"""

# Axes: Y X pixels, y x pixels of the small frame and template

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.data.crops import Pixels, box_around
from anyref.evaluation.metrics.cutouts import Cutout
from anyref.perception.contracts import Box, Picture
from anyref.perception.runtimes import opencv

Floats = NDArray[np.float32]

SIDE = 48  # pixels of the small frame's shorter side
SIZES = (0.25, 0.32, 0.4, 0.5, 0.63, 0.8, 1.0)  # of a cut-out's longer side to SIDE
MIN_PIXELS = 8  # of a template's mask
PER_SIZE = 2  # places taken of each size and side
PLACES = 2  # kept of a reference in a frame
APART = 0.6  # IoU of two places from which they are one
NOISE = 5.0  # levels; a fainter layout says nothing
CHANCE = 0.3  # correlation below which a place is none
OUTLINE_SIDE = 64  # pixels of the longer side at which a place is divided from what is around it
AROUND = 0.33  # of the place's sides, looked at around it
ROUNDS = 3  # of GrabCut
PART = 0.2, 0.95  # of a place that a subject's outline may cover


@dataclass(frozen=True)
class Place:
    """A box of a frame and the correlation of its layout with the cut-out's, -1 to 1."""

    box: Box
    alike: float


def find_places(frame: Picture, cutouts: Sequence[Cutout]) -> list[Place]:
    """The best places of a reference (any of its pictures) in a frame, best first; maybe none."""
    height, width = frame.shape[:2]
    scale = SIDE / min(height, width)
    with opencv(1) as cv2:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        squares = np.ascontiguousarray((small**2).sum(-1))
        found = [
            place
            for cutout in cutouts
            for template, mask in _templates(cv2, cutout)
            for place in _best(cv2, small, squares, template, mask, scale)
        ]
    found.sort(key=lambda place: (-place.alike, place.box.top, place.box.left, place.box.right))
    kept: list[Place] = []
    for place in found:
        if len(kept) < PLACES and all(place.box.overlap(one.box) < APART for one in kept):
            kept.append(place)
    return kept


def _templates(cv2: Any, cutout: Cutout) -> Iterator[tuple[Floats, Floats]]:
    """The cut-out (y, x, 3) and its mask (y, x) of 0 and 1, as it is and mirrored."""
    rows, columns = box_around(cutout.pixels).pixels(cutout.pixels)
    picture = cutout.picture[rows, columns].astype(np.float32)
    mask = cutout.pixels[rows, columns].astype(np.float32)
    for size in SIZES:
        factor = size * SIDE / max(mask.shape)
        shape = tuple(max(1, round(factor * side)) for side in mask.shape[::-1])
        small = cv2.resize(picture, shape, interpolation=cv2.INTER_AREA)
        inside = cv2.resize(mask, shape, interpolation=cv2.INTER_AREA)
        inside = (inside > 0.5).astype(np.float32)
        if inside.sum() >= MIN_PIXELS:
            yield small, inside
            yield small[:, ::-1].copy(), inside[:, ::-1].copy()


def _best(
    cv2: Any, small: Floats, squares: Floats, template: Floats, mask: Floats, scale: float
) -> Iterator[Place]:
    """The places where a template fits best, apart from one another."""
    rows, columns = mask.shape
    if rows > small.shape[0] or columns > small.shape[1]:
        return
    values = _correlate(cv2, small, squares, template, mask)
    for _ in range(PER_SIZE):
        _, largest, _, (x, y) = cv2.minMaxLoc(values)
        if largest < CHANCE:
            return
        box = Box(x / scale, y / scale, (x + columns) / scale, (y + rows) / scale)
        yield Place(box, float(largest))
        down, right = rows // 3, columns // 3
        values[max(0, y - down) : y + down + 1, max(0, x - right) : x + right + 1] = -1


def _correlate(cv2: Any, small: Floats, squares: Floats, template: Floats, mask: Floats) -> Floats:
    """Correlation of all masked values with the frame's at every place, one mean for all."""
    weight = 3 * float(mask.sum())
    centred = template - (template * mask[..., None]).sum() / weight
    centred = np.ascontiguousarray(centred * mask[..., None], np.float32)
    sums = cv2.matchTemplate(np.ascontiguousarray(small.sum(-1)), mask, cv2.TM_CCORR)
    energy = cv2.matchTemplate(squares, mask, cv2.TM_CCORR) - sums**2 / weight
    common = cv2.matchTemplate(small, centred, cv2.TM_CCORR)
    noise = weight * NOISE**2
    own = float((centred**2).sum())
    return np.asarray(common / np.sqrt((np.maximum(energy, 0) + noise) * (own + noise)), np.float32)


def box_pixels(frame: Picture, box: Box) -> Pixels:
    """All of a box, (Y, X)."""
    pixels = np.zeros(frame.shape[:2], bool)
    pixels[box.pixels(pixels)] = True
    return pixels


def outline(frame: Picture, box: Box) -> Pixels | None:
    """What in a place is unlike its surroundings, (Y, X): GrabCut (Rother et al. 2004) at 64 px.

    None where nothing or everything is.
    """
    wide = box.grown(AROUND)
    rows, columns = wide.pixels(frame)
    window = np.ascontiguousarray(frame[rows, columns])
    scale = min(1.0, OUTLINE_SIDE / max(window.shape[:2]))
    size = tuple(max(1, round(scale * side)) for side in window.shape[1::-1])
    inner = Box(
        scale * (box.left - columns.start),
        scale * (box.top - rows.start),
        scale * (box.right - columns.start),
        scale * (box.bottom - rows.start),
    )
    with opencv(1) as cv2:
        small = cv2.resize(window, size, interpolation=cv2.INTER_AREA)
        labels = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
        labels[inner.pixels(labels)] = cv2.GC_PR_FGD
        if (labels == cv2.GC_BGD).sum() < MIN_PIXELS or (labels != cv2.GC_BGD).sum() < MIN_PIXELS:
            return None
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(small, labels, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
        found = np.asarray(labels == cv2.GC_PR_FGD, np.float32)
        large = cv2.resize(found, window.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    pixels = np.zeros(frame.shape[:2], bool)
    pixels[rows, columns] = large > 0.5
    share = pixels.sum() / max(1.0, box.area)
    return pixels if PART[0] <= share <= PART[1] else None
