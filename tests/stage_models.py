"""Stand-in models of the data engine: they know red squares, and see green ones stand out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from anyref.perception.contracts import Box, Detection, Face, ModelCard
from anyref.perception.small import small_grade

RED, GREEN, SKIN, GROUND = (220, 40, 40), (40, 200, 60), (240, 200, 160), (90, 110, 160)
SIZE = (120, 200)  # rows, columns


def square(frame, left, top, side, colour):
    """Draw a square with some texture."""
    rows, columns = slice(top, top + side), slice(left, left + side)
    frame[rows, columns] = colour
    frame[top + 4 : top + side - 4 : 4, columns] = np.array(colour) // 2


def near(picture, colour):
    """Where a picture has a colour or its half."""
    tones = np.array(colour), np.array(colour) // 2
    off = [np.abs(picture.astype(int) - tone).max(-1) for tone in tones]
    return np.minimum(*off) < 12


def around(pixels):
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


class Model:
    card = ModelCard(name="stand-in", version="1", sha256="0" * 64, licence="none")
    vocabulary = frozenset({"dog", "person"})
    metric = "euclidean"

    def __init__(self, label="dog", score=0.9):
        self.label, self.score = label, score


class Detector(Model):
    """Finds what is red."""

    def detect(self, pictures, words=None):
        self.words = words
        return [
            (Detection(box=around(red), label=self.label, score=self.score),) if red.any() else ()
            for red in (near(picture, RED) for picture in pictures)
        ]


class Segmenter(Model):
    """Sees green stand out, or with a box what is no ground."""

    def segment(self, pictures, boxes=None):
        self.calls = getattr(self, "calls", 0) + len(pictures)
        masks = []
        for picture, box in zip(pictures, boxes or [None] * len(pictures), strict=True):
            mask = near(picture, GREEN)
            if box is not None:
                mask = np.zeros(picture.shape[:2], bool)
                place = box.grown(0.1).pixels(picture)
                mask[place] = ~near(picture, GROUND)[place]
            masks.append(mask.astype(np.float32))
        return masks


class Faces(Model):
    """Finds what has the colour of skin."""

    def detect(self, pictures):
        return [
            (self._face(around(skin)),) if skin.any() else ()
            for skin in (near(picture, SKIN) for picture in pictures)
        ]

    def _face(self, box):
        x, y, w, h = box.left, box.top, box.width, box.height
        points = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
        marks = tuple((x + a * w, y + b * h) for a, b in points)
        return Face(box=box, landmarks=marks, score=0.95)


class Embedder(Model):
    """Mean colour as features; the words are dog and rabbit."""

    words = ("dog", "rabbit")
    chances = (0.9, 0.0)

    def embed(self, pictures, faces=None):
        means = [np.append(picture.reshape(-1, 3).mean(0), 1.0) for picture in pictures]
        values = np.array(means, np.float32).reshape(len(means), 4)
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)

    def name(self, pictures):
        return np.tile(np.float32(self.chances), (len(pictures), 1))


class FaceEmbedder(Model):
    """Three features, all one."""

    def embed(self, pictures, faces):
        return np.ones((len(faces), 3), np.float32)


def grade(label="dog", score=0.9, chances=(0.9, 0.0), captioner=None):
    """A grade of these models; what subjects do not need is left as it is."""
    embedder = Embedder()
    embedder.chances = chances
    return replace(
        small_grade(),
        objects=Detector(label, score),
        masks=Segmenter(),
        people=Segmenter(),
        faces=Faces(),
        picture_embedders=(embedder,),
        face_embedders=(FaceEmbedder(),),
        captioner=captioner,
    )


def ground(count=6):
    """Empty frames (K, Y, X, 3)."""
    return np.full((count, *SIZE, 3), GROUND, np.uint8)


def walking(count=6, side=48, face=False):
    """Frames of a red square on its way to the right."""
    frames = ground(count)
    for k, frame in enumerate(frames):
        square(frame, 10 + 20 * k, 40, side, RED)
        if face:
            square(frame, 14 + 20 * k, 40, 40, SKIN)
    return frames
