"""Which cut-out is in a frame, and where: template matching that knows silhouettes.

A template is a picture with alpha at one size. It explains a place of a frame when three things
hold together: inside the silhouette the frame is `gain * template + offset` with gain >= 0 (light
changes are free), in a ring around it the frame has another colour, constant per channel, and both
together say more than one constant colour does:

    score = 1 - (inside + ring + noise) / (total + noise)

    inside   sum over the mask of (frame - fit)^2, that is variance * (1 - r^2) with the masked
             normalised cross-correlation r (0 where it is negative)
    ring     sum of squares around the ring's mean colour
    total    sum of squares around the mean colour of mask and ring
    noise    (NOISE grey levels)^2 per value: a faint gradient cannot be explained well

r alone finds plain cut-outs in every sky; the ring asks for an outline. Every sum is a correlation
(`cv2.matchTemplate`), so all places are scored at once. Nothing is learned.
"""

# Axes: T frames, Y X pixels

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.errors import LabError
from anyref.lab.pictures import fit

try:
    import cv2
except ImportError as error:
    raise LabError(
        "template matching needs OpenCV, which is not installed; pip install 'anyref[lab]'"
    ) from error

Floats = NDArray[np.float32]
Label = TypeVar("Label")

BOX_PX = 24  # side of a subject's box in the pixels that are matched
RING_PX = 1
SCALES = (0.9, 1.0, 1.1)  # of the box: a joint extent of poses leaves single ones smaller
MARGIN = 0.15  # of the box, searched beyond a lane's edges and the frame's
NOISE = 4.0  # grey levels
MIDDLE = 128.0  # subtracted from all pixels: float32 sums stay exact enough
MIN_SIDE_PX = 4


@dataclass(frozen=True, eq=False)
class Template:
    """One view at one size, with a border of `RING_PX` on every side.

    Args:
        view: which of a candidate's views this is.
        centred: (Y, X, 3), mask * (pixels - their mean over mask and channels).
        energy: sum of mask * (pixels - mean)^2.
        mask, ring: (Y, X), weights from 0 to 1.
    """

    view: int
    centred: Floats
    energy: float
    mask: Floats
    ring: Floats


@dataclass(frozen=True, eq=False)
class Strip:
    """Frames at matching size, or one lane of them, one below the other.

    Args:
        pixels: (T * Y, X, 3), padded on every side. squares: (T * Y, X), summed over channels.
        num_frames: T.
        origin: frame pixels (x, y) of the top left corner of the padded pictures.
        scale: matching pixels per frame pixel.
    """

    pixels: Floats
    squares: Floats
    num_frames: int
    origin: tuple[float, float]
    scale: float


@dataclass(frozen=True, eq=False)
class Match:
    """Best place of a candidate in every frame.

    Args:
        scores: (T,), at most 1. centres: (T, 2), x y in frame pixels. views: (T,), which view.
    """

    scores: Floats
    centres: Floats
    views: NDArray[np.int64]

    @property
    def score(self) -> float:
        """Mean over the frames."""
        return float(self.scores.mean())


def make_templates(
    views: Sequence[Image.Image], scales: Iterable[float] = SCALES, box: int = BOX_PX
) -> tuple[Template, ...]:
    """Templates of RGBA views whose longer side is `scale * box` matching pixels.

    Raises:
        LabError: when a view has no visible pixel.
    """
    return tuple(
        _template(picture, view, max(MIN_SIDE_PX, round(scale * box)))
        for scale in scales
        for view, picture in enumerate(views)
    )


def _template(picture: Image.Image, view: int, side: int) -> Template:
    small = np.asarray(fit(picture.convert("RGBA"), side), np.float32)  # (Y, X, 4)
    border = [(RING_PX, RING_PX), (RING_PX, RING_PX), (0, 0)]
    small = np.pad(small, border)
    mask = small[..., 3] / 255
    weight = float(mask.sum())
    if weight < 1:
        raise LabError(f"view {view} has no visible pixel at {side} pixels; leave it out")
    mean = float((small[..., :3] * mask[..., None]).sum()) / (3 * weight)
    difference = small[..., :3] - mean
    kernel = np.ones((2 * RING_PX + 1, 2 * RING_PX + 1), np.uint8)
    ring = np.asarray(cv2.dilate(mask, kernel) - mask, np.float32)
    return Template(
        view=view,
        centred=np.ascontiguousarray(difference * mask[..., None]),
        energy=float((difference**2 * mask[..., None]).sum()),
        mask=np.ascontiguousarray(mask),
        ring=ring,
    )


def make_strip(
    frames: NDArray[np.uint8], box: float, rows: tuple[float, float] | None = None
) -> Strip:
    """Frames shrunk so that a subject's box is `BOX_PX` wide.

    Args:
        frames: (T, Y, X, 3). box: side of a subject's box in frame pixels.
        rows: first and last row to search, in frame pixels; the whole frame when None.
    """
    height, width = frames.shape[1:3]
    scale = BOX_PX / box
    pad = RING_PX + round(MARGIN * BOX_PX)
    top, bottom = rows or (0, height)
    first, last = round(top * scale), round(bottom * scale)
    size = (round(width * scale), round(height * scale))
    strips = []
    for frame in frames:
        small = cv2.resize(frame.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        padded = np.pad(small - MIDDLE, [(pad, pad), (pad, pad), (0, 0)], mode="edge")
        strips.append(padded[first : last + 2 * pad])
    pixels = np.ascontiguousarray(np.concatenate(strips), np.float32)
    origin = (-pad / scale, (first - pad) / scale)
    return Strip(pixels, (pixels**2).sum(2), len(frames), origin, scale)


def score_map(strip: Strip, template: Template) -> Floats:
    """The score at every place: (T, Y', X') for the template's top left corner, at most 1.

    Y' and X' are 0 when the template is larger than the picture.
    """
    height, width = template.mask.shape
    rows, columns = strip.pixels.shape[0] // strip.num_frames, strip.pixels.shape[1]
    if height > rows or width > columns:
        return np.empty((strip.num_frames, 0, 0), np.float32)
    inside, ring = float(template.mask.sum()), float(template.ring.sum())
    noise = 3 * NOISE**2
    channels = [np.ascontiguousarray(strip.pixels[..., c]) for c in range(3)]
    in_mask = [_correlate(channel, template.mask) for channel in channels]
    in_ring = [_correlate(channel, template.ring) for channel in channels]
    mask_squares = _correlate(strip.squares, template.mask)
    ring_squares = _correlate(strip.squares, template.ring)
    variance = mask_squares - sum(in_mask) ** 2 / (3 * inside)
    aligned = np.maximum(_correlate(strip.pixels, template.centred), 0)
    softened = (variance + noise * inside) * (template.energy + noise * inside)
    unexplained = variance * (1 - aligned**2 / np.maximum(softened, 1))
    unexplained += ring_squares - sum(s**2 for s in in_ring) / ring
    total = mask_squares + ring_squares
    total -= sum((a + b) ** 2 for a, b in zip(in_mask, in_ring, strict=True)) / (inside + ring)
    both = noise * (inside + ring)
    scores = 1 - (unexplained + both) / (np.maximum(total, 0) + both)
    whole = np.full((strip.num_frames * rows, scores.shape[1]), -np.inf, np.float32)
    whole[: len(scores)] = scores
    return whole.reshape(strip.num_frames, rows, -1)[:, : rows - height + 1]  # no frame's seam


def _correlate(picture: Floats, template: Floats) -> Floats:
    return np.asarray(cv2.matchTemplate(picture, template, cv2.TM_CCORR), np.float32)


def best_match(strip: Strip, templates: Sequence[Template]) -> Match:
    """The best of all templates and places in every frame.

    Raises:
        LabError: when no template fits into the picture.
    """
    frames = np.arange(strip.num_frames)
    scores = np.full(strip.num_frames, -np.inf, np.float32)
    centres = np.zeros((strip.num_frames, 2), np.float32)
    views = np.zeros(strip.num_frames, np.int64)
    for template in templates:
        maps = score_map(strip, template)  # (T, Y', X')
        if not maps.size:
            continue
        places = maps.reshape(strip.num_frames, -1).argmax(1)  # (T,)
        y, x = np.unravel_index(places, maps.shape[1:])
        found = maps[frames, y, x]
        height, width = template.mask.shape
        middles = np.stack([x + width / 2, y + height / 2], 1) / strip.scale + strip.origin
        better = found > scores
        scores[better], centres[better] = found[better], middles[better]
        views[better] = template.view
    if not np.isfinite(scores).all():
        raise LabError(f"none of {len(templates)} templates fits into a frame; use larger frames")
    return Match(scores, centres, views)


def displacement(centres: NDArray, times: NDArray) -> tuple[float, float]:
    """How far (x, y) a track goes per unit of time: the median of all pairs' slopes (Theil-Sen).

    Args:
        centres: (T, 2). times: (T,), increasing.
    """
    first, second = np.triu_indices(len(times), 1)
    slopes = (centres[second] - centres[first]) / (times[second] - times[first])[:, None]
    x, y = np.median(slopes, axis=0)
    return float(x), float(y)


def nearest_way(moved: tuple[float, float], ways: Mapping[Label, tuple[float, float]]) -> Label:
    """The label whose displacement is nearest to the one measured."""
    return min(ways, key=lambda way: float(np.hypot(*np.subtract(moved, ways[way]))))
