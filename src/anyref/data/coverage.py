"""Whether a mask covers all of its subject: what else in the frame moved, and looks like it.

The other frames of a clip, laid over this one by the camera's motion, show what is behind whoever
moves. What differs from that, hangs on the mask and has the subject's colours rather than the
background's is a part that the segmenter left out: an ear, a tail, half of a body. Shadows have the
background's colours, and so has what the subject has just uncovered.

Axes: K sampled frames, Y X pixels of the frames made smaller, B bins of colour
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.media import fit
from anyref.perception.runtimes import opencv

Pixels = NDArray[np.bool_]  # (Y, X)
Frames = NDArray[np.uint8]  # (K, Y, X, 3), RGB

SIDE = 432  # long side at which frames are compared
CORNERS, QUALITY, APART = 600, 0.01, 5  # points that the camera's motion is told by
MIN_POINTS, MIN_AGREEING = 12, 0.4  # of them; less and the motion is not known
OFF = 1.5  # pixels that a point may be off the motion
MIN_FRAMES = 3  # to tell what is behind
MOVED = 14.0  # levels; a smaller difference from what is behind is none
SOFT = 1.0  # deviation of the blur before colours are compared
SAME = 12  # levels; what the flow leads to looks no more different
NEAR, RIM = 4, 2  # pixels: what hangs on a mask; what is its soft edge
LIGHT, TINT = 16, 4  # levels of CIELAB's L, and of a and b, in one bin of colour
TINTS = 32  # bins of a and of b, around grey
RARE = 1e-6  # share of a colour that was not seen
FEW = 1e-5  # share that a colour of the subject has
OWN, MORE = -1.0, 0.5  # log ratios: how much a colour is the subject's; more than what is behind
STILL = 3.0  # levels; a frame that differs less has the same camera if points do not tell


@dataclass(frozen=True, eq=False)
class Behind:
    """What is behind the things that move in a frame.

    Args:
        frame, background: uint8 (Y, X, 3), softened. moved: where they differ, bool (Y, X).
    """

    frame: NDArray[np.uint8]
    background: NDArray[np.uint8]
    moved: Pixels


def behind(frames: Frames, number: int, hidden: Mapping[int, Pixels]) -> Behind | None:
    """What is behind a sampled frame, from the others; None when the camera's motion is not known.

    Args:
        hidden: by sampled frame, where the subjects are that say nothing of the camera; full size.
    """
    with opencv(1) as cv2:
        cv2.setRNGSeed(0)
        size = fit(frames.shape[2], frames.shape[1], SIDE, SIDE)
        small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
        here = cv2.GaussianBlur(small[number], (0, 0), SOFT)
        others = []
        for k, other in enumerate(small):
            if k == number:
                continue
            motion = _camera(cv2, other, small[number], _shrunk(cv2, hidden.get(k), size))
            if motion is not None:
                soft = cv2.GaussianBlur(other, (0, 0), SOFT)
                seen = cv2.warpPerspective(np.ones(soft.shape[:2], np.uint8), motion, size)
                others.append(
                    np.where(seen[..., None], cv2.warpPerspective(soft, motion, size), np.nan)
                )
        if len(others) < MIN_FRAMES:
            return None
        laid = np.stack(others)  # (K, Y, X, 3)
        known = (~np.isnan(laid[..., 0])).sum(0) >= MIN_FRAMES  # (Y, X)
        laid[:, ~known] = here[~known]
        background = np.nanmedian(laid, 0).round().astype(np.uint8)
        apart = np.nanmedian(np.abs(laid - here).max(-1), 0)  # (Y, X)
        moved = cv2.morphologyEx((apart > MOVED).astype(np.uint8), cv2.MORPH_OPEN, _square(1))
    return Behind(frame=here, background=background, moved=moved > 0)


def uncovered(seen: Behind, pixels: Pixels, others: Pixels) -> float:
    """What hangs on a mask, moved and has its colours, in areas of the mask.

    Args:
        pixels: the mask. others: the other subjects of the frame. Both at full size.
    """
    with opencv(1) as cv2:
        size = (seen.moved.shape[1], seen.moved.shape[0])
        mask, taken = _shrunk(cv2, pixels, size), _shrunk(cv2, others, size)
        solid = mask.astype(np.uint8)
        inner = cv2.erode(solid, _square(1)) > 0
        rim = cv2.dilate(solid, _square(RIM)) > 0
        outer = ~rim & ~seen.moved
        if not inner.any() or not outer.any():
            return 0.0
        here, there = _bins(cv2, seen.frame), _bins(cv2, seen.background)
        common = _shares(cv2, here[inner])  # (B,)
        own = np.log(common / _shares(cv2, here[outer]))  # (B,)
        alike = (common[here] > FEW) & (own[here] > OWN) & (own[here] > own[there] + MORE)
        parts = (seen.moved & alike & ~rim & ~taken).astype(np.uint8)
        parts = cv2.morphologyEx(parts, cv2.MORPH_OPEN, _square(1))
        _, labels = cv2.connectedComponents(parts)
        near = cv2.dilate(solid, _square(NEAR)) > 0
        touching = np.unique(labels[near & (parts > 0)])
        return float(np.isin(labels, touching[touching > 0]).sum() / max(1, mask.sum()))


class Carrier:
    """Masks carried from one sampled frame of a clip to another, by optical flow (DIS, Kroeger et
    al. 2016).

    Args:
        frames: uint8 (K, Y, X, 3) at full size.
    """

    def __init__(self, frames: Frames) -> None:
        self._size = fit(frames.shape[2], frames.shape[1], SIDE, SIDE)
        self._frames = frames
        self._small: dict[int, NDArray[np.uint8]] = {}
        self._flows: dict[tuple[int, int], NDArray[np.float32]] = {}

    def left_out(self, view: tuple[int, Pixels], other: tuple[int, Pixels]) -> float:
        """What the other mask of a subject has more where the flow is sure, in areas of the mask.

        Args:
            view, other: sampled frame, and mask at full size.
        """
        (here, mask), (there, more) = view, other
        with opencv(1) as cv2:
            forth, back = self._flow(cv2, here, there), self._flow(cv2, there, here)
            rows, columns = np.indices(forth.shape[:2], np.float32)
            x, y = columns + forth[..., 0], rows + forth[..., 1]
            again = cv2.remap(back, x, y, cv2.INTER_LINEAR)
            seen = cv2.remap(self._soft(cv2, there), x, y, cv2.INTER_LINEAR)
            carried = cv2.remap(
                _shrunk(cv2, more, self._size).astype(np.uint8), x, y, cv2.INTER_NEAREST
            )
            apart = cv2.absdiff(seen, self._soft(cv2, here)).max(-1)
            inside = (x >= 0) & (y >= 0) & (x <= self._size[0] - 1) & (y <= self._size[1] - 1)
            sure = inside & (np.hypot(*np.moveaxis(forth + again, -1, 0)) < OFF) & (apart < SAME)
            solid = _shrunk(cv2, mask, self._size).astype(np.uint8)
            rim = cv2.dilate(solid, _square(RIM + 1)) > 0
            parts = ((carried > 0) & sure & ~rim).astype(np.uint8)
            parts = cv2.morphologyEx(parts, cv2.MORPH_OPEN, _square(RIM))
        return float(parts.sum() / max(1, solid.sum()))

    def _soft(self, cv2: Any, number: int) -> NDArray[np.uint8]:
        if number not in self._small:
            small = cv2.resize(self._frames[number], self._size, interpolation=cv2.INTER_AREA)
            self._small[number] = cv2.GaussianBlur(small, (0, 0), SOFT)
        return self._small[number]

    def _flow(self, cv2: Any, here: int, there: int) -> NDArray[np.float32]:
        """Where each pixel of a frame is in another, as the way there: (Y, X, 2)."""
        if (here, there) not in self._flows:
            greys = [cv2.cvtColor(self._soft(cv2, k), cv2.COLOR_RGB2GRAY) for k in (here, there)]
            dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
            self._flows[here, there] = dis.calc(*greys, None)
        return self._flows[here, there]


def _camera(
    cv2: Any, source: NDArray[np.uint8], target: NDArray[np.uint8], hidden: Pixels
) -> NDArray[np.float64] | None:
    """The camera's motion between two frames as a homography (3, 3); None when it is not known."""
    first, second = (cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in (source, target))
    still = float(np.median(cv2.absdiff(first, second)[~hidden])) < STILL
    unknown = np.eye(3) if still else None
    shown = (~hidden).astype(np.uint8)
    points = cv2.goodFeaturesToTrack(first, CORNERS, QUALITY, APART, mask=shown)
    if points is None or len(points) < MIN_POINTS:
        return unknown
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, points, None, winSize=(21, 21), maxLevel=4
    )
    good = found[:, 0] > 0
    if good.sum() < MIN_POINTS:
        return unknown
    motion, agree = cv2.findHomography(points[good], moved[good], cv2.RANSAC, OFF)
    if motion is None or agree.sum() < MIN_POINTS or agree.mean() < MIN_AGREEING:
        return unknown
    return np.asarray(motion, np.float64)


def _bins(cv2: Any, picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The bin of each pixel's colour, (Y, X)."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.int64)  # (Y, X, 3)
    tint = ((lab[..., 1:] - 128) // TINT + TINTS // 2).clip(0, TINTS - 1)
    return np.asarray((lab[..., 0] // LIGHT * TINTS + tint[..., 0]) * TINTS + tint[..., 1])


def _shares(cv2: Any, bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """How common each colour is, smoothed: (B,)."""
    levels = 256 // LIGHT
    count = np.bincount(bins, minlength=levels * TINTS * TINTS).astype(np.float64)
    grid = count.reshape(levels, TINTS, TINTS)
    smooth = np.stack([cv2.GaussianBlur(plane, (5, 5), 1.0) for plane in grid])
    padded = np.pad(smooth, ((1, 1), (0, 0), (0, 0)), mode="edge")
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return np.asarray(smooth.ravel() / smooth.sum() + RARE)


def _shrunk(cv2: Any, pixels: Pixels | None, size: tuple[int, int]) -> Pixels:
    if pixels is None:
        return np.zeros(size[::-1], bool)
    small = cv2.resize(pixels.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(small > 0)


def _square(radius: int) -> NDArray[np.uint8]:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
