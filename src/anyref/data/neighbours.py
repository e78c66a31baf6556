"""Vectors that are near each other, found in blocks; and vectors that lie in a file meanwhile."""

# Axes: N vectors, D features, B rows of a block, E edges

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anyref.errors import DataError

BLOCK = 2048  # a block of similarities takes 16 MiB

Vectors = NDArray[np.float32]
Edge = tuple[int, int]


class VectorFile:
    """Vectors in a file without a name, which is gone when the process is; a context manager.

    Args:
        folder: on a disk with room: 2 or 4 bytes per number. kind: of a number.
    """

    def __init__(self, folder: Path, kind: type[np.floating] = np.float16) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._kind = np.dtype(kind)
        self._width: int | None = None
        self._length = 0
        self._map: NDArray[np.floating] | None = None

    def __enter__(self) -> VectorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._map = None
        self._file.close()

    def __len__(self) -> int:
        return self._length

    def add(self, vectors: NDArray[np.floating]) -> int:
        """Append (N, D); the place of the first.

        Raises:
            DataError: when D is not that of the vectors before.
        """
        if self._width is None:
            self._width = vectors.shape[1]
        if vectors.shape[1] != self._width:
            raise DataError(
                f"vectors of {vectors.shape[1]} numbers beside vectors of {self._width}: the "
                "dataset was made with two models; make it again with one"
            )
        self._file.write(np.ascontiguousarray(vectors, self._kind).data)
        first, self._length, self._map = self._length, self._length + len(vectors), None
        return first

    def take(self, places: Sequence[int] | NDArray[np.int64]) -> Vectors:
        """Some of them: (N, D); D is 0 while there are none at all."""
        if self._width is None:
            return np.zeros((len(places), 0), np.float32)
        if self._map is None:
            self._file.flush()
            shape = (self._length, self._width)
            self._map = np.memmap(self._file, self._kind, "r", shape=shape)
        return np.asarray(self._map[np.asarray(places, np.int64)], np.float32)


def mutual_neighbours(
    vectors: Vectors, squares: Vectors, limit: float, count: int, groups: NDArray[np.int64]
) -> dict[Edge, float]:
    """Sets of vectors that are each among the other's nearest, and near enough.

    Args:
        vectors: (N, D), the mean of each set. squares: (N,), the mean squared length in each, with
            which the mean squared distance of two sets follows from their means.
        limit: the largest mean squared distance. count: how many nearest of each are looked at.
        groups: (N,); sets of one group are no pair and take no place among the nearest.

    Returns:
        the distance of (i, j), i < j; in that order.
    """
    kept: dict[Edge, float] = {}
    for row in range(0, len(vectors), BLOCK):
        places, others, distances = _nearest(vectors, squares, row, limit, count, groups)
        pairs = zip(places.tolist(), others.tolist(), strict=True)
        kept.update(zip(pairs, distances.tolist(), strict=True))
    return {
        (i, j): distance for (i, j), distance in sorted(kept.items()) if i < j and (j, i) in kept
    }


_Found = tuple[NDArray[np.int64], NDArray[np.int64], Vectors]


def _nearest(
    vectors: Vectors,
    squares: Vectors,
    row: int,
    limit: float,
    count: int,
    groups: NDArray[np.int64],
) -> _Found:
    """The nearest of the sets from `row` on: places, others, distances (E,)."""
    rows = slice(row, row + BLOCK)
    found: _Found = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    for column in range(0, len(vectors), BLOCK):
        columns = slice(column, column + BLOCK)
        distances = -2 * (vectors[rows] @ vectors[columns].T)  # (B, B)
        distances += squares[rows, None] + squares[None, columns]
        distances[groups[rows, None] == groups[None, columns]] = np.inf
        ys, xs = np.nonzero(distances <= limit)
        new = (ys + row, xs + column, distances[ys, xs])
        found = _first(
            np.concatenate([found[0], new[0]]),
            np.concatenate([found[1], new[1]]),
            np.concatenate([found[2], new[2]]),
            count,
        )
    return found


def _first(
    places: NDArray[np.int64], others: NDArray[np.int64], distances: Vectors, count: int
) -> _Found:
    """Of each place the `count` smallest distances; the lower other where they are equal."""
    order = np.lexsort((others, distances, places))
    places, others, distances = places[order], others[order], distances[order]
    starts = np.flatnonzero(np.diff(places, prepend=-1))  # (B,)
    rank = np.arange(len(places)) - np.repeat(starts, np.diff(starts, append=len(places)))
    keep = rank < count
    return places[keep], others[keep], distances[keep]
