"""The subjects of the references: cut out on grey and described by a vector.

The vector has features of the picture embedder, colours, which make 0.3 of a cosine
(`anyref.data.appearance` has the measurements behind that share), and for subjects the layout of
the colours, which makes 0.25: features of small and badly made subjects are those of any badly made
picture, but what is light, dark, red or blue is still where it was (docs/metrics.md).
"""

# Axes: V pictures of a reference, each also mirrored, N pictures, D features, Y X pixels, G grid

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.data.appearance import SIDE, Appearance, count_colours
from anyref.data.crops import CropSettings, Pixels, box_around, clean, cut_out, on_grey
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage
from anyref.evaluation.metrics.parts import has_scenery, off_border
from anyref.media import open_mask, open_reference_pictures
from anyref.perception.contracts import Picture, PictureEmbedder, unit
from anyref.perception.runtimes import opencv
from anyref.perception.small import Grade
from anyref.request import Reference

LOOKS = Appearance(directions=None, colour_share=0.3)
LAYOUT_SHARE = 0.25  # of a cosine of subjects
SUBJECTS = Appearance(directions=None, colour_share=LOOKS.colour_share / (1 - LAYOUT_SHARE))
GRID = 8  # cells of a layout, on either side
FAINT = 5.0  # levels; a fainter layout says nothing
CROPS = CropSettings(min_area=0.004)
PORTRAIT = 0.2  # of a cut-out that is face, from which it may show no more than a head

Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Cutout:
    """A reference's picture and its subject. features: (2, D), length 1, as it is and mirrored."""

    picture: Picture
    pixels: Pixels
    features: NDArray[np.float32]

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
        """(2 V, D)."""
        return np.concatenate([cutout.features for cutout in self.cutouts])


def describe_places(pictures: Sequence[Picture], embedder: PictureEmbedder) -> Vectors:
    """Unit vectors (N, D) of whole pictures: features and colours."""
    everything = [np.ones(picture.shape[:2], bool) for picture in pictures]
    return _describe(pictures, everything, embedder, LOOKS)


def describe(
    pictures: Sequence[Picture], pixels: Sequence[Pixels], embedder: PictureEmbedder
) -> Vectors:
    """Unit vectors (N, D) of what masks leave of pictures; the masks are not empty."""
    looks = _describe(pictures, pixels, embedder, SUBJECTS)
    layouts = [layout(p, m) for p, m in zip(pictures, pixels, strict=True)]
    return _with_layouts(looks, layouts)


def _describe(
    pictures: Sequence[Picture],
    pixels: Sequence[Pixels],
    embedder: PictureEmbedder,
    looks: Appearance,
) -> Vectors:
    shown = [on_grey(picture, mask) for picture, mask in zip(pictures, pixels, strict=True)]
    colours = [_colours(cut_out(p, m, 0)) for p, m in zip(pictures, pixels, strict=True)]
    if not shown:
        return np.zeros((0, 1), np.float32)
    return looks.describe(embedder.embed(shown), np.stack(colours))


def _with_layouts(looks: Vectors, layouts: Sequence[Vectors]) -> Vectors:
    """Both parts as one, of length 1: what has no layout is described by its look alone."""
    if not layouts:
        return looks
    parts = [np.sqrt(1 - LAYOUT_SHARE) * looks, np.sqrt(LAYOUT_SHARE) * np.stack(layouts)]
    return unit(np.concatenate(parts, axis=1))


def layout(picture: Picture, pixels: Pixels) -> Vectors:
    """Where a cut-out is light and dark and of which colour: (G * G * 3,), 0 outside of it.

    Its box in cells, each the mean of what is inside the mask less the mean of all, by the share
    that is inside. The length is 1, and less for a plain subject: the 5th level counts a half.
    """
    rows, columns = box_around(pixels).pixels(pixels)
    mask = pixels[rows, columns].astype(np.float32)
    inside = picture[rows, columns].astype(np.float32) * mask[..., None]
    with opencv(1) as cv2:
        share = cv2.resize(mask, (GRID, GRID), interpolation=cv2.INTER_AREA)
        cells = cv2.resize(inside, (GRID, GRID), interpolation=cv2.INTER_AREA)
    weight = 3 * float(share.sum())
    cells = cells - cells.sum() / max(weight, 1e-6) * share[..., None]
    return np.asarray(cells / np.sqrt((cells**2).sum() + weight * FAINT**2), np.float32).ravel()


def mirrored_too(picture: Picture, pixels: Pixels, feature: Vectors) -> Vectors:
    """The vectors (2, D) of a cut-out, (D,), and of its mirror image, whose layout is another."""
    other = layout(picture[:, ::-1], pixels[:, ::-1])
    before = feature[: len(feature) - len(other)]
    own = feature[len(before) :]
    scale = np.linalg.norm(own) / max(float(np.linalg.norm(other)), 1e-6)
    return np.stack([feature, np.concatenate([before, scale * other])]).astype(np.float32)


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
                cutouts=tuple(
                    Cutout(picture, mask, mirrored_too(picture, mask, feature))
                    for picture, mask, feature in zip(pictures, masks, features, strict=True)
                ),
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
