"""Views whose masks stand two tests: nothing of the subject is left out, and a second look agrees.

A segmenter is as sure of a mask without the ears as of one with them. What it left out is told by
what moves (`anyref.data.coverage`), and what it only happened to see by showing it the frame at
another scale: a mask that changes then is of several things, or of half of one.

Axes: K sampled frames, Y X pixels
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from anyref.data.coverage import Behind, Carrier, Frames, Pixels, behind, uncovered
from anyref.data.crops import box_around, widened
from anyref.data.thresholds import Section
from anyref.data.views import View
from anyref.perception.contracts import Box, Mask, Picture, Segmenter
from anyref.perception.runtimes import opencv

BORDER = 1 / 3  # of the frame's sides, laid around it: it looks smaller then
SMALL = 0.03  # of the frame: a smaller subject looks larger instead
GROWN = 1.0  # of its box, shown around it then
WIDER = 0.4  # of the box of what was cut out by a box, shown around it
SIDES, ABOVE, UPPER = 0.1, 0.35, 0.5  # of a mask's box: around its upper part, and how much of it
EDGE, NEAR = 0.004, 0.03  # frame diagonals: an outline may move this far; what is near a mask

Views = Sequence[Sequence[View]]
SoundnessFault = Literal["uncovered", "disagreement", "unchecked", "unstable"]


class SoundnessSettings(Section):
    """How masks are tested.

    Args:
        max_uncovered: what moves with the mask's colours beside it, in areas of the mask.
        max_disagreement: what the mask of another view of the subject has more, carried over by
            optical flow, in areas of the mask.
        known_motion: whether views of a clip are dropped whose camera's motion cannot be told, so
            that nothing is known of what its masks leave out.
        max_added: what a closer look at its upper part, where ears and hats are, adds to the mask,
            in areas of it.
        max_unstable: what a look from afar adds to the mask or takes from it, in areas of it.
        looks: whether the segmenter looks again at all: up to two more runs of it for each mask
            that stands the other tests.
    """

    max_uncovered: float = Field(default=0.003, ge=0)
    max_disagreement: float = Field(default=0.005, ge=0)
    known_motion: bool = True
    max_added: float = Field(default=0.003, ge=0)
    max_unstable: float = Field(default=0.08, ge=0)
    looks: bool = True


def covered(
    frames: Frames, views: Views, settings: SoundnessSettings, dropped: Counter[str]
) -> list[list[View]]:
    """The views that leave nothing out that is seen to move.

    A subject loses all its views when most of them leave something out.

    Args:
        views: by subject.
    """
    masks = _masks(views, frames.shape[1:3])
    seen = {k: behind(frames, k, masks) for k in sorted(masks)}
    carrier = Carrier(frames)
    kept: list[list[View]] = []
    for some in views:
        found = [_fault(view, some, seen, masks, carrier, settings) for view in some]
        if 2 * found.count("uncovered") > len(some):
            found = ["uncovered"] * len(some)
        dropped.update(fault for fault in found if fault is not None)
        kept.append([view for view, fault in zip(some, found, strict=True) if fault is None])
    return kept


def _fault(
    view: View,
    views: Sequence[View],
    seen: Mapping[int, Behind | None],
    masks: Mapping[int, Pixels],
    carrier: Carrier,
    settings: SoundnessSettings,
) -> SoundnessFault | None:
    """What is wrong with one of a subject's views; None for nothing."""
    known = seen[view.frame]
    if known is None:
        return "unchecked" if settings.known_motion else None
    if uncovered(known, view.pixels, masks[view.frame] & ~view.pixels) > settings.max_uncovered:
        return "uncovered"
    mine = (view.frame, view.pixels)
    others = [(other.frame, other.pixels) for other in views if other.frame != view.frame]
    if any(carrier.left_out(mine, other) > settings.max_disagreement for other in others):
        return "disagreement"
    return None


def stable(
    frames: Frames,
    views: Views,
    softs: Mapping[int, Mask],
    segmenter: Segmenter,
    settings: SoundnessSettings,
    dropped: Counter[str],
) -> list[list[View]]:
    """The views that looks at other scales cut out again.

    What was cut out by a box is cut out by a larger one.

    Args:
        views: by subject. softs: the first look, by sampled frame.
    """
    if not settings.looks:
        return [list(some) for some in views]
    masks = _masks(views, frames.shape[1:3])
    again = _Again(frames, segmenter)
    kept = []
    for some in views:
        good = []
        for view in some:
            taken = masks[view.frame] & ~view.pixels
            if not view.by_box:
                taken |= (softs[view.frame] > 0.5) & ~view.pixels
            if again.differs(view, taken, settings):
                dropped["unstable"] += 1
                continue
            good.append(view)
        kept.append(good)
    return kept


class _Again:
    """Second looks at the frames of a clip; the whole frame is looked at once."""

    def __init__(self, frames: Frames, segmenter: Segmenter) -> None:
        self._frames, self._segmenter = frames, segmenter
        self._whole: dict[int, Mask] = {}

    def differs(self, view: View, taken: Pixels, settings: SoundnessSettings) -> bool:
        """Whether a look from near adds something, or one from afar changes the mask.

        Args:
            taken: what the first look gave to something else.
        """
        if not view.by_box and _added(view.pixels, self.closer(view), taken) > settings.max_added:
            return True
        return _change(view.pixels, self.look(view), taken) > settings.max_unstable

    def look(self, view: View) -> Mask:
        """What stands out around a view, soft (Y, X)."""
        frame = self._frames[view.frame]
        if view.by_box:
            rows, columns = box_around(view.pixels).grown(WIDER).pixels(frame)
            box = Box(columns.start, rows.start, columns.stop, rows.stop)
            return self._segmenter.segment([frame], [box])[0]
        if view.measures.area < SMALL:
            return self._part(frame, box_around(view.pixels).grown(GROWN))
        if view.frame not in self._whole:
            self._whole[view.frame] = self._from_afar(frame)
        return self._whole[view.frame]

    def closer(self, view: View) -> Mask:
        """What stands out around a view's upper part, soft (Y, X)."""
        box = box_around(view.pixels)
        part = Box(
            box.left - SIDES * box.width,
            box.top - ABOVE * box.height,
            box.right + SIDES * box.width,
            box.top + UPPER * box.height,
        )
        return self._part(self._frames[view.frame], part)

    def _from_afar(self, frame: Picture) -> Mask:
        height, width = frame.shape[:2]
        y, x = round(BORDER * height), round(BORDER * width)
        with opencv(1) as cv2:
            wide = cv2.copyMakeBorder(frame, y, y, x, x, cv2.BORDER_REPLICATE)
        (soft,) = self._segmenter.segment([wide])
        return soft[y : y + height, x : x + width]

    def _part(self, frame: Picture, box: Box) -> Mask:
        rows, columns = box.pixels(frame)
        (part,) = self._segmenter.segment([np.ascontiguousarray(frame[rows, columns])])
        soft = np.zeros(frame.shape[:2], np.float32)
        soft[rows, columns] = part
        return soft


def _added(pixels: Pixels, again: Mask, taken: Pixels) -> float:
    """What another look adds beside the mask and on it, off its outline, in its areas."""
    near = widened(pixels, EDGE)
    parts = near | ((again > 0.5) & ~taken)
    with opencv(1) as cv2:
        _, labels = cv2.connectedComponents(parts.astype(np.uint8))
    hangs = np.isin(labels, np.unique(labels[pixels])) & ~near
    return float(hangs.sum() / max(1, pixels.sum()))


def _change(pixels: Pixels, again: Mask, taken: Pixels) -> float:
    """What a second look adds near the mask and takes from it, off its outline, in its areas.

    Args:
        taken: what the first look gave to something else.
    """
    second = again > 0.5
    inner = ~widened(~pixels, EDGE)
    outer = widened(pixels, NEAR) & ~widened(pixels, EDGE) & ~taken
    change = (inner & ~second).sum() + (outer & second).sum()
    return float(change / max(1, pixels.sum()))


def _masks(views: Views, size: tuple[int, int]) -> dict[int, Pixels]:
    """All subjects of each sampled frame."""
    masks: dict[int, Pixels] = {}
    for some in views:
        for view in some:
            masks[view.frame] = masks.get(view.frame, np.zeros(size, bool)) | view.pixels
    return masks
