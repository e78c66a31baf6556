"""Subjects of a video, and which of them are those of the references: found once for all metrics.

In up to eight frames, what the object detector finds, what stands out, and the places that a
reference's own colours propose (`search`) are cut out and described as the references are
(`cutouts`). In every frame each reference is given at most one region, no two of them the same
place, so that the sum of the cosines is largest.
"""

# Axes: K sampled frames, R references, C regions of a frame, V pictures of a reference, D features,
#       Y X pixels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anyref.data.crops import Pixels, box_around, cores
from anyref.data.labels import PERSON
from anyref.data.tracks import Sighting, TrackSettings
from anyref.data.views import ViewSettings, detections, with_salient
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage
from anyref.evaluation.metrics.base import Frames, views
from anyref.evaluation.metrics.cutouts import CROPS, Wanted, describe, wanted_of
from anyref.evaluation.metrics.parts import parts_of
from anyref.evaluation.metrics.search import box_pixels, find_places, outline
from anyref.perception.contracts import Detection, Face, Mask, Picture
from anyref.perception.small import Grade

FINDING = ViewSettings(max_subjects=12)
SAME = TrackSettings().same_overlap
COVERED = 0.2  # of a detector's box that what stands out has to cover, to be taken for its mask
HEAD = 0.4  # of a face's box, added on every side: the head
MIN_PIXELS = 16  # a smaller region has no look
MAX_REGIONS = 10  # of a frame, the largest
COARSE = 128  # pixels of the shorter side at which regions are compared for it
MAX_EXACT = 4  # references whose regions are divided so that the sum is exactly the largest
SHARED = 0.5  # of the smaller of two regions that is common, from which they are one place


@dataclass(frozen=True, eq=False)
class Region:
    """Something in a frame that may be a subject.

    Args:
        pixels: (Y, X). feature: (D,), length 1. head: the same of its head, None without a face.
    """

    pixels: Pixels
    feature: NDArray[np.float32]
    head: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """What the sampled frames (K, Y, X, 3) show.

    Args:
        regions, found: per frame. hidden: all that is or may be a subject, (K, Y, X).
    """

    frames: Frames
    regions: tuple[tuple[Region, ...], ...]
    found: tuple[tuple[Detection, ...], ...]
    hidden: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Matches:
    """Which region is which reference.

    Args:
        regions: per frame those of the scene, then those that the references propose.
        wanted: R references. scores: per frame the cosines (R, C), best picture of a reference.
        given: (K, R), number of the reference's own region in a frame, -1 for none.
        anyones: the same of the R places that look most like any of the references, divided among
            them: where `given` asks what is most like a reference, this asks what took its place.
    """

    regions: tuple[tuple[Region, ...], ...]
    wanted: tuple[Wanted, ...]
    scores: tuple[NDArray[np.float32], ...]
    given: NDArray[np.int64]
    anyones: NDArray[np.int64]

    @property
    def own(self) -> NDArray[np.float64]:
        """Cosine of each reference with its own region, 0 where it has none: (K, R), 0 to 1."""
        own = np.zeros(self.given.shape)
        for k, r in zip(*np.nonzero(self.given >= 0), strict=True):
            own[k, r] = self.scores[k][r, self.given[k, r]]
        return own.clip(0, 1)

    @property
    def any_region(self) -> bool:
        """Whether any frame shows anything that could be a subject."""
        return any(self.regions)

    def region(self, frame: int, reference: int) -> Region | None:
        """The reference's own region in a frame."""
        number = int(self.given[frame, reference])
        return None if number < 0 else self.regions[frame][number]


def scene_of(footage: Footage, models: Grade) -> Scene:
    """What the video's sampled frames show, found once."""
    return footage.once("scene", lambda: look(views(footage), models))


def look(frames: Frames, models: Grade) -> Scene:
    """Find, cut out and describe what may be subjects."""
    pictures = list(frames)
    found = models.objects.detect(pictures)
    softs = models.masks.segment(pictures)
    seen = [
        with_salient(some, k, softs[k], FINDING, CROPS)
        for k, some in enumerate(detections(frames, found, FINDING, SAME))
    ]
    masks = [
        sorted(
            (part for one in some for part in _masks(one, frames[k], softs[k], models)),
            key=lambda mask: -int(mask.sum()),
        )[:MAX_REGIONS]
        for k, some in enumerate(seen)
    ]
    flat = [(k, mask) for k, some in enumerate(masks) for mask in some]
    heads = _heads(flat, models.faces.detect(pictures))
    features = describe(
        [frames[k] for k, _ in (*flat, *heads.values())],
        [mask for _, mask in (*flat, *heads.values())],
        models.picture_embedders[0],
    )
    of_heads = dict(zip(heads, features[len(flat) :], strict=True))
    regions: list[list[Region]] = [[] for _ in frames]
    for number, (k, mask) in enumerate(flat):
        regions[k].append(Region(mask, features[number], of_heads.get(number)))
    hidden = np.stack(
        [np.any([soft > 0.5, *some], axis=0) for soft, some in zip(softs, masks, strict=True)]
    )
    return Scene(frames, tuple(map(tuple, regions)), tuple(tuple(one) for one in found), hidden)


def _heads(
    regions: Sequence[tuple[int, Pixels]], faces: Sequence[Sequence[Face]]
) -> dict[int, tuple[int, Pixels]]:
    """The heads of regions (frame, mask) that have a face, the largest one, by region."""
    heads = {}
    for number, (k, mask) in enumerate(regions):
        for face in faces[k]:
            head = np.zeros_like(mask)
            head[face.box.grown(HEAD).pixels(mask)] = True
            head &= mask
            if head.sum() >= max(MIN_PIXELS, face.box.area / 2):
                heads[number] = k, head
                break
    return heads


def _masks(seen: Sighting, frame: Picture, soft: Mask, models: Grade) -> list[Pixels]:
    """The masks of a sighting: one, or two for two things that touch and stand out as one."""
    if seen.mask is not None and seen.label is None:
        rows, columns = box_around(seen.mask).pixels(seen.mask)
        several = cores(seen.mask[rows, columns]) > CROPS.max_several
        return [seen.mask, *(parts_of(seen.mask) if several else ())]
    if seen.mask is not None:
        return [seen.mask]
    inside = np.zeros(soft.shape, bool)
    inside[seen.box.pixels(soft)] = True
    mask = inside & (soft > 0.5)
    if mask.sum() < COVERED * inside.sum() and seen.label == PERSON:
        (own,) = models.people.segment([frame], [seen.box])
        mask = inside & (own > 0.5)
    if mask.sum() < COVERED * inside.sum():
        mask = inside
    return [mask] if mask.sum() >= MIN_PIXELS else []


def matches_of(case: Case, footage: Footage, models: Grade) -> Matches:
    """Which region of the video is which subject of the case, found once."""

    def make() -> Matches:
        scene, wanted = scene_of(footage, models), wanted_of(case, footage, models)
        proposed = propose(scene.frames, wanted, models)
        return match(
            [(*own, *more) for own, more in zip(scene.regions, proposed, strict=True)], wanted
        )

    return footage.once("matches", make)


def propose(
    frames: Frames, wanted: Sequence[Wanted], models: Grade
) -> tuple[tuple[Region, ...], ...]:
    """Per frame the places that look like a reference from afar: their outlines, and their boxes.

    The whole box is one region, and what in it is unlike its surroundings another one.
    """
    masks: list[tuple[int, Pixels]] = []
    for k, frame in enumerate(frames):
        for one in wanted:
            for place in find_places(frame, one.cutouts):
                inner = outline(frame, place.box)
                some = (box_pixels(frame, place.box), *(() if inner is None else (inner,)))
                masks += [(k, mask) for mask in some if mask.sum() >= MIN_PIXELS]
    features = describe(
        [frames[k] for k, _ in masks], [mask for _, mask in masks], models.picture_embedders[0]
    )
    regions: list[list[Region]] = [[] for _ in frames]
    for (k, mask), feature in zip(masks, features, strict=True):
        regions[k].append(Region(mask, feature))
    return tuple(map(tuple, regions))


def match(regions: Sequence[Sequence[Region]], wanted: tuple[Wanted, ...]) -> Matches:
    """Compare every region with every reference, and give each at most one of a frame's."""
    scores = []
    given, anyones = np.full((2, len(regions), len(wanted)), -1)
    for k, some in enumerate(regions):
        cosines = np.zeros((len(wanted), len(some)), np.float32)
        if some:
            features = np.stack([region.feature for region in some])  # (C, D)
            for r, one in enumerate(wanted):
                cosines[r] = (one.features @ features.T).max(0)
                if one.portrait:
                    cosines[r] = np.maximum(cosines[r], _likeness_of_heads(one, some))
            same = _one_place(some)
            given[k] = assign(cosines, same)
            anyones[k] = _divided(cosines, same)
        scores.append(cosines)
    return Matches(tuple(map(tuple, regions)), wanted, tuple(scores), given, anyones)


def _divided(cosines: NDArray[np.float32], same: NDArray[np.bool_]) -> list[int]:
    """R places that look most like any reference, then each given to one: columns of (R, C)."""
    alike = np.repeat(cosines.max(0)[None], len(cosines), axis=0)
    columns = sorted(column for column in assign(alike, same) if column >= 0)
    if not columns:
        return [-1] * len(cosines)
    return [columns[n] if n >= 0 else -1 for n in assign(1 + cosines[:, columns])]


def _one_place(regions: Sequence[Region]) -> NDArray[np.bool_]:
    """Which regions are the same place, (C, C): half of the smaller one is common."""
    step = max(1, min(regions[0].pixels.shape) // COARSE)
    flat = np.stack([region.pixels[::step, ::step].ravel() for region in regions])
    common = flat.astype(np.float32) @ flat.T.astype(np.float32)  # (C, C)
    areas = np.maximum(np.diagonal(common), 1)
    return np.asarray(common >= SHARED * np.minimum(areas[:, None], areas[None]))


def _likeness_of_heads(wanted: Wanted, regions: Sequence[Region]) -> NDArray[np.float32]:
    """Cosines (C,) of a portrait and the heads of regions, -1 for a region without."""
    return np.array(
        [
            -1 if region.head is None else (wanted.features @ region.head).max()
            for region in regions
        ],
        np.float32,
    )


def assign(values: NDArray[np.floating], one_place: NDArray[np.bool_] | None = None) -> list[int]:
    """For each row of (R, C) its own column or -1, so that the sum of the values is largest.

    Values of 0 and below are given to nobody. Exact for up to four rows, by dynamic programming
    over the rows and the sets of columns that are taken; beyond, the largest value goes first.

    Args:
        one_place: (C, C), which columns are not both given; each only itself when None.
    """
    exact = np.asarray(values, float)
    same = np.eye(exact.shape[1], dtype=bool) if one_place is None else one_place | one_place.T
    np.fill_diagonal(same, True)
    return _largest_first(exact, same) if len(exact) > MAX_EXACT else _best_sum(exact, same)


def _best_sum(values: NDArray[np.float64], same: NDArray[np.bool_]) -> list[int]:
    blocked = [sum(1 << int(other) for other in np.flatnonzero(row)) for row in same]
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for row in values:
        following: dict[int, tuple[float, tuple[int, ...]]] = {}
        for taken, (total, chosen) in best.items():
            for column in (-1, *np.flatnonzero(row > 0).tolist()):
                if column >= 0 and taken >> column & 1:
                    continue
                key = taken if column < 0 else taken | blocked[column]
                gained = total + (0.0 if column < 0 else float(row[column]))
                if key not in following or gained > following[key][0]:
                    following[key] = gained, (*chosen, column)
        best = following
    return list(max(best.values(), key=lambda pair: pair[0])[1])


def _largest_first(values: NDArray[np.float64], same: NDArray[np.bool_]) -> list[int]:
    left, given = values.copy(), [-1] * len(values)
    while left.size and left.max() > 0:
        row, column = divmod(int(left.argmax()), left.shape[1])
        given[row] = column
        left[row], left[:, same[column]] = 0, 0
    return given
