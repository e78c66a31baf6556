"""Safety: Yahoo's open_nsfw, one probability per picture.

A filter for training data and a warning for results, not a judgement: it knows nudity in
photographs, and neither violence nor drawings.

Axes: Y X pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.perception.contracts import Picture, check_pictures
from anyref.perception.runtimes import NamedNetwork, SmallModel, load_onnx

RESIZED, SIDE = 256, 224
MEAN_BGR = (104, 117, 123)


class OpenNsfw(SmallModel):
    """open_nsfw (Mahadeokar and Pesavento 2016); a portrait scores about .02."""

    source = "open-nsfw"

    @cached_property
    def network(self) -> NamedNetwork:
        """`input:0` (1, 224, 224, 3) float32 to (1, 2): safe, not safe."""
        return load_onnx(self.weights.files[0], self.threads)

    def score(self, pictures: Sequence[Picture]) -> list[float]:
        """The probability (0 to 1) that a picture is not safe.

        Raises:
            PerceptionError: for anything but uint8 RGB arrays, or weights that are not fetched.
        """
        check_pictures(pictures)
        return [float(self.network({"input:0": _prepare(p)[None]})[0, 1]) for p in pictures]


def _prepare(picture: Picture) -> NDArray[np.float32]:
    """Squash to 256 x 256, take the centre, BGR minus Caffe's mean: (224, 224, 3)."""
    small = Image.fromarray(picture).resize((RESIZED, RESIZED), Image.Resampling.BILINEAR)
    edge = (RESIZED - SIDE) // 2
    centre = np.asarray(small, np.float32)[edge : edge + SIDE, edge : edge + SIDE, ::-1]
    return np.ascontiguousarray(centre - np.array(MEAN_BGR, np.float32))
