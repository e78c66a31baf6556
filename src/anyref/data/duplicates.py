"""Clips that show what another clip shows already."""

# Axes: N clips, D features, B rows of a block

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anyref.data.neighbours import BLOCK, VectorFile


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A clip that another one makes superfluous.

    Args:
        of: place of the earlier clip, which stays. similarity: cosine of both, 0 to 1.
    """

    of: int
    similarity: float


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
