"""The small models with their answers kept on disk, so that a metric can be tried again cheaply.

An answer is found again by the picture's pixels, what else was asked (boxes, faces) and the model.
Masks are kept in 255 levels, everything else as it is.
"""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from anyref.perception.contracts import Box, Detection, Face, Picture
from anyref.perception.small import Grade

Answer = Any
Pack = Callable[[Answer], bytes]
Unpack = Callable[[bytes], Answer]


@dataclass(frozen=True, eq=False)
class Memory:
    """Answers by key in one SQLite file."""

    base: sqlite3.Connection

    @classmethod
    def at(cls, path: Path) -> Memory:
        """The file, made where there is none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        base = sqlite3.connect(path, timeout=60)
        base.execute("create table if not exists answers (key text primary key, value blob)")
        return cls(base)

    def get(self, key: str) -> bytes | None:
        """What was kept under a key."""
        row = self.base.execute("select value from answers where key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def keep(self, key: str, value: bytes) -> None:
        """Keep, in place of what was kept before."""
        with self.base:
            self.base.execute("insert or replace into answers values (?, ?)", (key, value))


@dataclass(frozen=True, eq=False)
class Remembering:
    """A model of any role; calls go through the memory, other attributes to the model."""

    model: Any
    memory: Memory

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    @property
    def words(self) -> tuple[str, ...]:
        """Of a namer."""
        return tuple(self.model.words)

    def detect(self, pictures: Sequence[Picture], words: None = None) -> list[Any]:  # noqa: ARG002 - of the contract
        """Faces or objects."""
        reads = _detection if hasattr(self.model, "vocabulary") else _face
        return self._each(
            "detect",
            [(picture,) for picture in pictures],
            lambda some: self.model.detect([one[0] for one in some]),
            lambda found: json.dumps([asdict(one) for one in found]).encode(),
            lambda kept: tuple(reads(one) for one in json.loads(kept)),
        )

    def segment(
        self, pictures: Sequence[Picture], boxes: Sequence[Box | None] | None = None
    ) -> list[Any]:
        """Masks."""
        asked = [None] * len(pictures) if boxes is None else boxes
        return self._each(
            "segment",
            list(zip(pictures, asked, strict=True)),
            lambda some: self.model.segment([p for p, _ in some], [b for _, b in some]),
            lambda mask: _packed(np.rint(255 * mask).astype(np.uint8)),
            lambda kept: _unpacked(kept).astype(np.float32) / 255,
        )

    def embed(self, pictures: Sequence[Picture], faces: Sequence[Face] | None = None) -> Any:
        """Vectors of pictures, or of faces in them."""
        asked = (
            [(p,) for p in pictures] if faces is None else list(zip(pictures, faces, strict=True))
        )
        rows = self._each(
            "embed",
            asked,
            lambda some: self.model.embed(*(list(part) for part in zip(*some, strict=True))),
            _packed,
            _unpacked,
        )
        return np.stack(rows) if rows else self.model.embed(pictures)

    def name(self, pictures: Sequence[Picture]) -> Any:
        """Probabilities of words."""
        rows = self._each(
            "name",
            [(picture,) for picture in pictures],
            lambda some: self.model.name([one[0] for one in some]),
            _packed,
            _unpacked,
        )
        return np.stack(rows)

    def score(self, pictures: Sequence[Picture]) -> list[float]:
        """Marks of a quality model."""
        return self._each(
            "score",
            [(picture,) for picture in pictures],
            lambda some: self.model.score([one[0] for one in some]),
            lambda mark: json.dumps(mark).encode(),
            json.loads,
        )

    def _each(
        self, what: str, asked: Sequence[tuple[Any, ...]], ask: Any, pack: Pack, unpack: Unpack
    ) -> list[Any]:
        keys = [self._key(what, one) for one in asked]
        for key, one in zip(keys, asked, strict=True):
            if self.memory.get(key) is None:
                self.memory.keep(key, pack(ask([one])[0]))
        return [unpack(self.memory.get(key) or b"") for key in keys]

    def _key(self, what: str, asked: tuple[Any, ...]) -> str:
        card = self.model.card
        digest = hashlib.sha256(f"{card.name}/{card.sha256}/{what}".encode())
        for part in asked:
            if isinstance(part, np.ndarray):
                digest.update(f"{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
            else:
                digest.update(repr(part).encode())
        return digest.hexdigest()


def _packed(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, np.asarray(values))
    return buffer.getvalue()


def _unpacked(kept: bytes) -> Any:
    with np.load(io.BytesIO(kept), allow_pickle=False) as values:
        return values["arr_0"]


def _detection(said: dict[str, Any]) -> Detection:
    return Detection(box=Box(**said["box"]), label=said["label"], score=said["score"])


def _face(said: dict[str, Any]) -> Face:
    landmarks = tuple((x, y) for x, y in said["landmarks"])
    return Face(box=Box(**said["box"]), landmarks=landmarks, score=said["score"])


def remembering(models: Grade, path: Path) -> Grade:
    """A grade whose answers are kept in a file."""
    memory = Memory.at(path)

    def kept(model: Any) -> Any:
        return Remembering(model, memory)

    return replace(
        models,
        faces=kept(models.faces),
        face_embedders=tuple(map(kept, models.face_embedders)),
        objects=kept(models.objects),
        masks=kept(models.masks),
        people=kept(models.people),
        picture_embedders=tuple(map(kept, models.picture_embedders)),
        quality=kept(models.quality),
    )
