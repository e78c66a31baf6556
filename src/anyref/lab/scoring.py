"""What a video of the cutout world shows, measured against the clip that it was asked to be.

Every measure is of pixels against pictures (`matching`), so that it holds for any model:

    identity        every place (the whole frame for one subject, else a subject's lane) is matched
                    with the clip's 20 candidates: its subjects and others of the split. A candidate
                    is its still picture and, when it has an animation, six poses of the cycle. The
                    best mean score over five frames is what is found there.
    direction       the track of the asked or the found subject, whichever matches better, over nine
                    frames, fitted by the median of slopes; the nearest of the ways that exist (five
                    for one subject, three in lanes).
    change          the same from the centre of what changes between frames: knows no subject.
    background      correlation with the true scene away from the subjects, all pixels and channels
                    as one vector, both blurred by 1/48 of the side, so that the crop, which the
                    reference does not show exactly, counts little; None on plain backgrounds.
    pose            animated subjects: the share of frames whose best pose of the whole cycle looks
                    like the reference's own pose (correlation of at least 0.98 with it). A video
                    that copies the pose gets about 0.8, the true clips hardly more than chance.
"""

# Axes: T frames, Y X pixels

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.errors import LabError
from anyref.lab.captions import Motion
from anyref.lab.catalog import Catalog, Split, Subject
from anyref.lab.matching import (
    Match,
    Template,
    best_match,
    displacement,
    make_strip,
    make_templates,
    nearest_way,
)
from anyref.lab.pictures import Pictures, animation, joint_extent, still
from anyref.lab.world import LANE_MOTIONS, Actor, Clip, World, trajectory
from anyref.request import Reference

CANDIDATES = 20
CYCLE_POSES = 6
IDENTITY_FRAMES = 5
TRACK_FRAMES = 9
SAME_POSE = 0.98
POSE_SIDE_PX = 32
POSE_SCALES = (1.0, 1.1)
CHANGE_FLOOR = 2.0  # grey levels, beside three times the median change

Frames = NDArray[np.uint8]  # (T, Y, X, 3)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Measures of one video; rates are shares of its subjects, from 0 to 1.

    Args:
        found: key of what was found in each subject's place.
        both: every subject right in its place. swapped: every subject found, not all in place.
        merged: fewer different subjects found than asked for. All None for one subject but both.
        pose_chance: share of the cycle that looks like the reference's pose.
    """

    found: tuple[str, ...]
    identity: float
    both: float
    swapped: float | None
    merged: float | None
    direction: float
    change: float
    background: float | None
    pose: float | None
    pose_chance: float | None


@dataclass(frozen=True)
class Examiner:
    """Measures videos of one world.

    Args:
        split: where distractors are drawn from.
    """

    catalog: Catalog
    split: Split
    world: World

    @cached_property
    def _subjects(self) -> dict[str, Subject]:
        return {subject.key: subject for subject in self.catalog.subjects(self.split)}

    @cached_property
    def _cache(self) -> dict[tuple[str, bool], tuple[Template, ...]]:
        return {}

    def draw_candidates(self, rng: random.Random, clip: Clip) -> tuple[str, ...]:
        """Keys of the clip's subjects and of others until there are 20, all of other identities.

        Raises:
            LabError: when the split has too few identities.
        """
        keys = [actor.key for actor in clip.actors]
        used = {self._subjects[key].identity for key in keys}
        others = list(self._subjects.values())
        rng.shuffle(others)
        for subject in others:
            if len(keys) == CANDIDATES:
                break
            if subject.identity not in used:
                used.add(subject.identity)
                keys.append(subject.key)
        if len(keys) < CANDIDATES:
            raise LabError(
                f"the {self.split} split has {len(used)} identities, {CANDIDATES} are compared; "
                "choose another split"
            )
        return tuple(keys)

    def score(self, frames: Frames, clip: Clip, candidates: Sequence[str]) -> Scores:
        """Measure a video against a clip, which need not be the one it was made for.

        Args:
            frames: (T, Y, X, 3), shaped as the clip's.
            candidates: keys, the clip's own subjects among them.
        """
        if frames.shape != clip.frames.shape:
            raise LabError(
                f"a video is {frames.shape}, its clip {clip.frames.shape}; use one size for both"
            )
        places = [self._place(frames, clip, lane, candidates) for lane in range(len(clip.actors))]
        found = tuple(place[0] for place in places)
        asked = tuple(actor.key for actor in clip.actors)
        right = [f == a for f, a in zip(found, asked, strict=True)]
        several = len(asked) > 1
        poses = [self._pose(frames, clip, lane) for lane in range(len(asked))]
        known = [pose for pose in poses if pose is not None]
        return Scores(
            found=found,
            identity=float(np.mean(right)),
            both=float(all(right)),
            swapped=float(set(found) == set(asked) and not all(right)) if several else None,
            merged=float(len(set(found)) < len(asked)) if several else None,
            direction=float(np.mean([place[1] for place in places])),
            change=float(np.mean([place[2] for place in places])),
            background=background_similarity(frames, clip),
            pose=float(np.mean([pose[0] for pose in known])) if known else None,
            pose_chance=float(np.mean([pose[1] for pose in known])) if known else None,
        )

    def _place(
        self, frames: Frames, clip: Clip, lane: int, candidates: Sequence[str]
    ) -> tuple[str, bool, bool]:
        """What is found in one place, and whether its track and the change go the asked way."""
        rows, box = self._rows(clip, lane), self.world.box
        strip = make_strip(frames[_spread(len(frames), IDENTITY_FRAMES)], box, rows)
        scores = {key: best_match(strip, self._templates(key)).score for key in candidates}
        found = max(candidates, key=lambda key: scores[key])
        times = _spread(len(frames), TRACK_FRAMES)
        strip = make_strip(frames[times], box, rows)
        tracks = [best_match(strip, self._templates(key)) for key in {found, clip.actors[lane].key}]
        track = max(tracks, key=lambda match: match.score)
        ways = self._ways(clip, lane)
        moved = displacement(track.centres, times / (len(frames) - 1))
        changed = change_displacement(frames, rows)
        motion = clip.actors[lane].motion
        return found, nearest_way(moved, ways) is motion, nearest_way(changed, ways) is motion

    def _rows(self, clip: Clip, lane: int) -> tuple[float, float] | None:
        box = self.world.box
        return (lane * box, (lane + 1) * box) if len(clip.actors) > 1 else None

    def _ways(self, clip: Clip, lane: int) -> dict[Motion, tuple[float, float]]:
        several = len(clip.actors) > 1
        ways = {}
        for motion in LANE_MOTIONS if several else tuple(Motion):
            corners = trajectory(motion, self.world, lane if several else None)
            x, y = corners[-1] - corners[0]
            ways[motion] = (float(x), float(y))
        return ways

    def _templates(self, key: str) -> tuple[Template, ...]:
        if (key, False) not in self._cache:
            subject = self._subjects[key]
            views = [still(subject, self.world.size, self.catalog.cache)]
            if subject.animation is not None:
                cycle = self._cycle(key)
                picks = np.linspace(0, len(cycle), CYCLE_POSES, endpoint=False).astype(int)
                views += [cycle[i] for i in picks]
            self._cache[key, False] = make_templates(views)
        return self._cache[key, False]

    def _cycle(self, key: str) -> Pictures:
        return animation(self._subjects[key], self.world.size, self.catalog.cache)

    def _pose(self, frames: Frames, clip: Clip, lane: int) -> tuple[float, float] | None:
        """Share of frames in the reference's pose, and that of the cycle; None for stills."""
        actor = clip.actors[lane]
        if self._subjects[actor.key].animation is None or not is_moving(clip, actor):
            return None
        cycle = self._cycle(actor.key)
        alike = poses_like(clip.references[lane], cycle)
        if (actor.key, True) not in self._cache:
            self._cache[actor.key, True] = make_templates(cycle, POSE_SCALES)
        strip = make_strip(
            frames[_spread(len(frames), IDENTITY_FRAMES)], self.world.box, self._rows(clip, lane)
        )
        match: Match = best_match(strip, self._cache[actor.key, True])
        return float(alike[match.views].mean()), float(alike.mean())


def _spread(num_frames: int, count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, num_frames - 1, count).round().astype(np.int64))


def is_moving(clip: Clip, actor: Actor) -> bool:
    """Whether the actor was drawn from an animation: its inside changes from frame to frame."""
    looks, inside = [], None
    for frame, mask, box in zip(clip.frames, actor.masks, actor.boxes.astype(int), strict=True):
        x0, y0, x1, y1 = box
        whole = cv2.erode(mask[y0:y1, x0:x1].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        inside = whole if inside is None else inside & whole
        looks.append(frame[y0:y1, x0:x1].astype(np.int64))
    return bool((np.ptp(np.stack(looks), axis=0)[inside] > 8).any())


def poses_like(reference: Reference, cycle: Pictures) -> NDArray[np.bool_]:
    """Which poses of a cycle look like the one that the reference picture shows: (poses,)."""
    picture = reference.images[0]
    assert isinstance(picture, Image.Image)  # composed, not read
    shown = _standard(picture)
    poses = np.stack([_standard(pose) for pose in cycle])  # (poses, values)
    nearest = poses[int(np.argmax(poses @ shown))]
    return np.asarray(poses @ nearest >= SAME_POSE)


def _standard(picture: Image.Image) -> NDArray[np.float32]:
    """The visible part at one size, premultiplied, as a vector of mean 0 and length 1."""
    cut = picture.crop(joint_extent((picture,))).resize((POSE_SIDE_PX, POSE_SIDE_PX))
    pixels = np.asarray(cut, np.float32) / 255
    pixels[..., :3] *= pixels[..., 3:]
    vector = pixels.ravel() - pixels.mean()
    return vector / np.linalg.norm(vector)


def change_displacement(
    frames: Frames, rows: tuple[float, float] | None = None
) -> tuple[float, float]:
    """How far (x, y) the centre of what changes between frames goes over the video, in pixels."""
    lane = slice(None) if rows is None else slice(round(rows[0]), round(rows[1]))
    soft = [cv2.GaussianBlur(frame[lane].astype(np.float32), (0, 0), 1.5) for frame in frames]
    change = np.abs(np.diff(np.stack(soft), axis=0)).mean(-1)  # (T - 1, Y, X)
    change = np.maximum(change - 3 * np.median(change) - CHANGE_FLOOR, 0)
    moments = [cv2.moments(picture) for picture in change]
    known = [i for i, m in enumerate(moments) if m["m00"] > 0]
    if len(known) < 2:
        return 0.0, 0.0
    centres = np.array(
        [(m["m10"] / m["m00"], m["m01"] / m["m00"]) for m in (moments[i] for i in known)]
    )
    return displacement(centres, np.array(known) / (len(frames) - 1))


def background_similarity(frames: Frames, clip: Clip) -> float | None:
    """Mean correlation with the clip's scene where no subject of the clip is."""
    if clip.background is None:
        return None
    size = clip.frames.shape[2]
    grow = np.ones((2 * (size // 24) + 1,) * 2, np.uint8)
    correlations = []
    for i in _spread(len(frames), IDENTITY_FRAMES):
        covered = np.any([actor.masks[i] for actor in clip.actors], axis=0).astype(np.uint8)
        free = cv2.dilate(covered, grow) == 0
        if free.any():
            made, true = (_blurred(video[i])[free].ravel() for video in (frames, clip.frames))
            correlations.append(_correlation(made, true))
    return float(np.mean(correlations)) if correlations else None


def _blurred(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(frame.astype(np.float32), (0, 0), frame.shape[1] / 48))


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    one, other = one - one.mean(), other - other.mean()
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths > 1e-3 else 0.0
