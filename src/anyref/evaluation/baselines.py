"""Two baselines that a benchmark has to put in their place.

copy-paste   the references pasted side by side on the background and held still: every pixel of
             the references is there, and nothing that the prompt says happens
text-only    a model that is not shown the references: what happens, with other subjects
"""

# Axes: T frames, Y X pixels

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from anyref.media import fit, open_mask, open_reference_pictures
from anyref.request import Reference, Request

COPY_PASTE, TEXT_ONLY = "copy-paste", "text-only"
WIDTH, HEIGHT, FRAMES, FPS = 832, 480, 81, 16.0  # where a request says no other: Wan2.1's
GROUND = (208, 208, 208)  # behind subjects where there is no background reference
SHARE = 0.9  # of its column that a subject may fill
PLAIN = 0.6  # of a picture's border that is ground, or it is a photograph
NEAR = 24  # levels, summed over channels, by which a plain ground may differ from its corner


def pasted(request: Request) -> NDArray[np.uint8]:
    """The request's references, first picture of each, on its background: (T, Y, X, 3).

    A subject's plain ground, what is like a corner of its picture and connected to it, is left
    out; a photograph is pasted whole.

    Raises:
        MediaError: for a picture that cannot be read.
    """
    size = (request.width or WIDTH, request.height or HEIGHT)
    places = [r for r in request.references if r.kind == "background"]
    subjects = [r for r in request.references if r.kind != "background"]
    canvas = Image.new("RGB", size, GROUND)
    if places:
        canvas = ImageOps.fit(open_reference_pictures(places[0])[0], size)
    _paste(canvas, subjects)
    frame = np.asarray(canvas, np.uint8)
    return np.repeat(frame[None], request.num_frames or FRAMES, axis=0)


def _paste(canvas: Image.Image, subjects: Sequence[Reference]) -> None:
    for place, reference in enumerate(subjects):
        column = canvas.width / len(subjects)
        picture = open_reference_pictures(reference)[0]
        cell = max(1, int(SHARE * column)), max(1, int(SHARE * canvas.height))
        small = picture.resize(fit(*picture.size, *cell), Image.Resampling.LANCZOS)
        if reference.mask is None:
            shape = without_ground(small)
        else:
            shape = open_mask(reference, small.size)
        left = round((place + 0.5) * column - small.width / 2)
        canvas.paste(small, (left, (canvas.height - small.height) // 2), shape)


def without_ground(picture: Image.Image) -> Image.Image:
    """255 inside, 0 on a plain ground that reaches the corners; all 255 where there is none."""
    marked, unused = picture.copy(), (1, 254, 3)
    for corner in ((0, 0), (-1, 0), (0, -1), (-1, -1)):
        at = corner[0] % picture.width, corner[1] % picture.height
        ImageDraw.floodfill(marked, at, unused, thresh=NEAR)
    ground = (np.asarray(marked) == unused).all(-1)  # (Y, X)
    border = np.concatenate([ground[0], ground[-1], ground[:, 0], ground[:, -1]])
    if border.mean() < PLAIN:
        return Image.new("L", picture.size, 255)
    return Image.fromarray(np.where(ground, 0, 255).astype(np.uint8))


def without_references(request: Request) -> Request:
    """The same request with its references in words only."""
    prompt = request.text.replace("@", "@@")
    return request.model_copy(update={"prompt": prompt, "references": ()})
