"""Clips whose truth is known because they were made: subjects that move over a place, and defects.

Axes: T frames, Y X pixels
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from anyref.lab.captions import Motion
from anyref.lab.catalog import Catalog
from anyref.lab.pictures import LANCZOS
from anyref.lab.world import Clip, World, compose
from anyref.perception.runtimes import opencv

FPS, FRAMES = 16, 48
CUT_AT, SKIPPED = FRAMES // 2, 24  # the joint inside a clip; frames that a jump leaves out
MARKS = ("STOCKFILM", "PREVIEW ONLY", "filmshop.example", "CHANNEL 7 NEWS", "SAMPLE FOOTAGE")
MIRRORED = {Motion.RIGHT: Motion.LEFT, Motion.LEFT: Motion.RIGHT}
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
Frames = NDArray[np.uint8]  # (T, Y, X, 3)


@dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
    """A subject of a clip. motion: right, left, up, down or stay."""

    key: str
    name: str
    motion: str
    masks: NDArray[np.bool_]  # (T, Y, X)


@dataclass(frozen=True, kw_only=True, eq=False)
class TruthClip:
    """A clip and all that is known of it.

    Args:
        kind: "clean", "control" (a face with a thing beside it) or the planted defect.
        cut: the first frame after the planted cut.
        person, faces: who a portrait shows, and the face in each frame (T, 4), pixels.
    """

    frames: Frames
    figures: tuple[Figure, ...] = ()
    kind: str = "clean"
    variant: str = ""
    cut: int | None = None
    person: str | None = None
    faces: NDArray[np.float32] | None = None


def composed(
    rng: random.Random, catalog: Catalog, size: int, cast: Sequence[str] = (), count: int = FRAMES
) -> Clip:
    """A clip of the cutout world in which at least one of one or two subjects travels."""
    while True:
        world = World(
            size=size,
            num_frames=count,
            num_subjects=rng.choice((1, 1, 2)),
            animate=0.8,
            plain=0.0,
            cast=tuple(cast),
        )
        clip = compose(rng, catalog, "test", world)
        if any(actor.motion is not Motion.STAY for actor in clip.actors):
            return clip


def clean(rng: random.Random, catalog: Catalog, size: int, cast: Sequence[str] = ()) -> TruthClip:
    """A clip without a defect, in light of its own and every other one mirrored."""
    return shown(rng, composed(rng, catalog, size, cast))


def shown(rng: random.Random, clip: Clip) -> TruthClip:
    """A composed clip as it is filmed: mirrored or not, light and contrast changed a little."""
    step = rng.choice((1, -1))
    light, contrast = rng.uniform(0.9, 1.1), rng.uniform(0.9, 1.1)
    levels = (np.arange(256) - 128) * contrast + 128
    table = (levels * light).clip(0, 255).round().astype(np.uint8)
    figures = tuple(
        Figure(
            key=actor.key,
            name=actor.name.replace("_", " "),
            motion=(MIRRORED.get(actor.motion, actor.motion) if step < 0 else actor.motion).value,
            masks=actor.masks[:, :, ::step],
        )
        for actor in clip.actors
    )
    return TruthClip(frames=table[clip.frames[:, :, ::step]], figures=figures)


def blurred(clip: TruthClip, rng: random.Random) -> TruthClip:
    """Out of focus: a deviation of 0.6 to 1.25 % of the side."""
    sigma = clip.frames.shape[2] * rng.uniform(0.006, 0.0125)
    with opencv(1) as cv2:
        soft = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in clip.frames])
    return replace(clip, frames=soft, kind="blur")


def darkened(clip: TruthClip, rng: random.Random) -> TruthClip:
    """Nearly black: mean luma of 2 to 6 %."""
    mean = float((clip.frames[::8].mean((0, 1, 2)) @ np.array(LUMA)) / 255)
    gain = min(1.0, rng.uniform(0.02, 0.06) / mean)
    table = (np.arange(256) * gain).round().astype(np.uint8)
    return replace(clip, frames=table[clip.frames], kind="darkness")


def marked(clip: TruthClip, rng: random.Random) -> TruthClip:
    """White words with a dark edge, half to nearly opaque, 5 to 9 % of the side high."""
    side = clip.frames.shape[1]
    font = ImageFont.load_default(size=side * rng.uniform(0.05, 0.09))
    words, opaque = rng.choice(MARKS), rng.uniform(0.5, 0.9)
    layer = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(layer)
    left, top, right, bottom = pen.textbbox((0, 0), words, font=font)
    variant = rng.choice(("corner", "middle"))
    free_x, free_y = side - (right - left), side - (bottom - top)
    shares = (0.5, 0.5) if variant == "middle" else (rng.choice((0.05, 0.95)),) * 2
    place = (round(free_x * shares[0] - left), round(free_y * shares[1] - top))
    pen.text(place, words, font=font, fill=(255, 255, 255, 255), stroke_width=max(1, side // 384),
             stroke_fill=(30, 30, 30, 255))  # fmt: skip
    pixels = np.asarray(layer, np.float32)  # (Y, X, 4)
    alpha = pixels[..., 3:] / 255 * opaque
    frames = (clip.frames * (1 - alpha) + pixels[..., :3] * alpha).round().astype(np.uint8)
    return replace(clip, frames=frames, kind="watermark", variant=variant)


def stilled(clip: TruthClip, rng: random.Random, variant: str) -> TruthClip:
    """One picture for all of the clip: as it is ("still") or with a camera's noise ("grain")."""
    frames = np.repeat(clip.frames[FRAMES // 2 :][:1], len(clip.frames), 0)
    if variant == "grain":
        noise = np.random.default_rng(rng.randrange(2**32))
        drawn = noise.normal(0, 2.5, (*frames.shape[:3], 1)).astype(np.float32)
        frames = (frames + drawn).clip(0, 255).round().astype(np.uint8)
    return replace(clip, frames=frames, kind="static", variant=variant)


def copied(clip: TruthClip, rng: random.Random, variant: str) -> TruthClip:
    """The clip again, compressed as JPEG of quality 60 to 85.

    Args:
        variant: "cropped": 2 to 4 % of the side cut off; "brightened": by 4 to 8 %, or darkened;
            "smaller": through three quarters of the pixels each way.
    """
    side = clip.frames.shape[1]
    edge = round(side * rng.uniform(0.01, 0.02)) if variant == "cropped" else 0
    gain = 1 + rng.choice((-1, 1)) * rng.uniform(0.04, 0.08) if variant == "brightened" else 1.0
    sent = side * 3 // 4 if variant == "smaller" else side
    table = (np.arange(256) * gain).clip(0, 255).round().astype(np.uint8)
    quality = rng.randint(60, 85)
    frames = []
    for frame in clip.frames:
        cropped = Image.fromarray(table[frame[edge : side - edge, edge : side - edge]])
        with Image.open(_compressed(cropped.resize((sent, sent), LANCZOS), quality)) as file:
            frames.append(np.asarray(file.convert("RGB").resize((side, side), LANCZOS)))
    return replace(clip, frames=np.stack(frames), kind="duplicate", variant=variant)


def _compressed(picture: Image.Image, quality: int) -> io.BytesIO:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return buffer


def cut(rng: random.Random, catalog: Catalog, size: int, variant: str) -> TruthClip:
    """A clip with a joint of two takes that look alike in its middle.

    Args:
        variant: "jump": half of the way is left out; "reframed": closer by 15 to 30 %; "recast":
            another subject goes on in the same place.
    """
    seed = rng.random()
    one = composed(random.Random(seed), catalog, size, (), FRAMES + SKIPPED)
    two = one.frames[CUT_AT:FRAMES]
    if variant == "jump":
        two = one.frames[CUT_AT + SKIPPED :]
    elif variant == "reframed":
        two = _closer(two, rng.uniform(1.15, 1.3))
    else:
        two = _recast(seed, catalog, size, one).frames[CUT_AT:FRAMES]
    joined = np.concatenate([one.frames[:CUT_AT], two])
    return TruthClip(frames=joined, kind="cut", variant=variant, cut=CUT_AT)


def _closer(frames: Frames, zoom: float) -> Frames:
    side = frames.shape[1]
    edge = side * (1 - 1 / zoom) / 2
    box = (edge, edge, side - edge, side - edge)
    large = [Image.fromarray(frame).resize((side, side), LANCZOS, box=box) for frame in frames]
    return np.stack([np.asarray(picture) for picture in large])


def _recast(seed: float, catalog: Catalog, size: int, one: Clip) -> Clip:
    """The same draws from subjects in another order: another cast in the very same place."""
    subjects = catalog.all_subjects
    for turn in range(1, len(subjects)):
        turned = Catalog(
            catalog.cache, (*subjects[turn:], *subjects[:turn]), catalog.all_backgrounds
        )
        two = composed(random.Random(seed), turned, size, (), FRAMES + SKIPPED)
        if {a.key for a in one.actors} & {a.key for a in two.actors}:
            continue
        taken = np.any([a.masks[0] for clip in (one, two) for a in clip.actors], 0)  # (Y, X)
        with opencv(1) as cv2:
            edges = cv2.dilate(taken.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        if np.array_equal(one.frames[0][~edges], two.frames[0][~edges]):
            return two
    raise ValueError(f"no other cast among {len(subjects)} subjects fits; add some")
