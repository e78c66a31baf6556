"""Clips that show what another clip shows already.

Two clips are near-duplicates when they show the same things, by the features of their middle
frames, in the same places, by their layouts. Either alone is wrong too often: features are nearly
the same for all clips of a dialogue and change with compression, layouts are alike in fog.
"""

# Axes: N clips, D features, E numbers of a layout, B rows of a block, T frames, y x pixels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anyref.data.neighbours import BLOCK, VectorFile
from anyref.perception.runtimes import opencv

LAYOUT = "clip-layout"  # what the payload is called
LAYOUT_SIDE = 16


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A clip that another one makes superfluous.

    Args:
        of: place of the earlier clip, which stays. similarity: cosine of both, 0 to 1.
    """

    of: int
    similarity: float


def layout_of(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Where a clip is light and dark: its first, middle and last frame small, a unit vector (E,).

    Args:
        thumbs: (T, y, x), grey. A clip of one level of grey has a layout of zeros.
    """
    size = (LAYOUT_SIDE, LAYOUT_SIDE)
    with opencv(1) as cv2:
        small = [
            cv2.resize(thumbs[place], size, interpolation=cv2.INTER_AREA)
            for place in (0, len(thumbs) // 2, -1)
        ]
    levels = np.stack(small).astype(np.float32).ravel()
    return _unit(levels - levels.mean())


def fingerprint(
    features: NDArray[np.floating], layout: NDArray[np.floating]
) -> NDArray[np.floating]:
    """What near-duplicates are compared by, (D + E,): its cosines are means of both's cosines.

    Args:
        features: of the middle frame, (D,). layout: as `layout_of` gives it.
    """
    return np.concatenate([_unit(features), layout])


def _unit(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    length = float(np.linalg.norm(vector))
    return (vector / length if length else vector).astype(np.float32)


def find_duplicates(
    features: VectorFile, places: Sequence[int | None], at_least: float
) -> dict[int, Duplicate]:
    """The clips that are near-duplicates of an earlier clip that stays, by their place.

    Clips are looked at from the first on, so that of any number of copies the first stays, and a
    clip that only a dropped one resembles stays too. All pairs are compared, in blocks.

    Args:
        features: unit vectors of clips. places: of each clip, in order, its vector; None for a
            clip without one, which is no duplicate.
        at_least: cosine from which two clips are one.
    """
    known = [clip for clip, place in enumerate(places) if place is not None]
    vectors = [place for place in places if place is not None]
    stays = np.ones(len(known), bool)
    dropped: dict[int, Duplicate] = {}
    for row in range(0, len(known), BLOCK):
        block = features.take(vectors[row : row + BLOCK])  # (B, D)
        best = np.full(len(block), -np.inf, np.float32)  # (B,)
        like = np.zeros(len(block), np.int64)  # (B,)
        for column in range(0, row, BLOCK):
            products = block @ features.take(vectors[column : column + BLOCK]).T  # (B, B)
            products[:, ~stays[column : column + BLOCK]] = -np.inf
            nearest = products.argmax(1)  # (B,)
            nearer = (found := products[np.arange(len(block)), nearest]) > best
            best[nearer], like[nearer] = found[nearer], column + nearest[nearer]
        products = block @ block.T  # (B, B)
        for index in range(len(block)):
            own = np.where(stays[row : row + index], products[index, :index], -np.inf)
            if index and own.max() > best[index]:
                best[index], like[index] = own.max(), row + own.argmax()
            if best[index] >= at_least:
                stays[row + index] = False
                earlier = known[like[index]]
                dropped[known[row + index]] = Duplicate(earlier, min(float(best[index]), 1.0))
    return dropped
