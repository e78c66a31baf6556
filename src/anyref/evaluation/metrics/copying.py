"""Copy-paste: how much of a reference comes back as it is.

The regions that look most like a reference are compared with its cut-out at the region's size, a
little smaller and larger, and mirrored, wherever it fits best. What is compared is fine structure:
both without what a Gaussian of a sixth of the subject's side leaves of them, inside the subject.
"""

# Axes: K sampled frames, y x pixels of a window in which a region's longer side is SIDE

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.data.crops import Pixels, box_around
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, MetricSpec, Outcome, Score, Skipped
from anyref.evaluation.metrics.background import BackgroundMetric, scenery_cosines
from anyref.evaluation.metrics.base import Frames, views
from anyref.evaluation.metrics.cutouts import Cutout
from anyref.evaluation.metrics.sightings import Matches, matches_of
from anyref.evaluation.metrics.subject import NO_SUBJECTS, NOTHING
from anyref.perception.contracts import Box, Picture
from anyref.perception.runtimes import opencv

Floats = NDArray[np.float32]

SIDE = 48  # pixels of a region's longer side
SCALES = (0.8, 0.87, 0.94, 1.0, 1.07, 1.15, 1.24)  # of the cut-out's longer side to the region's
MARGIN = 0.3  # of the region's box, looked at around it
FINE = SIDE / 6  # deviation of the Gaussian that is taken away
FLOOR = 3.0  # levels of noise; fine structure below it says nothing
CHANCE = 0.5  # correlation, and IoU of outlines, that the best fit of unlike subjects may reach
NEAREST = 4  # regions of a frame that are compared with a reference
MIN_INNER = 0.25  # of a mask that is left without its outline, or the outline counts as well


@dataclass(frozen=True)
class Copy:
    """How alike a region and a cut-out are, 0 by chance to 1 the same."""

    pixels: float
    pose: float


class CopyPaste(BackgroundMetric):
    """Mean of three shares of each reference that reappear: its pixels, its pose, its background.

        pixels      (correlation of fine structure - 0.5) / 0.5, 0 where negative
        pose        (IoU of the outlines where pixels fit best - 0.5) / 0.5, 0 where negative
        background  cosine of the places without subjects; only for a picture that shows one

    Pixels and pose are those of the region whose pixels fit best, averaged over sampled frames; a
    frame without regions counts 0. The value is the mean over references. (All ours.) A subject
    that is drawn the same in every picture of it cannot do other than score high.
    """

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return MetricSpec(
            name="copy_paste",
            about="How much of a reference's pixels, pose and background reappears as it is.",
            direction="lower",
            low=0,
            high=1,
            needs=frozenset({"video", "references"}),
            grade=self.grade,
            version=2,
        )

    def suits(self, case: Case) -> Skipped | None:
        """Cases with an object or a human suit."""
        return None if {*case.kinds} - {"background"} else NO_SUBJECTS

    def score(self, case: Case, footage: Footage) -> Outcome:
        """The value, and the shares of each reference."""
        frames = views(footage)
        matches = matches_of(case, footage, self.models)
        if not matches.any_region:
            return NOTHING
        alike = scenery_cosines(case, footage, self.models, self.places(footage))
        details = {}
        values = []
        for r, one in enumerate(matches.wanted):
            shares = _shares(frames, matches, r)
            if one.place in alike:
                shares["background"] = alike[one.place]
            values.append(float(np.mean(list(shares.values()))))
            rounded = {name: round(share, 6) for name, share in shares.items()}
            details[f"{one.place + 1} {one.name}"] = rounded
        return Score(float(np.mean(values)), details)


def _shares(frames: Frames, matches: Matches, r: int) -> dict[str, float]:
    """Pixels and pose of a reference, means over the frames."""
    cutouts = matches.wanted[r].cutouts
    found = [
        [
            copy_of(frame, regions[column].pixels, cutout)
            for column in np.argsort(-scores[r], kind="stable")[:NEAREST]
            for cutout in cutouts
        ]
        for frame, regions, scores in zip(frames, matches.regions, matches.scores, strict=True)
    ]
    best = [max(some, key=lambda copy: copy.pixels, default=Copy(0, 0)) for some in found]
    return {
        "pixels": float(np.mean([copy.pixels for copy in best])),
        "pose": float(np.mean([copy.pose for copy in best])),
    }


def copy_of(frame: Picture, region: Pixels, cutout: Cutout) -> Copy:
    """How much of a cut-out the region of a frame repeats, at the best place, size and side."""
    box = box_around(region)
    scale = SIDE / max(box.width, box.height)
    best = Copy(0, 0)
    with opencv(1) as cv2:
        window, outline = _window(cv2, frame, region, box, scale)
        fine = _fine(cv2, window, outline)
        for template, mask in _templates(cv2, cutout):
            if any(a > b for a, b in zip(mask.shape, outline.shape, strict=True)):
                continue
            found, (x, y) = _correlate(cv2, fine, _fine(cv2, template, mask), _inside(cv2, mask))
            if over_chance(found) > best.pixels:
                place = outline[y : y + mask.shape[0], x : x + mask.shape[1]]
                union = outline.sum() + mask.sum() - np.minimum(place, mask).sum()
                overlap = float(np.minimum(place, mask).sum() / max(union, 1))
                best = Copy(over_chance(found), over_chance(overlap))
    return best


def over_chance(value: float) -> float:
    """What of 0 to 1 a correlation or an overlap is over that of unlike subjects."""
    return min(1.0, max(0.0, (value - CHANCE) / (1 - CHANCE)))


def _window(
    cv2: Any, frame: Picture, region: Pixels, box: Box, scale: float
) -> tuple[Floats, Floats]:
    """The region's surroundings (y, x, 3) and the region (y, x) there, edges repeated."""
    margin = int(np.ceil(MARGIN * max(box.width, box.height)))
    left, top = int(box.left), int(box.top)
    rows, columns = (
        slice(top, int(box.bottom) + 2 * margin),
        slice(left, int(box.right) + 2 * margin),
    )
    wide = [(margin, margin)] * 2
    size = (
        round((box.width + 2 * margin) * scale),
        round((box.height + 2 * margin) * scale),
    )
    picture = np.pad(frame, [*wide, (0, 0)], mode="edge")[rows, columns].astype(np.float32)
    inside = np.pad(region, wide)[rows, columns].astype(np.float32)
    return (
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA),
        cv2.resize(inside, size, interpolation=cv2.INTER_AREA),
    )


def _templates(cv2: Any, cutout: Cutout) -> Iterator[tuple[Floats, Floats]]:
    """The cut-out (y, x, 3) and its mask (y, x) at several sizes, as it is and mirrored."""
    rows, columns = box_around(cutout.pixels).pixels(cutout.pixels)
    picture = cutout.picture[rows, columns].astype(np.float32)
    mask = cutout.pixels[rows, columns].astype(np.float32)
    for scale in SCALES:
        factor = scale * SIDE / max(mask.shape)
        size = tuple(max(1, round(factor * side)) for side in mask.shape[::-1])
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        inside = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
        yield small, inside
        yield small[:, ::-1].copy(), inside[:, ::-1].copy()


def _fine(cv2: Any, picture: Floats, mask: Floats) -> Floats:
    """A picture (y, x, 3) without its coarse structure, 0 outside the mask."""
    weight = cv2.GaussianBlur(mask, (0, 0), FINE) + 1e-6
    coarse = cv2.GaussianBlur(picture * mask[..., None], (0, 0), FINE) / weight[..., None]
    return np.asarray((picture - coarse) * _inside(cv2, mask)[..., None], np.float32)


def _inside(cv2: Any, mask: Floats) -> Floats:
    """The mask (y, x), 0 or 1, without its outline unless it is little more than that."""
    solid = np.pad((mask > 0.5).astype(np.uint8), 1)
    worn = cv2.erode(solid, np.ones((5, 5), np.uint8))[1:-1, 1:-1]
    inner = worn if worn.sum() >= MIN_INNER * solid.sum() else solid[1:-1, 1:-1]
    return np.asarray(inner, np.float32)


def _correlate(
    cv2: Any, window: Floats, template: Floats, inside: Floats
) -> tuple[float, tuple[int, int]]:
    """The largest correlation of a template in a window, and its place x, y."""
    weight = float(inside.sum())
    if weight < SIDE:
        return 0.0, (0, 0)
    masked = template * inside[..., None]
    common = cv2.matchTemplate(window, masked, cv2.TM_CCORR)  # (y, x)
    squares = cv2.matchTemplate((window**2).sum(-1), inside, cv2.TM_CCORR)
    noise = 3 * FLOOR**2 * weight
    energy = float((masked**2).sum())
    values = common / np.sqrt((np.maximum(squares, 0) + noise) * (energy + noise))
    _, largest, _, (x, y) = cv2.minMaxLoc(values)
    return float(largest), (int(x), int(y))
