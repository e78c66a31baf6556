"""How far two videos of the same request are apart, and whose references are in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from anyref.bench.measuring import Frames, Made
from anyref.request import Reference

PEAK = 255.0
FRAMES = 9  # that identity looks at
BOX_SHARE = 0.5  # of the shorter side, the box of a subject (as in the lab's world)


@dataclass(frozen=True)
class Difference:
    """Of a video to another.

    Args:
        psnr: of 8-bit pixels in dB, infinite for the same. latents: relative error (L2).
        identity: by reference and video, mean over frames of the best place's score by template
            matching (at most 1); empty without cut-outs.
    """

    psnr: float
    latents: float
    identity: dict[str, tuple[float, float]]


def compare(one: Made, other: Made, references: Sequence[Reference] = ()) -> Difference:
    """How far `other` is from `one`.

    Args:
        references: of the request; those with a picture that has alpha are looked for.
    """
    error = np.mean((one.frames.astype(np.float64) - other.frames) ** 2)
    psnr = float("inf") if error == 0 else 10 * np.log10(PEAK**2 / error)
    norm = float(one.latents.norm())
    found = {
        name: (identity(one.frames, picture), identity(other.frames, picture))
        for name, picture in _cutouts(references)
    }
    return Difference(float(psnr), float((other.latents - one.latents).norm()) / norm, found)


def identity(frames: Frames, picture: Image.Image) -> float:
    """Mean score of a cut-out's best place (`lab.matching`), over frames (T, Y, X, 3).

    Raises:
        LabError: OpenCV is not installed.
    """
    from anyref.lab.matching import best_match, make_strip, make_templates

    picks = np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).astype(int)
    strip = make_strip(frames[picks], BOX_SHARE * min(frames.shape[1:3]))
    return best_match(strip, make_templates([picture])).score


def _cutouts(references: Sequence[Reference]) -> list[tuple[str, Image.Image]]:
    found = []
    for number, reference in enumerate(references):
        first = reference.images[0]
        picture = first if isinstance(first, Image.Image) else Image.open(first)
        clear = picture.mode in ("RGBA", "LA") and np.asarray(picture.getchannel("A")).min() < 128
        if clear:
            found.append((reference.name or f"reference {number + 1}", picture.convert("RGBA")))
    return found
