"""The subjects of the references: cut out on grey and described by a vector.

The vector has features of the picture embedder, and colours, which make 0.3 of a cosine
(`anyref.data.appearance` has the measurements behind that share).
"""

# Axes: V pictures of a reference, N pictures, D features, Y X pixels

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.data.appearance import SIDE, Appearance, count_colours
from anyref.data.crops import CropSettings, Pixels, clean, cut_out, on_grey
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage
from anyref.evaluation.metrics.parts import has_scenery, off_border
from anyref.media import open_mask, open_reference_pictures
from anyref.perception.contracts import Picture, PictureEmbedder
from anyref.perception.small import Grade
from anyref.request import Reference

LOOKS = Appearance(directions=None, colour_share=0.3)
CROPS = CropSettings(min_area=0.004)
PORTRAIT = 0.2  # of a cut-out that is face, from which it may show no more than a head


@dataclass(frozen=True, eq=False)
class Cutout:
    """A reference's picture and its subject. feature: (D,), length 1."""

    picture: Picture
    pixels: Pixels
    feature: NDArray[np.float32]

    @property
    def has_scenery(self) -> bool:
        """Whether the picture shows more than the subject on a plain ground."""
        return has_scenery(self.picture)


@dataclass(frozen=True, eq=False)
class Wanted:
    """A reference of the case: its place there, its word, and its pictures.

    Args:
        portrait: a human of whom no more than the head is shown.
    """

    place: int
    name: str
    kind: str
    cutouts: tuple[Cutout, ...]
    portrait: bool

    @property
    def features(self) -> NDArray[np.float32]:
        """(V, D)."""
        return np.stack([cutout.feature for cutout in self.cutouts])


def describe(
    pictures: Sequence[Picture], pixels: Sequence[Pixels], embedder: PictureEmbedder
) -> NDArray[np.float32]:
    """Unit vectors (N, D) of what masks leave of pictures; the masks are not empty."""
    shown = [on_grey(picture, mask) for picture, mask in zip(pictures, pixels, strict=True)]
    colours = [_colours(cut_out(p, m, 0)) for p, m in zip(pictures, pixels, strict=True)]
    if not shown:
        return np.zeros((0, 1), np.float32)
    return LOOKS.describe(embedder.embed(shown), np.stack(colours))


def _colours(rgba: NDArray[np.uint8]) -> NDArray[np.float32]:
    picture = Image.fromarray(rgba)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return count_colours(buffer.getvalue())


def wanted_of(case: Case, footage: Footage, models: Grade) -> tuple[Wanted, ...]:
    """The subjects (not backgrounds) that the case asks for, in its order; cut out once."""
    return footage.once("wanted", lambda: cut_references(case, models))


def cut_references(case: Case, models: Grade) -> tuple[Wanted, ...]:
    """Cut out and describe the references that are subjects."""
    assert case.request is not None
    result = []
    for place, reference in enumerate(case.request.references):
        if reference.kind == "background":
            continue
        pictures = [np.asarray(p) for p in open_reference_pictures(reference)]
        masks = _reference_masks(reference, pictures, models)
        features = describe(pictures, masks, models.picture_embedders[0])
        label = case.labels[place] if place < len(case.labels) else ""
        result.append(
            Wanted(
                place=place,
                name=reference.name or label or f"reference {place + 1}",
                kind=reference.kind,
                cutouts=tuple(map(Cutout, pictures, masks, features)),
                portrait=reference.kind == "human" and _is_portrait(pictures, masks, models),
            )
        )
    return tuple(result)


def _reference_masks(
    reference: Reference, pictures: Sequence[Picture], models: Grade
) -> list[Pixels]:
    """What each picture shows: by its own mask, or what stands out, or is unlike a plain border."""
    if reference.mask is not None:
        height, width = pictures[0].shape[:2]
        return [np.asarray(open_mask(reference, (width, height))) > 127]
    masks = []
    for picture, soft in zip(pictures, models.masks.segment(pictures), strict=True):
        rough = soft if has_scenery(picture) else np.maximum(soft, off_border(picture))
        pixels = clean(rough.astype(np.float32), CROPS)
        masks.append(pixels if pixels.any() else np.ones(soft.shape, bool))
    return masks


def _is_portrait(pictures: Sequence[Picture], masks: Sequence[Pixels], models: Grade) -> bool:
    faces = models.faces.detect(pictures)
    return all(
        bool(some) and some[0].box.area > PORTRAIT * mask.sum()
        for some, mask in zip(faces, masks, strict=True)
    )
