"""Captions from labels and tracks: plain, true, and worded by the record's id."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anyref.data.record import Caption, Span
from anyref.data.tracks import Movement
from anyref.perception.contracts import Box

TEMPLATE = Caption(text="-", kind="template", model="anyref-template/1")
MAX_NEAR = 0.12  # of the frame's width, between two boxes that are beside each other
MOVES: dict[Movement | None, tuple[str, ...]] = {
    Movement.RIGHT: ("moves to the right", "goes to the right", "moves from left to right"),
    Movement.LEFT: ("moves to the left", "goes to the left", "moves from right to left"),
    Movement.UP: ("moves up", "goes up", "moves upwards"),
    Movement.DOWN: ("moves down", "goes down", "moves downwards"),
    Movement.CLOSER: ("comes closer", "grows larger in the picture"),
    Movement.AWAY: ("moves away", "grows smaller in the picture"),
    Movement.STAY: ("stays in place", "remains in place", "stays where it is"),
    None: ("is seen", "appears", "can be seen"),
}
ORDINALS = ("another ", "a third ", "a fourth ", "a fifth ", "a sixth ", "one more ")


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a caption says of a subject.

    Args:
        box: in the main frame. width: of the frame, pixels.
    """

    label: str
    movement: Movement | None
    box: Box
    width: int


def describe(
    record_id: str, subjects: Sequence[Described], background: str | None = None
) -> tuple[str, list[Span], Span | None]:
    """One sentence on subjects, their ways and where they are, always the same for one record.

    Args:
        record_id: what the wording follows from. background: such as "green background".

    Returns:
        the text, the span of each subject's label, and that of the background.
    """
    rng = random.Random(f"caption {record_id}")
    text = ""
    spans: list[Span] = []
    for number, subject in enumerate(subjects):
        earlier = sum(other.label == subject.label for other in subjects[:number])
        text += _joint(number, len(subjects))
        text += _counted(earlier, subject.label)
        spans.append((len(text), len(text) + len(subject.label)))
        text += f"{subject.label} {rng.choice(MOVES[subject.movement])}"
        text += _place(subject, subjects[:number], rng)
    span = None
    if background is not None:
        text += rng.choice((" against ", " in front of ")) if subjects else "a clip of "
        text += f"{article(background)} "
        span = len(text), len(text) + len(background)
        text += background
    if not text:
        text = "a scene without a clear subject"
    return f"{text[0].upper()}{text[1:]}.", spans, span


def _counted(earlier: int, label: str) -> str:
    """What stands before a label of which so many were named: "a ", "another ", "a third "."""
    if earlier == 0:
        return f"{article(label)} "
    return ORDINALS[min(earlier, len(ORDINALS)) - 1]


def _joint(number: int, count: int) -> str:
    if number == 0:
        return ""
    return " and " if number == count - 1 else ", "


def _place(subject: Described, others: Sequence[Described], rng: random.Random) -> str:
    """Where the subject is: beside an earlier one, or at which side of the picture."""
    if subject.movement not in (Movement.STAY, None):
        return ""
    single = [o for o in others if sum(p.label == o.label for p in others) == 1]
    for other in single:
        gap = max(other.box.left - subject.box.right, subject.box.left - other.box.right)
        if 0 <= gap <= MAX_NEAR * subject.width and other.label != subject.label:
            return rng.choice((" beside the ", " next to the ")) + other.label
    middle = (subject.box.left + subject.box.right) / 2 / subject.width
    side = "left" if middle < 1 / 3 else "right" if middle > 2 / 3 else None
    return "" if side is None else f" on the {side}"


def article(words: str) -> str:
    """ "a" or "an", by the first letter."""
    return "an" if words[:1].lower() in "aeiou" else "a"


def background_words(visible: NDArray[np.uint8]) -> str:
    """The colour of pixels (N, 3) of a background in words: "dark green background"."""
    red, green, blue = (np.median(visible, axis=0) / 255).tolist()
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    shade = "dark " if value < 0.3 else "bright " if value > 0.8 else ""
    if saturation < 0.15:
        return f"{shade}grey background" if value < 0.85 else "white background"
    return f"{shade}{_hue_word(hue * 360)} background"


def _hue_word(degrees: float) -> str:
    limits = ((18, "red"), (45, "brown"), (70, "yellow"), (165, "green"), (185, "turquoise"))
    for limit, word in (*limits, (262, "blue"), (330, "purple")):
        if degrees < limit:
            return word
    return "red"
