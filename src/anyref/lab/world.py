"""Clips of the cutout world: subjects that move over a still scene, with exact ground truth.

The caption determines the layout. With S the frame side, a subject is fitted into and centred in a
box of S/2 x S/2 pixels whose top left corner moves linearly over the clip:

    RIGHT  (0, 3S/8) -> (S/2, 3S/8)        UP    (S/4, S/2) -> (S/4, 0)
    LEFT   (S/2, 3S/8) -> (0, 3S/8)        DOWN  (S/4, 0) -> (S/4, S/2)
    STAY   (S/4, 3S/8)

Two or three subjects have a lane each, the first named on top: boxes of S/n x S/n pixels at
y = 0, S/n, ...; they move RIGHT (0 to S - S/n), LEFT or STAY in the middle. With S = 96 and
17 frames every step of a single subject is exactly 3 pixels.
"""

# Axes: T frames, Y X pixels

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.errors import LabError
from anyref.lab.captions import Motion, caption
from anyref.lab.catalog import Background, Catalog, Split, Subject, slug
from anyref.lab.pictures import LANCZOS, Pictures, animation, fit, joint_extent, scene, still
from anyref.request import Reference

Entry = TypeVar("Entry", Subject, Background)

FPS = 8
LANE_MOTIONS = (Motion.RIGHT, Motion.LEFT, Motion.STAY)
MAX_DRAWS = 200  # draws until the subjects of a clip differ in name and identity


@dataclass(frozen=True, kw_only=True)
class World:
    """What clips look like.

    Args:
        size: frame side S in pixels, a multiple of 16.
        num_frames: frames per clip, at least 2, at 8 per second.
        num_subjects: 1, 2 or 3.
        animate: probability that a subject which has an animation is drawn moving.
        plain: probability of a plain light background without a reference.
        flip: probability that a reference picture is mirrored.
        light: largest relative change of brightness, contrast and saturation of references.
        fill: range of the part of a reference picture's side that the subject fills.
        crop_jitter: largest shift and change of size of the background reference's crop, as a part
            of the crop's side.
        cast: keys or reference names of the subjects that may appear; all of the split when empty.
    """

    size: int = 64
    num_frames: int = 9
    num_subjects: int = 1
    animate: float = 0.5
    plain: float = 0.1
    flip: float = 0.0
    light: float = 0.12
    fill: tuple[float, float] = (0.88, 1.0)
    crop_jitter: float = 0.05
    cast: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 16:
            raise LabError(f"size must be a multiple of 16, got {self.size}; try 64")
        if self.num_frames < 2:
            raise LabError(f"num_frames must be at least 2, got {self.num_frames}; try 9")
        if self.num_subjects not in (1, 2, 3):
            raise LabError(f"num_subjects must be 1, 2 or 3, got {self.num_subjects}")

    @property
    def box(self) -> int:
        """Side of the box that a subject fits into, in pixels."""
        return self.size // max(2, self.num_subjects)


@dataclass(frozen=True, kw_only=True, eq=False)
class Actor:
    """Ground truth of one subject: `boxes` are what is drawn, x0 y0 x1 y1 in pixels."""

    key: str
    name: str
    motion: Motion
    boxes: NDArray[np.float32]  # (T, 4)
    masks: NDArray[np.bool_]  # (T, Y, X)


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """One composed clip: subjects' references in caption order, the background's last."""

    frames: NDArray[np.uint8]  # (T, Y, X, 3)
    prompt: str
    references: tuple[Reference, ...]
    actors: tuple[Actor, ...]
    background: str | None


def trajectory(motion: Motion, config: World, lane: int | None = None) -> NDArray[np.int64]:
    """Top left corners (x, y) of the subject's box over the clip, in whole pixels.

    Args:
        lane: 0 for the uppermost of several subjects and so on, None for a single one.
    """
    s, box = config.size, config.box
    far, middle = s - box, (s - box) // 2
    y = 3 * s // 8 if lane is None else lane * box
    starts_and_ends = {
        Motion.RIGHT: ((0, y), (far, y)),
        Motion.LEFT: ((far, y), (0, y)),
        Motion.UP: ((middle, far), (middle, 0)),
        Motion.DOWN: ((middle, 0), (middle, far)),
        Motion.STAY: ((middle, y), (middle, y)),
    }
    if lane is not None and motion not in LANE_MOTIONS:
        raise LabError(f"subjects in lanes keep to them and cannot go {motion.value}")
    start, end = starts_and_ends[motion]
    return np.rint(np.linspace(start, end, config.num_frames)).astype(np.int64)  # (T, 2)


def compose(
    rng: random.Random, catalog: Catalog, split: Split, config: World | None = None
) -> Clip:
    """Compose one clip from the split's subjects and backgrounds.

    Raises:
        LabError: when the split is too small to draw different subjects from.
    """
    config = config or World()
    background = None
    if rng.random() >= config.plain:
        background = rng.choice(_some(catalog.backgrounds(split), "backgrounds", split))
    subjects = _draw_subjects(rng, catalog, split, config, background)
    canvas, background_reference = _set_scene(rng, catalog, background, config)
    frames = [canvas.copy() for _ in range(config.num_frames)]
    actors, references = [], []
    for index, subject in enumerate(subjects):
        lane = index if len(subjects) > 1 else None
        motion = rng.choice(LANE_MOTIONS if lane is not None else tuple(Motion))
        poses, reference = _poses(rng, catalog, subject, config)
        corners = trajectory(motion, config, lane)
        actors.append(_draw(frames, poses, subject, motion, corners, config.box))
        references.append(reference)
    prompt = caption(
        rng,
        [(actor.name, actor.motion) for actor in actors],
        slug(background.name) if background else None,
    )
    return Clip(
        frames=np.stack([np.asarray(frame) for frame in frames]),
        prompt=prompt,
        references=(*references, *background_reference),
        actors=tuple(actors),
        background=background.key if background else None,
    )


def _some(entries: tuple[Entry, ...], what: str, split: Split) -> tuple[Entry, ...]:
    if not entries:
        raise LabError(f"the {split} split has 0 {what}; fetch the packages again")
    return entries


def _draw_subjects(
    rng: random.Random,
    catalog: Catalog,
    split: Split,
    config: World,
    background: Background | None,
) -> list[Subject]:
    """Subjects of different identities whose reference names are all different."""
    names = {slug(background.name)} if background else set()
    identities: set[str] = set()
    chosen: list[Subject] = []
    subjects = _some(catalog.subjects(split), "subjects", split)
    if config.cast:
        subjects = tuple(s for s in subjects if {s.key, slug(s.name)} & set(config.cast))
        subjects = _some(subjects, f"subjects among {', '.join(config.cast)}", split)
    for _ in range(MAX_DRAWS):
        subject = rng.choice(subjects)
        if slug(subject.name) in names or subject.identity in identities:
            continue
        names.add(slug(subject.name))
        identities.add(subject.identity)
        chosen.append(subject)
        if len(chosen) == config.num_subjects:
            return chosen
    raise LabError(
        f"the {split} split has fewer than {config.num_subjects} different subjects; use fewer"
    )


def _set_scene(
    rng: random.Random, catalog: Catalog, background: Background | None, config: World
) -> tuple[Image.Image, tuple[Reference, ...]]:
    """The still canvas of the clip and the background's reference picture, both S x S."""
    s = config.size
    if background is None:
        colour = tuple(rng.randint(200, 255) for _ in range(3))
        return Image.new("RGB", (s, s), colour), ()
    picture = scene(background, s, catalog.cache)
    width, height = picture.size
    side = rng.uniform(0.5, 1.0) * min(width, height)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    canvas = picture.resize((s, s), LANCZOS, box=(left, top, left + side, top + side))
    jitter = config.crop_jitter
    other = min(side * (1 + rng.uniform(-jitter, jitter)), width, height)
    left = _clamp(left + rng.uniform(-jitter, jitter) * side, width - other)
    top = _clamp(top + rng.uniform(-jitter, jitter) * side, height - other)
    shown = picture.resize((s, s), LANCZOS, box=(left, top, left + other, top + other))
    shown = _relit(rng, shown, config.light)
    name = slug(background.name)
    reference = Reference(shown, name=name, kind="background", text=background.name)
    return canvas, (reference,)


def _clamp(value: float, limit: float) -> float:
    return min(max(value, 0.0), limit)


def _poses(
    rng: random.Random, catalog: Catalog, subject: Subject, config: World
) -> tuple[Pictures, Reference]:
    """The subject's pictures frame by frame, fitted to its box, and its reference."""
    if subject.animation is not None and rng.random() < config.animate:
        cycle = animation(subject, config.size, catalog.cache)
        start = rng.randrange(len(cycle))
        used = [(start + step) % len(cycle) for step in range(config.num_frames)]
        others = [index for index in range(len(cycle)) if index not in used]
        frames = tuple(cycle[index] for index in used)
        extent = joint_extent(frames)
        poses = tuple(fit(frame.crop(extent), config.box) for frame in frames)
        view = cycle[rng.choice(others or used)]
        view = view.crop(joint_extent((view,)))
    else:
        view = still(subject, config.size, catalog.cache)
        poses = (fit(view, config.box),) * config.num_frames
    picture = _portrait(rng, view, config)
    name = slug(subject.name)
    return poses, Reference(picture, name=name, kind=subject.kind, text=subject.name)


def _portrait(rng: random.Random, view: Image.Image, config: World) -> Image.Image:
    """The reference picture of a subject: RGBA, S x S, other light, scale and place."""
    s = config.size
    view = fit(view, round(rng.uniform(*config.fill) * s))
    if rng.random() < config.flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    view = _relit(rng, view, config.light)
    slack = s - max(view.size)
    left = (s - view.width - slack) // 2 + rng.randint(0, slack)
    top = (s - view.height - slack) // 2 + rng.randint(0, slack)
    picture = Image.new("RGBA", (s, s))
    picture.paste(view, (left, top))
    return picture


def _relit(rng: random.Random, picture: Image.Image, light: float) -> Image.Image:
    """The picture with brightness, contrast and saturation each changed by up to `light`."""
    brightness, contrast, saturation = (1 + rng.uniform(-light, light) for _ in range(3))
    pixels = np.asarray(picture).astype(np.float32)  # (Y, X, 3 or 4)
    colour = pixels[..., :3]
    grey = colour @ np.array([0.299, 0.587, 0.114], np.float32)  # luma, ITU-R BT.601
    colour = grey[..., None] + saturation * (colour - grey[..., None])
    colour = (colour - 128) * contrast + 128
    pixels[..., :3] = colour * brightness
    return Image.fromarray(np.rint(pixels.clip(0, 255)).astype(np.uint8))


def _draw(
    frames: list[Image.Image],
    poses: Pictures,
    subject: Subject,
    motion: Motion,
    corners: NDArray[np.int64],
    side: int,
) -> Actor:
    """Paste the poses into the frames, centred in the box at each corner."""
    boxes = np.empty((len(frames), 4), np.float32)
    masks = np.zeros((len(frames), frames[0].height, frames[0].width), np.bool_)
    for index, (frame, pose, corner) in enumerate(zip(frames, poses, corners, strict=True)):
        x = int(corner[0]) + (side - pose.width) // 2
        y = int(corner[1]) + (side - pose.height) // 2
        frame.paste(pose, (x, y), pose)
        boxes[index] = x, y, x + pose.width, y + pose.height
        alpha = np.asarray(pose.getchannel("A"))
        masks[index, y : y + pose.height, x : x + pose.width] = alpha > 127
    name = slug(subject.name)
    return Actor(key=subject.key, name=name, motion=motion, boxes=boxes, masks=masks)


def sheet(clip: Clip, zoom: int = 2) -> Image.Image:
    """References and frames side by side on grey, for people to look at."""
    pictures = [Image.fromarray(frame) for frame in clip.frames]
    side, gap = pictures[0].width * zoom, 4
    shown = [r.images[0] for r in clip.references] + pictures
    page = Image.new("RGB", ((side + gap) * len(shown), side), (128, 128, 128))
    for index, picture in enumerate(shown):
        if not isinstance(picture, Image.Image):
            continue
        large = picture.convert("RGBA").resize((side, side), Image.Resampling.NEAREST)
        page.paste(large, (index * (side + gap), 0), large)
    return page
