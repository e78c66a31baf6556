"""Captions that say who moves where, in the request's own mention syntax."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import Enum

from anyref.errors import LabError


class Motion(Enum):
    """What a subject does; the caption and the geometry of `world` both follow from it."""

    RIGHT = "right"
    LEFT = "left"
    UP = "up"
    DOWN = "down"
    STAY = "stay"


_SIDEWAYS = (
    "walks",
    "moves",
    "goes",
    "runs",
    "slides",
    "drives",
    "travels",
    "heads",
    "glides",
    "passes",
    "is moving",
    "is going",
)
_WAYS = ("{way}", "to the {way}", "towards the {way}", "from {back} to {way}")

_VERTICAL = {
    Motion.UP: (
        "rises",
        "goes up",
        "climbs",
        "floats up",
        "moves up",
        "flies upwards",
        "rises to the top",
        "moves from bottom to top",
        "is going up",
    ),
    Motion.DOWN: (
        "falls",
        "goes down",
        "sinks",
        "drops",
        "moves down",
        "comes down",
        "sinks to the bottom",
        "moves from top to bottom",
        "is going down",
    ),
    Motion.STAY: (
        "stays",
        "stands still",
        "waits",
        "stays in place",
        "does not move",
        "remains still",
        "rests",
        "keeps still",
    ),
}
_BACK = {Motion.RIGHT: "left", Motion.LEFT: "right"}

PREPOSITIONS = ("on", "in", "at", "over", "in front of", "against")
UNCOUNTABLE = frozenset({"bread", "grass", "gravel", "ground", "ice", "rice", "rock", "water"})
CROSSING = "across"  # only something that travels goes across

PHRASES: dict[Motion, tuple[str, ...]] = _VERTICAL | {
    motion: tuple(
        f"{verb} {way.format(way=motion.value, back=back)}" for verb in _SIDEWAYS for way in _WAYS
    )
    for motion, back in _BACK.items()
}


def caption(
    rng: random.Random, subjects: Sequence[tuple[str, Motion]], background: str | None = None
) -> str:
    """One plain English sentence that mentions every subject, its motion and the background.

    Args:
        subjects: reference name and motion of each, in the order in which they are named.
        background: reference name of the scene, or None for none.

    Raises:
        LabError: without subjects.
    """
    if not subjects:
        raise LabError("a caption needs at least one subject, got none; name who moves")
    clauses = [
        f"{_article(rng, name)} @{name} {rng.choice(PHRASES[motion])}" for name, motion in subjects
    ]
    sentence = ", ".join(clauses)
    if len(clauses) > 1 and rng.random() < 0.5:
        joint = rng.choice((" and ", " while "))
        sentence = ", ".join(clauses[:-1]) + joint + clauses[-1]
    if background is None:
        return sentence
    travels = len(subjects) == 1 and subjects[0][1] in _BACK
    place = rng.choice((*PREPOSITIONS, CROSSING) if travels else PREPOSITIONS)
    where = f"{place} {_article(rng, background)} @{background}"
    if rng.random() < 0.25:
        return f"{where}, {sentence}"
    return f"{sentence}{', ' if len(subjects) > 1 else ' '}{where}"


def _article(rng: random.Random, name: str) -> str:
    plural = name.endswith("s") and not name.endswith(("ss", "us", "is"))
    uncountable = name.rpartition("_")[2] in UNCOUNTABLE
    if plural or uncountable or rng.random() < 0.5:
        return "the"
    return "an" if name[0] in "aeiou" else "a"
