"""Masks from pixels alone: plain grounds, and one mask that is two things that touch."""

# Axes: Y X pixels, N parts

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from anyref.data.crops import WORN, Pixels
from anyref.perception.contracts import Picture
from anyref.perception.runtimes import opencv

BORDER = 0.04  # of a picture's sides, looked at to tell whether its ground is plain
PLAIN_LEVELS = 16  # of 255 by which a plain ground may differ from its own median
SCENERY = 0.35  # of the border that differs by more: then there is more than a plain ground
MIN_PART = 0.3  # of the largest part, the area of another one


def has_scenery(picture: Picture) -> bool:
    """Whether the border of a picture is no plain ground; up to a third of it may be subject."""
    border = picture[_border(picture)].astype(np.int16)  # (N, 3)
    off = np.abs(border - np.median(border, 0)).max(-1)
    return bool((off > PLAIN_LEVELS).mean() > SCENERY)


def off_border(picture: Picture) -> NDArray[np.float32]:
    """1 where a picture on a plain ground is unlike that ground, (Y, X)."""
    ground = np.median(picture[_border(picture)], 0)
    off = np.abs(picture.astype(np.int16) - ground).max(-1)
    return np.asarray(off > PLAIN_LEVELS, np.float32)


def _border(picture: Picture) -> Pixels:
    height, width = picture.shape[:2]
    wide = max(1, math.ceil(BORDER * min(height, width)))
    border = np.ones((height, width), bool)
    border[wide : height - wide, wide : width - wide] = False
    return border


def parts_of(pixels: Pixels) -> list[Pixels]:
    """A mask divided between its cores: each pixel goes to the nearest; nothing for one core.

    The mask is worn away from its outline until two or more parts of some size are left, as
    `anyref.data.crops.cores` does.
    """
    with opencv(1) as cv2:
        depth = cv2.distanceTransform(np.pad(pixels.astype(np.uint8), 1), cv2.DIST_L2, 5)
        depth = depth[1:-1, 1:-1]
        for share in WORN:
            worn = (depth > share * depth.max()).astype(np.uint8)
            count, labels, stats, _ = cv2.connectedComponentsWithStats(worn)
            areas = stats[:, cv2.CC_STAT_AREA]
            seeds = [n for n in range(1, count) if areas[n] > MIN_PART * areas[1:].max()]
            if len(seeds) > 1:
                ways = [
                    cv2.distanceTransform((labels != n).astype(np.uint8), cv2.DIST_L2, 5)
                    for n in seeds
                ]
                nearest = np.argmin(ways, axis=0)  # (Y, X)
                return [pixels & (nearest == n) for n in range(len(seeds))]
    return []
