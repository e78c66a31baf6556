"""Subjects and backgrounds of the cutout world, split by identity.

A subject is a picture with alpha: the 3D renders of Fluent Emoji (named by OpenMoji's annotations)
and the photographs of Tux Paint (named by their English sentence). A background is a scene of
`backgrounds.SCENES`. The split is decided by a hash of the identity, so that files added later
never move one; all skin tones, genders and twins of a design share one identity.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from anyref.errors import LabError
from anyref.lab.backgrounds import SCENES
from anyref.lab.sources import (
    FLUENT,
    FLUENT_ANIMATED,
    OPENMOJI,
    TUX_PAINT,
    default_cache,
    package_folder,
)
from anyref.media import write_atomically

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SubjectKind = Literal["object", "human"]

FLUENT_GROUPS = frozenset(
    [
        "activities",
        "animals-nature",
        "food-drink",
        "objects",
        "people-body",
        "smileys-emotion",
        "travel-places",
    ]
)
TUX_PAINT_GROUPS = frozenset(
    [
        "animals",
        "food",
        "hobbies",
        "household",
        "medical",
        "military",
        "plants",
        "space",
        "sports",
        "vehicles",
    ]
)
UNWANTED = frozenset({"middle finger", "face vomiting", "pile of poo"})
TUX_PAINT_PEOPLE = frozenset({"fireman", "paratrooper", "astronaut"})
MIN_SIDE_PX = 96  # longer side of the opaque part of a photograph
REDRAWN = 0.02  # mean RGBA difference to the nearest frame above which an animation is redrawn
MAX_WORDS = 3

FACES = {  # where the cut leaves no more than "face"
    "face with tears of joy": "laughing face",
    "face with steam from nose": "huffing face",
    "face with open mouth": "gaping face",
    "face with spiral eyes": "dizzy face",
    "face with crossed-out eyes": "fainted face",
    "face with medical mask": "masked face",
    "face with rolling eyes": "bored face",
    "face with raised eyebrow": "doubting face",
    "face with symbols on mouth": "cursing face",
    "face with hand over mouth": "giggling face",
    "face with open eyes and hand over mouth": "startled face",
    "face with peeking eye": "peeking face",
    "face with diagonal mouth": "uneasy face",
    "face holding back tears": "tearful face",
    "face screaming in fear": "screaming face",
    "face blowing a kiss": "kissing face",
}

_SKIN_TONES = frozenset(f"1f3f{digit}" for digit in "bcdef")
_PEOPLE = {"1f468": "1f9d1", "1f469": "1f9d1"}
_NUMBER = re.compile(r"\d+")
_NOT_IN_NAMES = frozenset(["a", "an", "the", "it", "your", "we"])
_ARTICLE = re.compile(r"^(?:an?|the|our|two|some|this)\s+(?:very\s+)?", re.IGNORECASE)
_CLAUSE_END = re.compile(
    r"[.,:;!?(—]|\s(?:with|in|at|to|for|from|used|covered|resembles|lets|making|like|that|but|as|holding"
    r"|playing|fluttering|pointing|increasing|blowing|screaming|tilted|on|behind|gets|last|is)\s"
)


@dataclass(frozen=True)
class Subject:
    """One cut-out: a picture with alpha and, when it moves, an animation of the same thing."""

    key: str
    name: str
    identity: str
    kind: SubjectKind
    group: str
    picture: Path
    animation: Path | None
    licence: str
    package: str
    split: Split


@dataclass(frozen=True)
class Background:
    """One scene."""

    key: str
    name: str
    identity: str
    picture: Path
    licence: str
    package: str
    split: Split


@dataclass(frozen=True)
class Catalog:
    """Everything the world can be composed of, and the cache it lives in."""

    cache: Path
    all_subjects: tuple[Subject, ...]
    all_backgrounds: tuple[Background, ...]

    def __post_init__(self) -> None:
        for split in SPLITS:
            object.__setattr__(self, f"_subjects_{split}", _of(self.all_subjects, split))
            object.__setattr__(self, f"_backgrounds_{split}", _of(self.all_backgrounds, split))

    def subjects(self, split: Split) -> tuple[Subject, ...]:
        """The split's subjects, in a fixed order."""
        return getattr(self, f"_subjects_{_checked(split)}")

    def backgrounds(self, split: Split) -> tuple[Background, ...]:
        """The split's backgrounds, in a fixed order."""
        return getattr(self, f"_backgrounds_{_checked(split)}")

    def counts(self) -> dict[Split, dict[str, int]]:
        """Per split: subjects, their identities, animated subjects, backgrounds."""
        return {
            split: {
                "subjects": len(self.subjects(split)),
                "identities": len({s.identity for s in self.subjects(split)}),
                "animated": sum(s.animation is not None for s in self.subjects(split)),
                "backgrounds": len(self.backgrounds(split)),
            }
            for split in SPLITS
        }


def _of(entries: tuple, split: Split) -> tuple:
    return tuple(entry for entry in entries if entry.split == split)


def _checked(split: str) -> str:
    if split not in SPLITS:
        raise LabError(f"split {split!r} is none of {', '.join(SPLITS)}; name one of these")
    return split


def split_of(identity: str) -> Split:
    """The side an identity belongs to: 80 % train, 10 % validation, 10 % test."""
    bucket = int(hashlib.sha256(identity.encode()).hexdigest()[:8], 16) % 100
    return "train" if bucket < 80 else "validation" if bucket < 90 else "test"


def slug(name: str) -> str:
    """A name as a reference name: "red fox" -> "red_fox"."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    word = re.sub(r"[^a-z0-9]+", "_", ascii_name).strip("_")
    return word if word[:1].isalpha() else f"the_{word}".rstrip("_")


def fluent_identity(codepoints: str) -> str:
    """The family of a design: its codepoints less variation, skin tone, gender and direction."""
    parts = [p for p in codepoints.split("-") if p != "fe0f" and p not in _SKIN_TONES]
    family = "-".join(_PEOPLE.get(part, part) for part in parts)
    return re.sub(r"-200d-(?:2640|2642|27a1)", "", family)


def noun_phrase(text: str) -> str:
    """The thing a label or sentence names: lower case, no article, at most three words."""
    phrase = _ARTICLE.sub("", text.strip())
    phrase = _CLAUSE_END.split(phrase + " ")[0]
    phrase = re.sub(r"[“”\"'’]+(?!s\b)", "", phrase).lower().replace("-", " ")
    if len(phrase.split()) > MAX_WORDS and " of " in phrase:
        phrase = _ARTICLE.sub("", phrase.split(" of ", 1)[1])
    return " ".join(phrase.replace("’", "'").split()[-MAX_WORDS:])


def fluent_name(annotation: str) -> str:
    """A Fluent design's name from its OpenMoji annotation."""
    head, _, detail = annotation.partition(": ")
    if detail and head in {"man", "woman", "person"}:
        return f"{detail} {head}".replace("beard ", "bearded ").replace("hair ", "haired ")
    name = annotation if len(annotation.split()) <= MAX_WORDS and not detail else noun_phrase(head)
    name = name.lower().replace("’", "'")
    if "face" in annotation and "face" not in name:
        return f"{name} face"
    return FACES.get(annotation, name)


def tux_paint_name(sentence: str, stem: str) -> str:
    """A stamp's name from its sentence, or from its file name when it is a slogan."""
    phrase = noun_phrase(sentence)
    words = set(re.findall(r"[a-z]+", phrase))
    short = len(_CLAUSE_END.split(sentence + " ")[0].split()) <= MAX_WORDS
    if _ARTICLE.match(sentence) or (short and "!" not in sentence and not words & _NOT_IN_NAMES):
        return phrase
    words_of_file = _NUMBER.sub("", stem).replace("_", " ").replace("-", " ").lower().split()
    return " ".join(words_of_file[-MAX_WORDS:])


def load_catalog(cache: Path | None = None) -> Catalog:
    """Every subject and background of the fetched packages.

    The first call measures the pictures (about half a minute) and keeps the numbers in the cache.

    Raises:
        LabError: when a package has not been fetched.
    """
    cache = default_cache() if cache is None else cache
    for package in (FLUENT, *FLUENT_ANIMATED, OPENMOJI, TUX_PAINT, *SCENES):
        if not package_folder(package, cache).is_dir():
            raise LabError(
                f"{package.pin} is not in {str(cache)!r}; fetch the packages with "
                "anyref.lab.sources.fetch_all()"
            )
    measures = _Measures(cache)
    subjects = (*_fluent_subjects(cache, measures), *_tux_paint_subjects(cache, measures))
    measures.save()
    return Catalog(cache, subjects, tuple(_backgrounds(cache)))


def _fluent_subjects(cache: Path, measures: _Measures) -> Iterator[Subject]:
    folder = package_folder(FLUENT, cache) / "package/assets"
    animated = [package_folder(package, cache) / "package/assets" for package in FLUENT_ANIMATED]
    labels = json.loads((package_folder(OPENMOJI, cache) / OPENMOJI.members[0]).read_text())
    by_codepoints = {_bare(entry["hexcode"].lower()): entry for entry in labels}
    for picture in sorted(folder.glob("*.webp")):
        label = by_codepoints.get(_bare(picture.stem))
        if label is None or label["group"] not in FLUENT_GROUPS or label.get("skintone"):
            continue
        if label["annotation"] in UNWANTED:
            continue
        candidates = [a / picture.name for a in animated if (a / picture.name).is_file()]
        animation = candidates[0] if candidates else None
        if animation is not None and not measures.shows_same(picture, animation):
            animation = None
        human = label["group"] == "people-body" and label["subgroups"].startswith(
            ("person", "family")
        )
        identity = fluent_identity(picture.stem)
        yield Subject(
            key=f"fluent/{picture.stem}",
            name=fluent_name(label["annotation"]),
            identity=identity,
            kind="human" if human else "object",
            group=label["subgroups"],
            picture=picture,
            animation=animation,
            licence=FLUENT.licence,
            package=FLUENT.pin,
            split=split_of(identity),
        )


def _tux_paint_subjects(cache: Path, measures: _Measures) -> Iterator[Subject]:
    root = package_folder(TUX_PAINT, cache) / "usr/share/tuxpaint/stamps"
    for picture in sorted(root.rglob("*.png")):
        relative = picture.relative_to(root)
        text = picture.with_suffix(".txt")
        if relative.parts[0] not in TUX_PAINT_GROUPS or "cartoon" in relative.parts:
            continue
        if not text.is_file() or measures.opaque_side(picture) < MIN_SIDE_PX:
            continue
        sentence = text.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
        name = tux_paint_name(sentence, picture.stem)
        if not name:
            continue
        yield Subject(
            key=f"tuxpaint/{relative.with_suffix('').as_posix()}",
            name=name,
            identity=sentence,
            kind="human" if name in TUX_PAINT_PEOPLE else "object",
            group="/".join(relative.parts[:-1]),
            picture=picture,
            animation=None,
            licence=TUX_PAINT.licence,
            package=TUX_PAINT.pin,
            split=split_of(sentence),
        )


def _backgrounds(cache: Path) -> Iterator[Background]:
    for package, scenes in SCENES.items():
        for file, name, *licence in scenes:
            picture = package_folder(package, cache) / file
            # Plasma names the folder after the picture and the file after its size.
            stem = picture.parents[2].name if "contents" in picture.parts else picture.stem
            identity = f"{package.name}/{stem}"
            yield Background(
                key=identity,
                name=name,
                identity=identity,
                picture=picture,
                licence=licence[0] if licence else package.licence,
                package=package.pin,
                split=split_of(identity),
            )


def _bare(codepoints: str) -> str:
    return codepoints.replace("-fe0f", "")


class _Measures:
    """What had to be measured on pictures, remembered in the cache by path."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.file = cache / "prepared/measures.json"
        self.known: dict[str, float] = json.loads(self.file.read_text()) if self.exists else {}
        self.before = len(self.known)

    @property
    def exists(self) -> bool:
        return self.file.is_file()

    def save(self) -> None:
        if len(self.known) != self.before:
            text = json.dumps(self.known, indent=0).encode()
            write_atomically(self.file, lambda file: file.write(text))

    def opaque_side(self, picture: Path) -> float:
        """Longer side in pixels of the part with alpha, 0 when nothing is transparent."""
        key = picture.relative_to(self.cache).as_posix()
        if key not in self.known:
            self.known[key] = _opaque_side(picture)
        return self.known[key]

    def shows_same(self, picture: Path, animation: Path) -> bool:
        """Whether the animation moves and some frame of it is the picture, not a new drawing."""
        key = animation.relative_to(self.cache).as_posix()
        if key not in self.known:
            self.known[key] = _nearest_frame(picture, animation)
        return self.known[key] < REDRAWN


def _opaque_side(picture: Path) -> float:
    with Image.open(picture) as image:
        if image.mode not in {"RGBA", "LA", "PA", "P"}:
            return 0.0
        opaque = np.asarray(image.convert("RGBA").getchannel("A")) > 127  # (Y, X)
    if opaque.all() or not opaque.any():
        return 0.0
    rows, columns = opaque.nonzero()
    return float(1 + max(np.ptp(rows), np.ptp(columns)))


def _nearest_frame(picture: Path, animation: Path) -> float:
    """Mean premultiplied RGBA difference at 64 x 64 to the nearest frame; 1.0 for a still."""
    with Image.open(picture) as still, Image.open(animation) as frames:
        count = getattr(frames, "n_frames", 1)
        if count < 2:
            return 1.0
        target = _small(still)  # (64, 64, 4) in 0..1
        nearest = 1.0
        for index in range(0, count, 4):
            frames.seek(index)
            nearest = min(nearest, float(np.abs(_small(frames) - target).mean()))
    return nearest


def _small(image: Image.Image) -> np.ndarray:
    small = image.convert("RGBA").resize((64, 64), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float32) / 255
    pixels[..., :3] *= pixels[..., 3:]
    return pixels
