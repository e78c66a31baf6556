"""Masks made clean and measured, and what is cut out by them.

Axes: Y X pixels, N components
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anyref.data.thresholds import Section
from anyref.perception.contracts import Box, Mask, Picture
from anyref.perception.runtimes import opencv

Pixels = NDArray[np.bool_]  # (Y, X)
Fault = Literal[
    "small", "large", "cut", "fragmented", "irregular", "unsure", "loose", "dark", "blurry"
]
GREY = 128
MEASURE_SIDE = 256  # outlines are measured, and sharpness, on crops whose longer side is this
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
FILL_SIDE = 256
EDGE, AROUND = 0.006, 0.12  # frame diagonals: how wide a soft edge is, and what is near a mask
MAYBE, FAINT = 0.1, 0.2  # of a soft mask: less is clearly out; more is part of what it touches
WORN = (0.15, 0.25, 0.35, 0.45)  # of a mask's largest inner radius


class CropSettings(Section):
    """How masks are cleaned, and which crops are good enough to be references.

    Args:
        opening: radius of the opening, in frame diagonals: longer hairs and bridges below go.
        fragment: parts under this share of the largest are removed; those over it are kept.
        hole: holes under this share of the mask are filled; larger ones are seen through.
        min_area, max_area: of the frame.
        max_cut: share of the outline along the frame's border; .43 for a portrait to the waist.
        max_fragments: parts that are left after cleaning.
        max_irregularity: outline squared over 4 pi area: 1 for a disc, 4 for a standing person.
        max_irregularity_alone: the same for what stands out and no detector has a box for: several
            that touch are one part then, of 5 to 7.
        max_several: how nearly equal the two largest cores of a mask may be, see `cores`, before a
            detector's box no longer counts, as it may be around both.
        max_unsure: pixels between clearly in and clearly out, in areas of the mask.
        max_halo: pixels around the mask that may be part of it, in areas of the mask: the rest of a
            rock, the other half of a butterfly.
        min_fit: IoU of the mask's box with the detector's.
        min_brightness: mean luma of the subject, 0 to 1.
        min_sharpness: of the subject, see `sharpness`.
        margin: around the mask, of its box, in the cut-out.
    """

    opening: float = 0.004
    fragment: float = 0.08
    hole: float = 0.02
    min_area: float = 0.008
    max_area: float = 0.6
    max_cut: float = 0.45
    max_fragments: int = 2
    max_irregularity: float = 9.0
    max_irregularity_alone: float = 4.0
    max_several: float = 0.5
    max_unsure: float = 0.13
    max_halo: float = 0.2
    min_fit: float = 0.55
    min_brightness: float = 0.06
    min_sharpness: float = 20.0
    margin: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What a mask is like; the names are those of `CropSettings`' limits."""

    area: float
    cut: float
    fragments: int
    several: float
    irregularity: float
    unsure: float
    halo: float
    fit: float
    brightness: float
    sharpness: float


def clean(soft: Mask, settings: CropSettings) -> Pixels:
    """A soft mask as pixels: over a half and what hangs on it, opened, without specks and pinholes.

    A part of some width, such as an ear, that the model is not sure of belongs to what it touches.
    """
    diagonal = math.hypot(*soft.shape)
    with opencv(1) as cv2:
        radius = max(1, round(settings.opening * diagonal))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        rough = _with_faint(cv2, soft, disc)
        solid = cv2.morphologyEx(rough, cv2.MORPH_OPEN, disc)
        solid |= cv2.dilate(solid, disc) & rough  # short necks: ears and feet hang on them
        sizes = _sizes(cv2, solid)
        kept = _without_small(cv2, solid, settings.fragment * max(sizes, default=0))
        holes = _without_small(cv2, 1 - kept, settings.hole * int(kept.sum()))
        return np.asarray(holes == 0)


def components(pixels: Pixels, min_area: float) -> list[Pixels]:
    """The connected parts of a mask that cover `min_area` of the frame, the largest first."""
    with opencv(1) as cv2:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(pixels.astype(np.uint8))
    areas = stats[:, 4]
    large = [n for n in range(1, count) if areas[n] >= min_area * pixels.size]
    return [labels == n for n in sorted(large, key=lambda n: -int(areas[n]))]


def box_around(pixels: Pixels) -> Box:
    """The smallest box around a mask that is not empty."""
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def measure(frame: Picture, soft: Mask, pixels: Pixels, box: Box | None) -> Measures:
    """Measure a cleaned mask that is not empty.

    Args:
        soft: what it was made of. box: the detector's, None when the mask itself was found first.
    """
    tight = box_around(pixels)
    rows, columns = tight.pixels(pixels)
    inside, crop = pixels[rows, columns], frame[rows, columns]
    area = int(pixels.sum())
    near = soft[rows, columns]
    with opencv(1) as cv2:
        outline, cut = _outline(cv2, pixels)
        fragments = len(_sizes(cv2, inside.astype(np.uint8)))
        halo = _halo(cv2, soft, pixels)
    return Measures(
        area=area / pixels.size,
        cut=cut,
        fragments=fragments,
        several=cores(inside),
        irregularity=outline**2 / (4 * math.pi * area),
        unsure=float(((near > 0.2) & (near < 0.8)).sum()) / area,
        halo=halo / area,
        fit=1.0 if box is None else tight.overlap(box),
        brightness=float((crop[inside] @ np.array(LUMA)).mean()) / 255,
        sharpness=sharpness(crop, inside),
    )


def faults(measures: Measures, settings: CropSettings, *, detected: bool = True) -> Iterator[Fault]:
    """What is wrong with a mask by the limits; nothing for a good one.

    Args:
        detected: whether a detector has a box for it.
    """
    single = detected and measures.several <= settings.max_several
    ragged = settings.max_irregularity if single else settings.max_irregularity_alone
    wrong: dict[Fault, bool] = {
        "small": measures.area < settings.min_area,
        "large": measures.area > settings.max_area,
        "cut": measures.cut > settings.max_cut,
        "fragmented": measures.fragments > settings.max_fragments,
        "irregular": measures.irregularity > ragged,
        "unsure": measures.unsure > settings.max_unsure or measures.halo > settings.max_halo,
        "loose": measures.fit < settings.min_fit,
        "dark": measures.brightness < settings.min_brightness,
        "blurry": measures.sharpness < settings.min_sharpness,
    }
    return (fault for fault, is_wrong in wrong.items() if is_wrong)


def cores(inside: Pixels) -> float:
    """How much a mask looks like two that touch, 0 to 1.

    It is worn away from its outline by parts of its largest inner radius; each time the second
    largest of the parts that are left is compared in area with the largest. One subject stays in
    one part, since limbs go before the trunk does (0 to .2 for characters of an animated film); of
    two that touch two are left (.7 to .9).

    Args:
        inside: the mask in its box.
    """
    with opencv(1) as cv2:
        scale = min(1.0, MEASURE_SIDE / max(inside.shape))
        size = (max(1, round(scale * inside.shape[1])), max(1, round(scale * inside.shape[0])))
        small = cv2.resize(inside.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        depth = cv2.distanceTransform(np.pad(small, 1), cv2.DIST_L2, 5)  # (Y, X)
        shares = [0.0]
        for part in WORN:
            areas = sorted(_sizes(cv2, (depth > part * depth.max()).astype(np.uint8)), reverse=True)
            if len(areas) > 1:
                shares.append(areas[1] / areas[0])
    return max(shares)


def sharpness(crop: Picture, inside: Pixels | None = None) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000) of a crop at one size.

    Small crops are not enlarged. The outline of the subject itself does not count.
    """
    with opencv(1) as cv2:
        grey = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY)
        weight = np.ones_like(grey) if inside is None else inside.astype(np.uint8)
        scale = min(1.0, MEASURE_SIDE / max(grey.shape))
        size = (max(1, round(scale * grey.shape[1])), max(1, round(scale * grey.shape[0])))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        weight = cv2.resize(weight, size, interpolation=cv2.INTER_NEAREST)
        weight = cv2.erode(weight, np.ones((5, 5), np.uint8))
        edges = cv2.Laplacian(grey, cv2.CV_64F)[weight > 0]
    return float(edges.var()) if edges.size else 0.0


def cut_out(frame: Picture, pixels: Pixels, margin: float) -> NDArray[np.uint8]:
    """The subject as RGBA (Y, X, 4): its box and a margin, alpha 255 on it with a smooth edge."""
    rows, columns = box_around(pixels).grown(margin).pixels(pixels)
    with opencv(1) as cv2:
        alpha = cv2.GaussianBlur(pixels.astype(np.uint8) * 255, (3, 3), 0)
    return np.dstack([frame, alpha])[rows, columns]


def on_grey(frame: Picture, pixels: Pixels) -> Picture:
    """The subject's box with everything else grey: what embedders are to see."""
    rows, columns = box_around(pixels).pixels(pixels)
    crop = frame[rows, columns].copy()
    crop[~pixels[rows, columns]] = GREY
    return crop


def crop_of(frame: Picture, box: Box, margin: float = 0.0) -> Picture:
    """A box of a frame, cut at its border; one pixel at least."""
    rows, columns = box.grown(margin).pixels(frame)
    height, width = frame.shape[:2]
    top, left = min(rows.start, height - 1), min(columns.start, width - 1)
    return np.ascontiguousarray(
        frame[top : max(rows.stop, top + 1), left : max(columns.stop, left + 1)]
    )


def without(frame: Picture, hidden: Pixels) -> Picture:
    """The frame with a part painted over from around it (Telea 2004), coarsely and softly."""
    height, width = hidden.shape
    scale = min(1.0, FILL_SIDE / max(height, width))
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    with opencv(1) as cv2:
        small = cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA)
        hole = cv2.resize(hidden.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
        hole = cv2.dilate(hole, np.ones((3, 3), np.uint8))
        filled = cv2.inpaint(small, hole, 5, cv2.INPAINT_TELEA)
        filled = cv2.resize(filled, (width, height), interpolation=cv2.INTER_CUBIC)
        weight = cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), 2)[..., None]
    weight = np.maximum(weight, hidden[..., None])
    return np.asarray((weight * filled + (1 - weight) * frame).round(), np.uint8)


def widened(pixels: Pixels, share: float) -> Pixels:
    """A mask grown on all sides by a share of the frame's diagonal."""
    radius = max(1, round(share * math.hypot(*pixels.shape)))
    with opencv(1) as cv2:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        return np.asarray(cv2.dilate(pixels.astype(np.uint8), disc) > 0)


def _sizes(cv2: Any, solid: NDArray[np.uint8]) -> list[int]:
    """Areas of the connected parts, pixels."""
    return [int(size) for size in cv2.connectedComponentsWithStats(solid)[2][1:, 4]]


def _without_small(cv2: Any, solid: NDArray[np.uint8], least: float) -> NDArray[np.uint8]:
    """The connected parts of at least so many pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(solid)
    keep = stats[:, 4] >= least  # (N,)
    keep[0] = False
    return keep[labels].astype(np.uint8)


def _with_faint(cv2: Any, soft: Mask, disc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A soft mask over a half, with fainter parts that touch it and are wider than a soft edge."""
    sure = (soft > 0.5).astype(np.uint8)
    faint = ((soft > FAINT) & (soft <= 0.5)).astype(np.uint8)
    wide = cv2.dilate(cv2.morphologyEx(faint, cv2.MORPH_OPEN, disc), disc) & faint
    labels = cv2.connectedComponents(sure | wide)[1]
    return np.asarray(np.isin(labels, np.unique(labels[sure > 0])) & (labels > 0), np.uint8)


def _halo(cv2: Any, soft: Mask, pixels: Pixels) -> int:
    """How many pixels around a mask, but off its soft edge, are not clearly out."""
    diagonal = math.hypot(*pixels.shape)
    sure = pixels & (soft > 0.5)
    away = cv2.distanceTransform((~sure).astype(np.uint8), cv2.DIST_L2, 5)  # (Y, X)
    around = (away > EDGE * diagonal) & (away < AROUND * diagonal)
    return int((around & (soft > MAYBE) & (soft <= 0.5)).sum())


def _outline(cv2: Any, pixels: Pixels) -> tuple[float, float]:
    """Length of the outline in pixels, wiggles smoothed, and its share along the frame's border."""
    height, width = pixels.shape
    rows, columns = box_around(pixels).pixels(pixels)
    side = max(rows.stop - rows.start, columns.stop - columns.start)
    lines, _ = cv2.findContours(pixels.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    smooth = [cv2.approxPolyDP(line, 1.5 * side / MEASURE_SIDE, True) for line in lines]
    length = sum(cv2.arcLength(line, True) for line in smooth)
    points = np.concatenate([line[:, 0] for line in lines])
    x, y = points[:, 0], points[:, 1]
    on_border = (x == 0) | (y == 0) | (x == width - 1) | (y == height - 1)
    return float(length), float(on_border.mean())
