"""A world for the metrics: subjects have little blue, places much, and the models go by that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage
from anyref.perception.contracts import Box, Detection, Face, ModelCard
from anyref.perception.small import small_grade
from anyref.request import Reference, Request

SIDE = 48  # of a subject
SIZE = (96, 160)  # rows, columns of a frame
SKIN = (250, 200, 20)


def texture(seed, size, low, high, cell=8):
    """Blocks of random colours: uint8 (*size, 3)."""
    rng = np.random.default_rng(seed)
    rows, columns = (-(-side // cell) for side in size)
    coarse = rng.integers(low, high, (rows, columns, 3))
    return np.kron(coarse, np.ones((cell, cell, 1), int))[: size[0], : size[1]].astype(np.uint8)


def place(seed, size=SIZE):
    """A scene; its blue is over 150."""
    return texture(100 + seed, size, (0, 0, 160), (130, 130, 255), cell=16)


def plain(level=230, size=SIZE):
    return np.full((*size, 3), level, np.uint8)


def figure(seed):
    """A subject (SIDE, SIDE, 3) and its outline: even seeds are discs, odd ones diamonds."""
    rng = np.random.default_rng(seed)
    colour = rng.integers((60, 0, 0), (250, 250, 60))
    pixels = texture(seed, (SIDE, SIDE), (-50,) * 3, (50,) * 3, cell=6).astype(np.int8) + colour
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    reach = np.hypot(y, x) if seed % 2 == 0 else np.abs(y) + np.abs(x)
    pixels[..., 2] = pixels[..., 2].clip(0, 100)
    return pixels.clip(0, 255).astype(np.uint8), reach < SIDE / 2


def put(ground, thing, top, left):
    """The ground with a subject at a place."""
    pixels, mask = thing
    drawn = ground.copy()
    drawn[top : top + SIDE, left : left + SIDE][mask] = pixels[mask]
    return drawn


def blend(one, other):
    """Half one subject and half the other, with the outline of the first."""
    mixed = (one[0].astype(int) + other[0]) // 2
    return mixed.astype(np.uint8), one[1]


def mirrored_turned(thing):
    """The subject in another pose: turned by a quarter and sheared."""
    pixels, mask = (np.rot90(part).copy() for part in thing)
    for row in range(SIDE):
        pixels[row], mask[row] = (np.roll(p[row], row // 3 - 8, axis=0) for p in (pixels, mask))
    return pixels, mask


def portrait(thing, ground=None):
    """A reference's picture: the subject on white, or on a place."""
    ground = plain(255, (64, 64)) if ground is None else ground
    return Image.fromarray(put(ground, thing, 8, 8))


class Model:
    card = ModelCard(name="stand-in", version="1", sha256="0" * 64, licence="none")
    vocabulary = frozenset({"dog", "person", "hot dog"})
    calls = 0


class Objects(Model):
    """Finds a person where the skin is."""

    def detect(self, pictures, words=None):
        found = [box_of(skin(picture)) for picture in pictures]
        return [(Detection(box=b, label="person", score=0.9),) if b else () for b in found]


class Masks(Model):
    """What has little blue stands out; grey from white to black does not."""

    def segment(self, pictures, boxes=None):
        self.calls += len(pictures)
        return [((p[..., 2] < 120) & (np.ptp(p, axis=-1) > 8)).astype(np.float32) for p in pictures]


class Embedder(Model):
    """An 8 x 8 picture without its mean colour, and words by colour."""

    words = ("dog", "cat")

    def embed(self, pictures):
        small = [np.asarray(Image.fromarray(p).resize((8, 8), 4), np.float32) for p in pictures]
        values = np.stack([s - s.mean((0, 1)) for s in small]).reshape(len(small), -1)
        return (values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)).astype(
            np.float32
        )

    def name(self, pictures):
        red = np.array([p[..., 0].astype(int).mean() > p[..., 1].mean() for p in pictures], float)
        return np.stack([0.8 * red, 0.8 * (1 - red)], 1).astype(np.float32)


class Faces(Model):
    """One face per blot of skin."""

    def detect(self, pictures):
        result = []
        for picture in pictures:
            halves = (slice(0, picture.shape[1] // 2), slice(picture.shape[1] // 2, None))
            found = []
            for half in halves if picture.shape[1] > 100 else (slice(None),):
                mask = np.zeros(picture.shape[:2], bool)
                mask[:, half] = skin(picture)[:, half]
                if mask.any():
                    found.append(Face(box=box_of(mask), landmarks=(), score=0.9))
            result.append(tuple(found))
        return result


class Recogniser(Model):
    """A person is the green in the middle of the face."""

    def __init__(self, metric="cosine"):
        self.metric = metric

    def embed(self, pictures, faces):
        angles = []
        for picture, face in zip(pictures, faces, strict=True):
            box = face.box
            y, x = int(box.top + box.bottom) // 2, int(box.left + box.right) // 2
            angles.append(picture[y, x, 1] / 255 * np.pi / 2)
        return np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)


class Quality(Model):
    higher_is_better = False

    def score(self, pictures):
        return [float(100 - picture.std()) for picture in pictures]


def skin(picture):
    return (picture[..., 0] == SKIN[0]) & (picture[..., 2] == SKIN[2])


def box_of(mask):
    if not mask.any():
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def stand_ins():
    """A grade of these models."""
    return replace(
        small_grade(),
        objects=Objects(),
        masks=Masks(),
        people=Masks(),
        faces=Faces(),
        picture_embedders=(Embedder(),),
        face_embedders=(Recogniser(), Recogniser("euclidean")),
        quality=Quality(),
    )


def case_of(*references, prompt="they walk", labels=()):
    """A case of pictures, or of (picture, kind)."""
    pairs = [r if isinstance(r, tuple) else (r, "object") for r in references]
    made = [Reference(images=picture, kind=kind) for picture, kind in pairs]
    request = Request(prompt=prompt, references=made)
    return Case(id="1", request=request, labels=labels)


def footage_of(frames, fps=8.0):
    return Footage(np.stack(frames), fps, "0")


def walk(*things, ground=None, count=8, step=6):
    """Frames of one or two subjects that go apart from the middle; None leaves a place empty."""
    ground = place(0) if ground is None else ground
    frames = []
    for t in range(count):
        frame = ground
        for number, thing in enumerate(things):
            if thing is not None:
                left = 4 + t * step // 2 if number == 0 else SIZE[1] - SIDE - 4 - t * step // 2
                frame = put(frame, thing, 20, left)
        frames.append(frame)
    return frames


def value(metric, case, frames, fps=8.0):
    """The score's value, after `applies` has said yes; a fresh footage."""
    assert metric.applies(case) is None
    return metric.score(case, footage_of(frames, fps)).value
