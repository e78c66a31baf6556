"""Masks: ISNet cuts out what stands out, MediaPipe's selfie network cuts out people, fast.

Both take a square picture. Given a box they look at its surroundings only, so the way to one object
among several is an object detector's box first.

Axes: Y X pixels, S side of the network's square
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.errors import PerceptionError
from anyref.perception.contracts import Box, Mask, Picture, check_pairs, check_pictures
from anyref.perception.runtimes import (
    NamedNetwork,
    Network,
    SmallModel,
    load_litert,
    load_onnx,
    opencv,
)

MARGIN = 0.1  # of a box's width and height, looked at (and cut out) around it


class _SquareSegmenter(SmallModel):
    """Squashes the picture, or a box of it with a margin, to a square and stretches the mask."""

    side: ClassVar[int]

    def segment(
        self, pictures: Sequence[Picture], boxes: Sequence[Box | None] | None = None
    ) -> list[Mask]:
        """A soft mask (Y, X) of 0 to 1 per picture.

        Args:
            boxes: per picture, where the subject is, or None for the whole picture; the mask is 0
                beyond a tenth of the box around it.

        Raises:
            PerceptionError: for pictures of another form, lengths that differ, a box outside its
                picture, or weights that are not fetched.
        """
        check_pictures(pictures)
        boxes = [None] * len(pictures) if boxes is None else boxes
        check_pairs(pictures, boxes, "boxes")
        return [self._segment_one(*pair) for pair in zip(pictures, boxes, strict=True)]

    def _segment_one(self, picture: Picture, box: Box | None) -> Mask:
        mask = np.zeros(picture.shape[:2], np.float32)
        rows, columns = (slice(None), slice(None)) if box is None else _around(picture, box)
        crop = np.ascontiguousarray(picture[rows, columns])
        height, width = crop.shape[:2]
        with opencv(self.threads) as cv2:
            square = cv2.resize(crop, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
            soft = self.infer(square.astype(np.float32))  # (S, S)
            mask[rows, columns] = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
        return mask.clip(0, 1)

    @abstractmethod
    def infer(self, square: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mask (S, S) of a square picture (S, S, 3) of 0 to 255."""


class IsNet(_SquareSegmenter):
    """ISNet (Qin et al. 2022), any subject; about a second per picture on a CPU."""

    source = "isnet"
    side = 1024

    @cached_property
    def network(self) -> NamedNetwork:
        """`input` (1, 3, 1024, 1024) float32 to `output` (1, 1, 1024, 1024)."""
        return load_onnx(self.weights.files[0], self.threads, output="output")

    def infer(self, square: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mask (S, S) of a square picture (S, S, 3) of 0 to 255."""
        values = ((square - 128) / 256).transpose(2, 0, 1)[None]  # (1, 3, S, S)
        return _plane(self.network({"input": np.ascontiguousarray(values)}))


class SelfieSegmenter(_SquareSegmenter):
    """MediaPipe's selfie segmentation: people, in milliseconds, with a soft edge."""

    source = "selfie"
    side = 256

    @cached_property
    def network(self) -> Network:
        """(1, 256, 256, 3) float32 of 0 to 1, to (1, 256, 256, 1)."""
        return load_litert(self.weights.files[0], self.threads)

    def infer(self, square: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mask (S, S) of a square picture (S, S, 3) of 0 to 255."""
        return _plane(self.network(square[None] / np.float32(255)))


def _plane(output: NDArray[Any]) -> NDArray[np.float32]:
    """(1, 1, S, S) or (1, S, S, 1) as (S, S)."""
    return np.ascontiguousarray(output.squeeze(), np.float32)


def _around(picture: Picture, box: Box) -> tuple[slice, slice]:
    rows, columns = box.grown(MARGIN).pixels(picture)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        height, width = picture.shape[:2]
        raise PerceptionError(
            f"{box} covers nothing of a picture of {width}x{height}; give left, top, right, bottom "
            "in its pixels"
        )
    return rows, columns
