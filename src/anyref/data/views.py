"""Who stands out in a clip: boxes, tracks, and masks at a few good frames.

Axes: K sampled frames, Y X pixels, D features
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anyref.data.crops import (
    CropSettings,
    Measures,
    Pixels,
    box_around,
    clean,
    components,
    crop_of,
    faults,
    measure,
    sharpness,
)
from anyref.data.thresholds import Section
from anyref.data.tracks import Sighting, Track, TrackSettings, associate, distinct
from anyref.perception.contracts import (
    Box,
    Detection,
    Mask,
    Picture,
    PictureEmbedder,
    Segmenter,
)

Frames = NDArray[np.uint8]  # (K, Y, X, 3)
PERSON = "person"
SALIENT_SCORE = 0.5  # of what stands out without a name, where detectors score theirs


class ViewSettings(Section):
    """Where subjects are looked for, and how often they are cut out.

    Args:
        min_score: of a detection. min_box: its area, of the frame.
        views: frames of a clip that are segmented whole; the slowest part of the small grade.
        masks: how many more masks, by box, a clip may take.
        salient: take what stands out in those frames as a subject although no detector names it.
        min_sightings: sampled frames that a subject has to be seen in, if the clip has as many.
        max_subjects: the largest and surest of a clip.
        fast_people: cut out people with the grade's fast segmenter.
        same_mask: IoU of a detection's box with the box of a part that stands out, from which that
            part is its mask.
        max_overlap: IoU of two masks in a frame from which the smaller is dropped.
        max_inside: share of a mask inside a larger one from which it is dropped.
    """

    min_score: float = 0.6
    min_box: float = 0.008
    views: int = 4
    masks: int = 4
    salient: bool = True
    min_sightings: int = 2
    max_subjects: int = 6
    fast_people: bool = False
    same_mask: float = 0.5
    max_overlap: float = 0.6
    max_inside: float = 0.85


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A subject cut out of one sampled frame.

    Args:
        score: the detector's, None for what merely stands out.
        by_box: whether it was cut out by a box, not found as what stands out in the frame.
    """

    frame: int
    pixels: Pixels
    measures: Measures
    score: float | None
    by_box: bool = False

    @property
    def worth(self) -> float:
        """By which views of a subject are ranked: large, whole, sharp."""
        measures = self.measures
        return math.sqrt(measures.area) * (1 - measures.cut) * min(1.0, measures.sharpness / 100)


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A track and its good views, the best first."""

    track: Track
    views: tuple[View, ...]


def detections(
    frames: Frames, found: Sequence[Sequence[Detection]], settings: ViewSettings, same: float
) -> list[list[Sighting]]:
    """What a detector found, per sampled frame: sure, large enough, and each thing once."""
    pixels = frames.shape[1] * frames.shape[2]
    sightings = []
    for k, things in enumerate(found):
        good = [
            Sighting(frame=k, box=thing.box, score=thing.score, label=thing.label)
            for thing in things
            if thing.score >= settings.min_score and thing.box.area >= settings.min_box * pixels
        ]
        sightings.append(distinct(good, same))
    return sightings


def view_frames(frames: Frames, sightings: Sequence[Sequence[Sighting]], count: int) -> list[int]:
    """Up to `count` sampled frames apart in time: of each part of the clip the one that is sharp
    and shows most of what was detected."""
    pixels = frames.shape[1] * frames.shape[2]
    sharp = np.array([sharpness(frame) for frame in frames])
    shown = np.array([sum(s.score * s.box.area for s in some) / pixels for some in sightings])
    worth = sharp / max(sharp.max(), 1e-9) + 2 * shown
    parts = np.array_split(np.arange(len(frames)), min(count, len(frames)))
    return [int(part[worth[part].argmax()]) for part in parts]


def with_salient(
    seen: Sequence[Sighting],
    frame: int,
    soft: Mask,
    settings: ViewSettings,
    crops: CropSettings,
) -> list[Sighting]:
    """Detections of a frame with the masks of what stands out, and what stands out undetected.

    A part that lies inside a detection is a part of it, and one that holds several detections is
    all of them; neither is a subject of its own.
    """
    result = list(seen)
    for part in components(clean(soft, crops), crops.min_area):
        box = box_around(part)
        overlaps = [box.overlap(one.box) for one in result]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best >= 0 and overlaps[best] >= settings.same_mask and result[best].mask is None:
            result[best] = replace(result[best], mask=part, box=box)
        elif not any(_holds(one.box, box) or _holds(box, one.box) for one in result):
            result.append(Sighting(frame=frame, box=box, score=SALIENT_SCORE, mask=part))
    return result


def embedded(
    frames: Frames, sightings: Sequence[Sequence[Sighting]], embedder: PictureEmbedder
) -> list[list[Sighting]]:
    """The sightings with what their boxes look like."""
    crops = [crop_of(frames[seen.frame], seen.box) for some in sightings for seen in some]
    features = iter(embedder.embed(crops))
    return [[replace(seen, feature=next(features)) for seen in some] for some in sightings]


def chosen_tracks(
    sightings: Sequence[Sequence[Sighting]],
    diagonal: float,
    settings: ViewSettings,
    tracking: TrackSettings,
    dropped: Counter[str],
) -> list[Track]:
    """The tracks that are seen often enough, at most `max_subjects`, the heaviest first."""
    tracks = associate(sightings, diagonal, tracking)
    least = min(settings.min_sightings, len(sightings))
    lasting = [track for track in tracks if len(track.sightings) >= least]
    dropped["fleeting"] += len(tracks) - len(lasting)
    dropped["crowd"] += max(0, len(lasting) - settings.max_subjects)
    return lasting[: settings.max_subjects]


def masked(
    frames: Frames,
    tracks: Sequence[Track],
    at: Sequence[int],
    segmenters: Mapping[bool, Segmenter],
    settings: ViewSettings,
) -> dict[tuple[int, int], Mask]:
    """Masks by box where nothing that stood out was the mask, up to `masks` of them.

    Args:
        at: sampled frames. segmenters: for people (True) and for everything else.

    Returns:
        soft masks (Y, X) by number of the track and sampled frame.
    """
    wanted = [
        (number, seen)
        for k in at
        for number, track in enumerate(tracks)
        if (seen := track.at(k)) is not None and seen.mask is None
    ][: settings.masks]
    made: dict[tuple[int, int], Mask] = {}
    for people in (False, True):
        group = [(n, seen) for n, seen in wanted if _fast(seen, settings) == people]
        if group:
            pictures: list[Picture] = [frames[seen.frame] for _, seen in group]
            softs = segmenters[people].segment(pictures, [seen.box for _, seen in group])
            keys = [(number, seen.frame) for number, seen in group]
            made.update(zip(keys, softs, strict=True))
    return made


def views_of(
    frames: Frames,
    tracks: Sequence[Track],
    softs: Mapping[int, Mask],
    by_box: Mapping[tuple[int, int], Mask],
    crops: CropSettings,
    dropped: Counter[str],
) -> list[list[View]]:
    """The good views of every track.

    Args:
        softs: what stands out, by sampled frame. by_box: as `masked` gives them.
    """
    views: list[list[View]] = [[] for _ in tracks]
    for number, track in enumerate(tracks):
        for seen in track.sightings:
            soft = by_box.get((number, seen.frame))
            if seen.mask is not None:
                soft, pixels = softs[seen.frame], seen.mask
            elif soft is not None:
                pixels = clean(soft, crops)
            else:
                continue
            if not pixels.any():
                dropped["small"] += 1
                continue
            box = None if seen.mask is not None else seen.box
            measures = measure(frames[seen.frame], soft, pixels, box)
            detected = seen.label is not None
            wrong = next(faults(measures, crops, detected=detected), None)
            if wrong is not None:
                dropped[wrong] += 1
                continue
            score = None if seen.label is None else seen.score
            views[number].append(
                View(
                    frame=seen.frame,
                    pixels=pixels,
                    measures=measures,
                    score=score,
                    by_box=seen.mask is None,
                )
            )
    return views


def without_overlap(
    views: Sequence[Sequence[View]], settings: ViewSettings, dropped: Counter[str]
) -> list[list[View]]:
    """Views without those that show what a larger view of the same frame shows."""
    kept: list[list[View]] = [[] for _ in views]
    flat = sorted(
        ((number, view) for number, some in enumerate(views) for view in some),
        key=lambda pair: -pair[1].measures.area,
    )
    for number, view in flat:
        others = [other for some in kept for other in some if other.frame == view.frame]
        if any(_same(view.pixels, other.pixels, settings) for other in others):
            dropped["overlap"] += 1
        else:
            kept[number].append(view)
    return [sorted(some, key=lambda view: -view.worth) for some in kept]


def _same(small: Pixels, large: Pixels, settings: ViewSettings) -> bool:
    common = int((small & large).sum())
    union = int((small | large).sum())
    return common > settings.max_overlap * union or common > settings.max_inside * int(small.sum())


def _fast(seen: Sighting, settings: ViewSettings) -> bool:
    return settings.fast_people and seen.label == PERSON


def _holds(outer: Box, inner: Box) -> bool:
    """Whether most of a box lies in another."""
    common = Box(
        max(outer.left, inner.left),
        max(outer.top, inner.top),
        min(outer.right, inner.right),
        min(outer.bottom, inner.bottom),
    )
    return common.area > 0.7 * inner.area
