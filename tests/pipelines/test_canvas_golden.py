"""Canvases and latent masks equal the official ones, pixel for pixel."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.nn import functional as F

from anyref.media import open_picture
from anyref.pipelines.canvas import canvas_cells, place

GOLDEN = Path(__file__).parent.parent / "golden" / "magref"
CASES = [
    (layout, case["case"], case["height"], case["width"])
    for layout in ("grid", "columns")
    for case in json.loads((GOLDEN / f"canvas_{layout}" / "cases.json").read_text())
]


@pytest.mark.parametrize(("layout", "case", "height", "width"), CASES)
def test_canvas_and_latent_mask_are_identical(layout, case, height, width):
    folder = GOLDEN / f"canvas_{layout}" / case
    pictures = [open_picture(path) for path in sorted(folder.glob("ref_*.png"))]
    cells = canvas_cells(layout, len(pictures), height, width)
    canvas, mask = place(pictures, cells, height, width, None)
    assert np.array_equal(np.asarray(canvas), np.asarray(Image.open(folder / "canvas.png")))
    expected = np.asarray(Image.open(folder / "latent_mask.png")) == 255
    assert np.array_equal(F.max_pool2d(mask[None].float(), 8)[0].bool().numpy(), expected)


def test_shuffling_moves_pictures_and_keeps_their_area():
    pictures = [Image.new("RGB", (50, 50), color) for color in ("red", "green", "blue")]
    cells = canvas_cells("grid", 3, 480, 832)
    canvases = {place(pictures, cells, 480, 832, random.Random(s))[0].tobytes() for s in range(8)}
    assert len(canvases) > 1
    ordered = [place(pictures, cells, 480, 832, None)[0].tobytes() for _ in range(2)]
    assert ordered[0] == ordered[1]
