"""Masks as COCO run lengths: to pixels and back, areas, boxes, overlaps.

A mask is `anyref.data.record.Mask`: rows and columns, and the compressed string of the COCO API
(column by column, runs of 0 and 1 in turn from 0; each run as signed groups of 5 bits from the
character "0" on, bit 6 says that more follow; from the fourth on a run is given as its difference
to the last but one).

pycocotools encodes and measures boxes and overlaps, but believes its input: it decodes a string
that is too short to uninitialised memory, and its areas wrap at 2**32 or, negated, at 2**64. So
every string is parsed and checked here first, and areas are Python integers.
"""

# Axes: Y X pixels, N masks, R runs, K characters

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from anyref.data.record import Box, Mask
from anyref.errors import DataError
from anyref.request import MAX_PICTURE_PIXELS

FORMAT = "coco_rle"
MAX_GROUPS = 7  # 35 bits, more than any run of 64 megapixels needs


def decode(mask: Mask) -> np.ndarray:
    """The mask's pixels: bool (Y, X).

    Raises:
        DataError: for another format, over 64 megapixels, or runs that do not fill the size.
    """
    runs = _run_lengths(mask)
    ones = np.arange(len(runs)) % 2 == 1  # (R,)
    return np.ascontiguousarray(np.repeat(ones, runs).reshape(mask.size[::-1]).T)


def encode(pixels: np.ndarray, score: float | None = None) -> Mask:
    """A mask of pixels (Y, X), any type; what is not 0 is the subject.

    Raises:
        DataError: when the array is not of two axes, empty, or over 64 megapixels.
    """
    if pixels.ndim != 2 or not 0 < pixels.size <= MAX_PICTURE_PIXELS:
        raise DataError(
            f"pixels of shape {pixels.shape} are no mask of 1 to {MAX_PICTURE_PIXELS:,} pixels; "
            "give rows and columns"
        )
    rle = _library().encode(np.asfortranarray(pixels != 0, dtype=np.uint8))
    return Mask(size=pixels.shape, counts=rle["counts"].decode("ascii"), score=score)


def area(mask: Mask) -> int:
    """How many pixels the mask covers.

    Raises:
        DataError: as `decode`.
    """
    return int(_run_lengths(mask)[1::2].sum())


def area_fraction(mask: Mask) -> float:
    """The part of the frame that the mask covers, 0 to 1.

    Raises:
        DataError: as `decode`.
    """
    return area(mask) / (mask.size[0] * mask.size[1])


def tight_box(mask: Mask) -> Box | None:
    """The smallest box around the mask: x0 y0 x1 y1 in pixels, half-open; None for an empty mask.

    Raises:
        DataError: as `decode`.
    """
    if not area(mask):
        return None
    left, top, width, height = _library().toBbox(_rle(mask)).tolist()
    return left, top, left + width, top + height


def pairwise_iou(masks: Sequence[Mask]) -> np.ndarray:
    """Intersection over union of every two masks: float64 (N, N); 0 where both are empty.

    Raises:
        DataError: as `decode`, or when the masks are not all of one size.
    """
    if not masks:
        return np.zeros((0, 0))
    if sizes := {mask.size for mask in masks} - {masks[0].size}:
        raise DataError(
            f"masks of {list(masks[0].size)} and {list(sizes.pop())} have no overlap to measure; "
            "give masks of one frame"
        )
    for mask in masks:
        _run_lengths(mask)
    rles = [_rle(mask) for mask in masks]
    return np.nan_to_num(np.asarray(_library().iou(rles, rles, [0] * len(rles))))  # (N, N)


def _library() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise DataError(
            "masks need pycocotools, which is not installed; pip install 'anyref[data]'"
        ) from error
    return mask


def _rle(mask: Mask) -> dict[str, Any]:
    return {"size": list(mask.size), "counts": mask.counts.encode("ascii")}


def _run_lengths(mask: Mask) -> np.ndarray:
    """Pixels of every run, the first of 0: int64 (R,); checked."""
    rows, columns = mask.size
    if mask.format != FORMAT:
        raise DataError(f"mask format {mask.format!r} is not {FORMAT!r}; convert it")
    if rows < 1 or columns < 1 or rows * columns > MAX_PICTURE_PIXELS:
        raise DataError(
            f"a mask of {rows} x {columns} is not of 1 to {MAX_PICTURE_PIXELS:,} pixels; scale it"
        )
    runs = _parsed(mask.counts)
    if runs is None or runs.min() < 0 or runs.sum() != rows * columns:
        raise DataError(
            f"mask counts {mask.counts!r:.40} are not the runs of {rows} x {columns} pixels; "
            "encode the mask again"
        )
    return runs


def _parsed(counts: str) -> np.ndarray | None:
    """Run lengths by the format of the module's docstring: int64 (R,); None if it is not kept."""
    if not counts or not counts.isascii():
        return None
    groups = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - ord("0")  # (K,)
    if groups.min() < 0 or groups.max() > 0x3F or groups[-1] & 0x20:
        return None
    ends = np.flatnonzero(groups & 0x20 == 0)  # (R,)
    starts = np.concatenate([[0], ends[:-1] + 1])  # (R,)
    lengths = ends - starts + 1
    if lengths.max() > MAX_GROUPS:
        return None
    place = np.arange(len(groups)) - np.repeat(starts, lengths)  # (K,)
    runs = np.add.reduceat((groups & 0x1F) << (5 * place), starts)  # (R,)
    negative = groups[ends] & 0x10 != 0
    runs[negative] -= 1 << (5 * lengths[negative])
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
