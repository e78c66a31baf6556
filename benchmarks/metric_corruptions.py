"""Known corruptions of clips, and which metrics should see them.

All are called alike: with the clip, the other clips, and the models.
"""

# ruff: noqa: ARG001

# Axes: T frames, Y X pixels

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from metric_clips import Clip, Frames
from PIL import Image

from anyref.data.crops import widened, without
from anyref.evaluation.metrics.cutouts import cut_references
from anyref.evaluation.metrics.text import known_words, things_in
from anyref.media import open_picture
from anyref.perception.small import Grade

MOTION, LOOK, SCENE = "motion", "look of frames", "metrics of models"
FACES = ("face_similarity", "face_similarity_second")


@dataclass(frozen=True)
class Corruption:
    """What is done to a clip.

    Args:
        sees: metrics that claim to see it, and have to give a worse score.
        claimed_on: sources of clips on which they claim it; docs/metrics.md says why not on others.
        subjects: clips with so many subjects; 0 for any. scope: which metrics are run.
        moves: only clips in which something moves. base: done to the clip first, not a fault.
    """

    name: str
    about: str
    change: Callable[[Clip, Sequence[Clip], Grade], Clip | None]
    sees: tuple[str, ...]
    subjects: int = 0
    claimed_on: tuple[str, ...] = ("real", "lab")
    scope: str = SCENE
    moves: bool = False
    base: Callable[[Clip, Sequence[Clip], Grade], Clip | None] | None = None

    def claims(self, metric: str, source: str) -> bool:
        """Whether a metric claims to see it in clips of a source: "real", "lab" or "photo"."""
        return metric in self.sees and source in self.claimed_on


def other_references(clip: Clip, clips: Sequence[Clip], models: Grade) -> Clip | None:
    """The references of the next clip of its source with other subjects."""
    other = other_clip(clip, clips)
    if other is None:
        return None
    return replace(clip, references=other.references, identities=other.identities)


def other_caption(clip: Clip, clips: Sequence[Clip], models: Grade) -> Clip | None:
    """The words of the next clip of its source that names other things."""
    words = known_words(models)
    own = {*things_in(clip.prompt, words)}
    begin = [c.name for c in clips].index(clip.name)
    for other in (*clips[begin + 1 :], *clips[:begin]):
        things = {*things_in(other.prompt, words)} if other.source == clip.source else set()
        if things and not own & things:
            return replace(clip, prompt=other.prompt)
    return None


def other_clip(clip: Clip, clips: Sequence[Clip]) -> Clip | None:
    """The next clip of the same source and kinds of references that shows nobody of this one."""
    kinds = [r.kind for r in clip.references]
    begin = [c.name for c in clips].index(clip.name)
    for other in (*clips[begin + 1 :], *clips[:begin]):
        alike = other.source == clip.source and [r.kind for r in other.references] == kinds
        if alike and not {*other.identities} & {*clip.identities}:
            return other
    return None


def other_place(clip: Clip, clips: Sequence[Clip], models: Grade) -> Clip | None:
    """The subjects, by their masks, before the place of another clip."""
    other = elsewhere(clip, clips)
    if other is None:
        return None
    place = _fit(_empty(other, models), clip.frames.shape[1:3])
    return replace(clip, frames=_before_place(clip, place, models))


def elsewhere(clip: Clip, clips: Sequence[Clip]) -> Clip | None:
    """The next clip of one subject, of the same source, that is in another place."""
    begin = [c.name for c in clips].index(clip.name)
    for other in (*clips[begin + 1 :], *clips[:begin]):
        one = other.source == clip.source and len(other.identities) == 1
        if one and other.place != clip.place:
            return other
    return None


def from_elsewhere(clip: Clip, clips: Sequence[Clip], models: Grade) -> Clip | None:
    """The references of a clip in another place, so that this one owes them nothing."""
    other = elsewhere(clip, clips)
    return None if other is None else replace(clip, references=other.references)


def place_of_reference(clip: Clip, clips: Sequence[Clip], models: Grade) -> Clip | None:
    """The place of the subject's reference picture behind the subjects."""
    picture = np.asarray(open_picture(clip.references[0].images[0]))[..., :3]
    (mask,) = models.masks.segment([picture])
    place = _fit(_painted(picture, mask), clip.frames.shape[1:3])
    return replace(clip, frames=_before_place(clip, place, models))


def pasted(clip: Clip, clips: Sequence[Clip], models: Grade) -> Clip | None:
    """The reference's cut-out, as it is, where the subject was, on its painted-over place."""
    cutout = cut_references(clip.case, models)[0].cutouts[0]
    masks = [mask > 0.5 for mask in models.masks.segment(list(clip.frames))]
    frames = []
    for frame, mask in zip(clip.frames, masks, strict=True):
        ground = _painted(frame, mask.astype(np.float32))
        frames.append(_put(ground, cutout.picture, cutout.pixels, masks[0]))
    return replace(clip, frames=np.stack(frames))


def held_still(clip: Clip, clips: Sequence[Clip], models: Grade) -> Clip:
    """The whole reference picture as the video."""
    frame = _whole(clip, (128, 128, 128))
    return replace(clip, frames=np.repeat(frame[None], len(clip.frames), 0))


def subject_changes(clip: Clip, clips: Sequence[Clip], models: Grade) -> Clip | None:
    """The second half is that of a clip of another subject."""
    other = other_clip(clip, clips)
    if other is None:
        return None
    half = len(clip.frames) // 2
    same = np.linspace(0, len(other.frames) - 1, len(clip.frames)).round().astype(int)
    rest = [_fit(frame, clip.frames.shape[1:3]) for frame in other.frames[same[half:]]]
    return replace(clip, frames=np.concatenate([clip.frames[:half], rest]))


def halves(clip: Clip, clips: Sequence[Clip], models: Grade, way: str) -> Clip | None:
    """Of a clip of two: both halves show the first subject, or a blend of both, or one is empty.

    Halves are left and right, or above and below in the cutout world.
    """
    axis = 2 if clip.source == "real" else 1
    middle = clip.frames.shape[axis] // 2
    one, other = np.split(clip.frames, [middle], axis=axis)
    one, other = (part[(slice(None),) * axis + (slice(0, middle),)] for part in (one, other))
    if way == "twins":
        parts = one, one
    elif way == "blend":
        mean = ((one.astype(np.int16) + other) // 2).astype(np.uint8)
        parts = mean, mean
    else:
        masks = models.masks.segment(list(other))
        parts = one, np.stack([_painted(f, m) for f, m in zip(other, masks, strict=True)])
    return replace(clip, frames=np.concatenate(parts, axis=axis))


def of_frames(change: Callable[[Frames, random.Random], Frames]) -> Callable[..., Clip]:
    """A corruption of the pixels alone."""

    def changed(clip: Clip, clips: Sequence[Clip], models: Grade) -> Clip:
        return replace(clip, frames=change(clip.frames, random.Random(clip.name)))

    return changed


def frozen(frames: Frames, rng: random.Random) -> Frames:
    """The first frame all the time."""
    return np.repeat(frames[:1], len(frames), 0)


def stuttering(frames: Frames, rng: random.Random) -> Frames:
    """Every second frame repeats the one before."""
    return frames[np.arange(len(frames)) // 2 * 2]


def shuffled(frames: Frames, rng: random.Random) -> Frames:
    """Frames in another order."""
    order = list(range(len(frames)))
    rng.shuffle(order)
    return frames[order]


def flickering(frames: Frames, rng: random.Random) -> Frames:
    """Every frame brighter or darker, by up to 12 %."""
    gains = np.array([1 + 0.12 * rng.choice((-1, 1)) * rng.random() for _ in frames])
    return (frames * gains[:, None, None, None]).clip(0, 255).astype(np.uint8)


def blurred(frames: Frames, rng: random.Random) -> Frames:
    """A Gaussian of 1 % of the height."""
    return np.stack([cv2.GaussianBlur(f, (0, 0), 0.01 * f.shape[0]) for f in frames])


def noisy(frames: Frames, rng: random.Random) -> Frames:
    """Noise of 20 levels."""
    draw = np.random.default_rng(rng.randrange(2**32))
    return (frames + draw.normal(0, 20, frames.shape)).clip(0, 255).astype(np.uint8)


def compressed(frames: Frames, rng: random.Random) -> Frames:
    """JPEG of quality 8."""
    shown = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=8)
        shown.append(np.asarray(Image.open(buffer)))
    return np.stack(shown)


def flashing(clip: Clip, clips: Sequence[Clip], models: Grade) -> Clip:
    """The first two frames are the first reference's picture on grey."""
    frame = _whole(clip, (200, 200, 200))
    return replace(clip, frames=np.concatenate([np.stack([frame] * 2), clip.frames[2:]]))


def _whole(clip: Clip, ground: tuple[int, int, int]) -> Frames:
    """The first reference's picture, as large as fits, on a plain ground."""
    picture = np.asarray(open_picture(clip.references[0].images[0]).convert("RGB"))
    height, width = clip.frames.shape[1:3]
    scale = min(height / picture.shape[0], width / picture.shape[1])
    size = (round(scale * picture.shape[1]), round(scale * picture.shape[0]))
    frame = np.full((height, width, 3), ground, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    frame[top : top + size[1], left : left + size[0]] = cv2.resize(
        picture, size, interpolation=cv2.INTER_AREA
    )
    return frame


def _empty(clip: Clip, models: Grade) -> Frames:
    (mask,) = models.masks.segment([clip.frames[0]])
    return _painted(clip.frames[0], mask)


def _painted(frame: Frames, mask: np.ndarray) -> Frames:
    hidden = widened(mask > 0.3, 0.02) if (mask > 0.3).any() else mask > 0.3
    return without(frame, hidden) if hidden.any() else frame


def _before_place(clip: Clip, place: Frames, models: Grade) -> Frames:
    softs = np.stack(models.masks.segment(list(clip.frames)))[..., None]
    return (softs * clip.frames + (1 - softs) * place).round().astype(np.uint8)


def _put(ground: Frames, picture: Frames, pixels: np.ndarray, where: np.ndarray) -> Frames:
    """A cut-out over the box of a mask, as large as the mask is."""
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    cut = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    mask = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8)
    if not where.any():
        where = np.zeros_like(where)
        where[
            where.shape[0] // 4 : -where.shape[0] // 4, where.shape[1] // 4 : -where.shape[1] // 4
        ] = True
    ys, xs = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
    scale = min((ys[-1] - ys[0] + 1) / cut.shape[0], (xs[-1] - xs[0] + 1) / cut.shape[1])
    size = (max(8, round(scale * cut.shape[1])), max(8, round(scale * cut.shape[0])))
    cut = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0
    shown = ground.copy()
    top = min(int(ys[0]), ground.shape[0] - size[1])
    left = min(int(xs[0]), ground.shape[1] - size[0])
    shown[top : top + size[1], left : left + size[0]][mask] = cut[mask]
    return shown


def _fit(picture: Frames, shape: tuple[int, int]) -> Frames:
    """A picture that covers a frame of (Y, X), cut in the middle."""
    scale = max(shape[0] / picture.shape[0], shape[1] / picture.shape[1])
    size = (
        max(shape[1], round(scale * picture.shape[1])),
        max(shape[0], round(scale * picture.shape[0])),
    )
    large = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    top, left = (size[1] - shape[0]) // 2, (size[0] - shape[1]) // 2
    return np.ascontiguousarray(large[top : top + shape[0], left : left + shape[1]])


CORRUPTIONS = (
    Corruption("other references", "judged by another subject's reference", other_references,
               (*FACES, "subject_similarity", "background_similarity")),
    Corruption("twins", "the first of two subjects shown twice", partial(halves, way="twins"),
               ("subject_similarity", "entanglement"), 2),
    Corruption("blend", "two subjects blended, shown twice", partial(halves, way="blend"),
               ("subject_similarity", "entanglement"), 2),
    Corruption("one missing", "the second of two painted over", partial(halves, way="gone"),
               ("subject_similarity", "entanglement"), 2),
    Corruption("pasted", "the reference pasted unchanged", pasted, ("copy_paste",), 1,
               claimed_on=("real",)),
    Corruption("held still", "the reference's whole picture as the video", held_still,
               ("copy_paste",), 1, claimed_on=("real",)),
    Corruption("reference's place", "the place of the reference, taken elsewhere, behind",
               place_of_reference, ("decoupling",), 1, base=from_elsewhere),
    Corruption("other place", "another place behind the subjects", other_place,
               ("background_similarity",), 1),
    Corruption("subject changes", "another clip from the middle on", subject_changes,
               ("subject_consistency", "background_consistency"), 1),
    Corruption("other caption", "the words of another clip", other_caption, ("text_relevance",),
               claimed_on=("photo",)),
    Corruption("frozen", "the first frame all the time", of_frames(frozen),
               ("motion_amplitude", "frozen_frames"), scope=MOTION, moves=True),
    Corruption("stutter", "every second frame repeated", of_frames(stuttering),
               ("frozen_frames", "motion_smoothness"), scope=MOTION, moves=True),
    Corruption("shuffled", "frames in another order", of_frames(shuffled),
               ("motion_smoothness",), scope=MOTION, moves=True),
    Corruption("flicker", "each frame brighter or darker by up to 12 %", of_frames(flickering),
               ("flicker",), scope=MOTION),
    Corruption("blurred", "Gaussian of 1 % of the height", of_frames(blurred),
               ("imaging_quality", "edge_blur"), scope=LOOK),
    Corruption("noise", "noise of 20 levels", of_frames(noisy), ("imaging_quality",), scope=LOOK),
    Corruption("compressed", "JPEG of quality 8", of_frames(compressed),
               ("imaging_quality",), scope=LOOK),
    Corruption("flash", "two first frames of the reference", flashing, ("first_frame_flash",),
               scope=MOTION),
)  # fmt: skip
