"""Views whose masks stand two tests: nothing of the subject is left out, and a second look agrees.

A segmenter is as sure of a mask without the ears as of one with them. What it left out is told by
what moves (`anyref.data.coverage`), and what it only happened to see by showing it the frame at
another scale: a mask that changes then is of several things, or of half of one.

Axes: K sampled frames, Y X pixels
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from anyref.data.coverage import Frames, Pixels, behind, uncovered
from anyref.data.crops import box_around, widened
from anyref.data.thresholds import Section
from anyref.data.views import View
from anyref.perception.contracts import Mask, Picture, Segmenter
from anyref.perception.runtimes import opencv

BORDER = 1 / 3  # of the frame's sides, laid around it: it looks smaller then
SMALL, GROWN = (
    0.03,
    1.0,
)  # of the frame: less is shown larger instead, with this much of its box around
EDGE, NEAR = 0.004, 0.03  # frame diagonals: an outline may move this far; what is near a mask

Views = Sequence[Sequence[View]]


class SoundnessSettings(Section):
    """How masks are tested.

    Args:
        max_uncovered: what moves with the mask's colours beside it, in areas of the mask.
        known_motion: whether views of a clip are dropped whose camera's motion cannot be told, so
            that nothing is known of what its masks leave out.
        max_unstable: what the second look adds to the mask or takes from it, in areas of it. 1 for
            no second look, which is half of the models' work for a clip.
    """

    max_uncovered: float = Field(default=0.006, ge=0)
    known_motion: bool = True
    max_unstable: float = Field(default=0.1, ge=0, le=1)


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
    kept: list[list[View]] = []
    for some in views:
        good = []
        wrong = 0
        for view in some:
            known = seen[view.frame]
            others = masks[view.frame] & ~view.pixels
            if known is None and settings.known_motion:
                dropped["unchecked"] += 1
            elif known and uncovered(known, view.pixels, others) > settings.max_uncovered:
                dropped["uncovered"] += 1
                wrong += 1
            else:
                good.append(view)
        if 2 * wrong > len(some):
            dropped["uncovered"] += len(good)
            good = []
        kept.append(good)
    return kept


def stable(
    frames: Frames,
    views: Views,
    softs: Mapping[int, Mask],
    segmenter: Segmenter,
    settings: SoundnessSettings,
    dropped: Counter[str],
) -> list[list[View]]:
    """The views that a second look at another scale cuts out again.

    Those that were cut out by a box are kept: a box is looked at in one scale always.

    Args:
        views: by subject. softs: the first look, by sampled frame.
    """
    if settings.max_unstable >= 1:
        return [list(some) for some in views]
    masks = _masks(views, frames.shape[1:3])
    again = _Again(frames, segmenter)
    kept = []
    for some in views:
        good = []
        for view in some:
            if not view.by_box:
                taken = masks[view.frame] | (softs[view.frame] > 0.5)
                change = _change(view.pixels, again.look(view), taken & ~view.pixels)
                if change > settings.max_unstable:
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

    def look(self, view: View) -> Mask:
        """What stands out around a view, soft (Y, X)."""
        frame = self._frames[view.frame]
        if view.measures.area < SMALL:
            return self._nearer(frame, view)
        if view.frame not in self._whole:
            self._whole[view.frame] = self._from_afar(frame)
        return self._whole[view.frame]

    def _from_afar(self, frame: Picture) -> Mask:
        height, width = frame.shape[:2]
        y, x = round(BORDER * height), round(BORDER * width)
        with opencv(1) as cv2:
            wide = cv2.copyMakeBorder(frame, y, y, x, x, cv2.BORDER_REPLICATE)
        (soft,) = self._segmenter.segment([wide])
        return soft[y : y + height, x : x + width]

    def _nearer(self, frame: Picture, view: View) -> Mask:
        rows, columns = box_around(view.pixels).grown(GROWN).pixels(view.pixels)
        (part,) = self._segmenter.segment([np.ascontiguousarray(frame[rows, columns])])
        soft = np.zeros(frame.shape[:2], np.float32)
        soft[rows, columns] = part
        return soft


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
