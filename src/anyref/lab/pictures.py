"""Decoded, tight-cropped and shrunk pictures, kept on disk and in memory.

Sizes follow the frame side S (pixels): cut-outs have a longer side of S, twice the box they are
drawn in; scenes have a shorter side of 2 S, so that the smallest crop (half of it) is never
enlarged.
"""

# Axes: T frames, Y X pixels, 4 RGBA

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from anyref.errors import LabError
from anyref.lab.catalog import Background, Subject
from anyref.media import write_atomically

LANCZOS = Image.Resampling.LANCZOS
SOURCE_STRIDE = 3  # animations run at 24 frames per second, clips at 8
FORMAT = 1  # part of the file names: raise it when the preparation changes

Pictures = tuple[Image.Image, ...]


def still(subject: Subject, side: int, cache: Path) -> Image.Image:
    """The subject's picture, RGBA, cropped to its opaque part, longer side `side` pixels."""
    return _prepared(subject.picture, side, cache, "still")[0]


def animation(subject: Subject, side: int, cache: Path) -> Pictures:
    """Every third frame of the subject's animation, RGBA, cropped alike to their joint extent."""
    if subject.animation is None:
        raise LabError(f"{subject.key} has no animation; use its still picture")
    return _prepared(subject.animation, side, cache, "animation")


def scene(background: Background, side: int, cache: Path) -> Image.Image:
    """The background, RGB, shorter side `2 * side` pixels."""
    return _prepared(background.picture, side, cache, "scene")[0]


def fit(picture: Image.Image, side: int) -> Image.Image:
    """The picture resized so that its longer side is `side` pixels, aspect kept."""
    scale = side / max(picture.size)
    return picture.resize(_scaled(picture.size, scale), LANCZOS)


def joint_extent(pictures: Pictures) -> tuple[int, int, int, int]:
    """Smallest box (left, top, right, bottom) that holds the visible part of every picture."""
    boxes = [box for picture in pictures if (box := _visible(picture)) is not None]
    if not boxes:
        return (0, 0, *pictures[0].size)
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return (min(lefts), min(tops), max(rights), max(bottoms))


@lru_cache(maxsize=8192)
def _prepared(path: Path, side: int, cache: Path, kind: str) -> Pictures:
    name = hashlib.sha256(str(path.relative_to(cache)).encode()).hexdigest()[:24]
    file = cache / f"prepared/{side}/{kind}-{FORMAT}-{name}.npy"
    if file.is_file():
        stack = np.load(file, allow_pickle=False)  # (T, Y, X, 3 or 4)
        return tuple(Image.fromarray(frame) for frame in stack)
    pictures = {"still": _still, "animation": _animation, "scene": _scene}[kind](path, side)
    stack = np.stack([np.asarray(picture) for picture in pictures])
    write_atomically(file, lambda opened: np.save(opened, stack))
    return pictures


def _still(path: Path, side: int) -> Pictures:
    with Image.open(path) as image:
        picture = image.convert("RGBA")
    return (fit(picture.crop(joint_extent((picture,))), side),)


def _animation(path: Path, side: int) -> Pictures:
    frames = []
    with Image.open(path) as image:
        for index in range(0, getattr(image, "n_frames", 1), SOURCE_STRIDE):
            image.seek(index)
            frames.append(image.convert("RGBA"))
    extent = joint_extent(tuple(frames))
    return tuple(fit(frame.crop(extent), side) for frame in frames)


def _scene(path: Path, side: int) -> Pictures:
    with Image.open(path) as image:
        image.draft("RGB", (4 * side, 4 * side))
        picture = image.convert("RGB")
    return (picture.resize(_scaled(picture.size, 2 * side / min(picture.size)), LANCZOS),)


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _visible(picture: Image.Image) -> tuple[int, int, int, int] | None:
    """The extent of alpha above 12 %: faint shadows do not count."""
    return picture.getchannel("A").point([255 * (value > 31) for value in range(256)]).getbbox()
