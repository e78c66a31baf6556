"""The composite canvas: which picture goes where on one white picture (MAGREF paper sec. 3.1).

Axes: K references, Y X pixels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from anyref.errors import ReferencesError, RequestError
from anyref.media import WHITE, letterbox
from anyref.request import Box, Layout

GRIDS = ((1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 2, 2), (6, 3, 2), (8, 4, 2))  # up to n: cols, rows
MAX_COLUMNS = 3
QUARTERS = 4

PixelBox = tuple[int, int, int, int]  # left, top, right, bottom


def canvas_cells(layout: Layout, count: int, height: int, width: int) -> list[PixelBox]:
    """Cells of a canvas, row by row, at least `count` of them.

    Args:
        layout: "columns": three columns, one picture in the centre (June 2025 code); "grid": the
            smallest of 1, 2, 3, 4, 6, 8 cells that holds all (March 2026 code); "quarters": two
            columns and two rows for any count, so that the k-th picture lies at one place at one
            scale (ours); or one box per picture as fractions of the canvas.

    Raises:
        ReferencesError: when the layout does not hold `count` pictures or a box is not inside.
    """
    if layout == "columns":
        if count > MAX_COLUMNS:
            raise ReferencesError(
                f"layout 'columns' holds {MAX_COLUMNS} pictures, {count} given; use layout 'grid'"
            )
        edges = [round(i * width / MAX_COLUMNS) for i in range(MAX_COLUMNS + 1)]
        cells = [(edges[i], 0, edges[i + 1], height) for i in range(MAX_COLUMNS)]
        return cells[1:2] if count == 1 else cells
    if layout in ("grid", "quarters"):
        least = QUARTERS if layout == "quarters" else count
        if count > QUARTERS and layout == "quarters":
            raise ReferencesError(
                f"layout 'quarters' holds {QUARTERS} pictures, {count} given; use layout 'grid'"
            )
        _, columns, rows = next(grid for grid in GRIDS if grid[0] >= least)
        xs = [*(i * (width // columns) for i in range(columns)), width]
        ys = [*(i * (height // rows) for i in range(rows)), height]
        return [(xs[c], ys[r], xs[c + 1], ys[r + 1]) for r in range(rows) for c in range(columns)]
    if isinstance(layout, str):
        raise RequestError(
            f"layout {layout!r} is not known; use 'columns', 'grid', 'quarters' or boxes"
        )
    if len(layout) != count:
        raise ReferencesError(f"{len(layout)} boxes for {count} pictures; give one box per picture")
    return [_pixels(box, height, width) for box in layout]


def _pixels(box: Box, height: int, width: int) -> PixelBox:
    left, top, right, bottom = box
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ReferencesError(
            f"box {box} is not inside the canvas; give left, top, right, bottom "
            "as fractions with 0 <= left < right <= 1 and 0 <= top < bottom <= 1"
        )
    x0, x1 = round(left * width), round(right * width)
    y0, y1 = round(top * height), round(bottom * height)
    if x0 == x1 or y0 == y1:
        raise ReferencesError(f"box {box} is less than a pixel of a {width}x{height} canvas")
    return x0, y0, x1, y1


def default_layout(count: int) -> Literal["columns", "grid"]:
    """Columns for up to three pictures, as the released checkpoint was fed; grid above."""
    return "columns" if count <= MAX_COLUMNS else "grid"


def arrange(
    pictures: Sequence[Image.Image],
    cells: Sequence[PixelBox],
    height: int,
    width: int,
    rng: random.Random | None,
) -> tuple[Image.Image, list[PixelBox]]:
    """Letterbox pictures into cells of a white canvas.

    Args:
        rng: draws the order of pictures and of cells; None keeps both.

    Returns:
        the RGB canvas, and for each picture, as given, the rectangle it covers without its white
        borders.
    """
    order, cells = list(range(len(pictures))), list(cells)
    if rng is not None:
        rng.shuffle(order)
        rng.shuffle(cells)
    canvas = Image.new("RGB", (width, height), WHITE)
    boxes = [(0, 0, 0, 0)] * len(pictures)
    for k, (left, top, right, bottom) in zip(order, cells, strict=False):
        cell, (x0, y0, x1, y1) = letterbox(pictures[k], right - left, bottom - top)
        canvas.paste(cell, (left, top))
        boxes[k] = (left + x0, top + y0, left + x1, top + y1)
    return canvas, boxes


def rectangles(boxes: Sequence[PixelBox], height: int, width: int) -> Tensor:
    """A bool (Y, X) mask that is true inside any of the boxes (paper Eq. 2)."""
    mask = torch.zeros(height, width, dtype=torch.bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def place(
    pictures: Sequence[Image.Image],
    cells: Sequence[PixelBox],
    height: int,
    width: int,
    rng: random.Random | None,
) -> tuple[Image.Image, Tensor]:
    """`arrange`, with the rectangles as one mask.

    Returns:
        the RGB canvas, and a bool (Y, X) mask that is true on the resized pictures' rectangles.
    """
    canvas, boxes = arrange(pictures, cells, height, width, rng)
    return canvas, rectangles(boxes, height, width)


def silhouette(mask: Image.Image, box: PixelBox, height: int, width: int) -> Tensor:
    """A bool (Y, X) mask that is true where a picture's mask has any of its subject.

    Args:
        mask: "L", 255 on the subject; scaled to the box as its picture is.
    """
    left, top, right, bottom = box
    scaled = mask.resize((right - left, bottom - top), Image.Resampling.BOX)
    subject = torch.zeros(height, width, dtype=torch.bool)
    subject[top:bottom, left:right] = torch.from_numpy(np.array(scaled) > 0)
    return subject
