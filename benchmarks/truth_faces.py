"""Portraits that the camera passes over, with a thing pasted on the face or beside it.

Axes: T frames, Y X pixels
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from truth_clips import FRAMES, Figure, TruthClip

from anyref.lab import sources as lab_sources
from anyref.lab.catalog import Catalog, Subject
from anyref.lab.pictures import LANCZOS, fit, still
from anyref.packages import Package, package_folder
from anyref.perception.sources import default_cache

# Public officials; `anyref.packages.fetch(PEOPLE, default_cache())` puts them in the cache.
PEOPLE = Package(
    registry="pypi-source",
    name="face_recognition",
    version="1.3.0",
    licence="MIT",
    members=("face_recognition-1.3.0/tests/test_images/*.jpg",),
)
FACES = {  # by hand: hairline to chin, ear to ear; x0 y0 x1 y1 in pixels of the file
    "biden": (437, 187, 712, 569),
    "obama": (374, 94, 605, 416),
    "obama2": (195, 224, 471, 614),
    "obama3": (647, 260, 910, 612),
    "astronaut": (178, 63, 268, 176),
}
THINGS = ("food", "drink", "transport", "plant", "musical", "sport", "household", "light", "book")
OVERLAP = (0.28, 0.6)  # IoU of the thing and the face's box
HEADS = 2.5  # heights of the face in the side of the window
TRAVEL = 0.25  # of that side, which the window moves at most
TRIES = 400
Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Portrait:
    """A photograph of a person. face: x0 y0 x1 y1 in pixels of the file."""

    person: str
    file: Path
    face: tuple[int, int, int, int]


def portraits() -> list[Portrait]:
    """Those of the cache.

    Raises:
        FileNotFoundError: when one is not there.
    """
    people = package_folder(PEOPLE, default_cache()) / "face_recognition-1.3.0/tests/test_images"
    space = package_folder(lab_sources.SKIMAGE, lab_sources.default_cache()) / "skimage/data"
    found = []
    for name, face in FACES.items():
        file = space / f"{name}.png" if name == "astronaut" else people / f"{name}.jpg"
        if not file.is_file():
            raise FileNotFoundError(f"{file} is not there; fetch {PEOPLE.pin} and the lab's")
        found.append(Portrait(name.rstrip("123"), file, face))
    return found


def face_clip(
    rng: random.Random, catalog: Catalog, size: int, portrait: Portrait, *, over: bool
) -> TruthClip:
    """The window passes over a portrait with a thing over its face, or beside it (no defect)."""
    with Image.open(portrait.file) as file:
        picture = file.convert("RGB")
    things = [s for s in catalog.all_subjects if s.group.startswith(THINGS)]
    alpha, thing = _pasted(rng, catalog, picture, portrait.face, things, over)
    height = portrait.face[3] - portrait.face[1]
    side = min(HEADS * height, 0.85 * min(picture.size))
    windows = _path(rng, picture.size, side, _joint(portrait.face, alpha.getbbox()))  # (T, 4)
    frames = [picture.resize((size, size), LANCZOS, box=tuple(box)) for box in windows]
    bilinear = Image.Resampling.BILINEAR
    masks = [alpha.resize((size, size), bilinear, box=tuple(box)) for box in windows]
    faces = (np.array(portrait.face) - np.tile(windows[:, :2], 2)) * size / side  # (T, 4)
    figure = Figure(
        key=thing.key,
        name=thing.name,
        motion="unknown",
        masks=np.stack([np.asarray(mask) > 127 for mask in masks]),
    )
    return TruthClip(
        frames=np.stack([np.asarray(frame) for frame in frames]),
        figures=(figure,),
        kind="face" if over else "control",
        person=portrait.person,
        faces=faces.astype(np.float32),
    )


def _pasted(
    rng: random.Random,
    catalog: Catalog,
    picture: Image.Image,
    face: tuple[int, int, int, int],
    things: list[Subject],
    over: bool,
) -> tuple[Image.Image, Subject]:
    """Paste a thing into the picture: its mask "L" and what it is."""
    x0, y0, x1, y1 = face
    width, height = x1 - x0, y1 - y0
    for _ in range(TRIES):
        thing = rng.choice(things)
        side = round(width * (rng.uniform(0.75, 1.3) if over else rng.uniform(0.5, 0.7)))
        view = fit(still(thing, 256, catalog.cache), side)
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        if over:
            x, y = x + rng.uniform(-0.35, 0.35) * width, y + rng.uniform(-0.35, 0.35) * height
        else:
            x += rng.choice((-1, 1)) * (0.6 * width + view.width / 2)
        left, top = round(x - view.width / 2), round(y - view.height / 2)
        if min(left, top) < 0 or left + view.width > picture.width:
            continue
        alpha = Image.new("L", picture.size)
        alpha.paste(view.getchannel("A"), (left, top))
        share = overlap(np.asarray(alpha) > 127, face)
        if OVERLAP[0] <= share <= OVERLAP[1] if over else share == 0:
            picture.paste(view, (left, top), view)
            return alpha, thing
    raise ValueError(f"no thing fits a face of {width} x {height} pixels; add larger ones")


def overlap(mask: NDArray[np.bool_], box: Corners) -> float:
    """IoU of a mask (Y, X) and a box."""
    x0, y0, x1, y1 = (max(0, round(value)) for value in box)
    inside = int(mask[y0:y1, x0:x1].sum())
    height, width = mask.shape
    area = max(0, min(x1, width) - x0) * max(0, min(y1, height) - y0)
    union = int(mask.sum()) + area - inside
    return inside / union if union else 0.0


def _joint(one: Corners, two: Corners | None) -> Corners:
    two = two or one
    return min(one[0], two[0]), min(one[1], two[1]), max(one[2], two[2]), max(one[3], two[3])


def _path(
    rng: random.Random, size: tuple[int, int], side: float, held: Corners
) -> NDArray[np.float64]:
    """Windows (T, 4) of one side that move over a picture and always show what is held."""
    ends = []
    for axis in (0, 1):
        low = max(0.0, held[axis + 2] - side)
        high = min(size[axis] - side, held[axis])
        low, high = min(low, max(high, 0.0)), max(high, 0.0)
        travel = min(high - low, TRAVEL * side)
        start = rng.uniform(low, high - travel)
        ends.append(rng.choice(((start, start + travel), (start + travel, start))))
    corners = np.linspace([end[0] for end in ends], [end[1] for end in ends], FRAMES)  # (T, 2)
    return np.concatenate([corners, corners + side], 1)
