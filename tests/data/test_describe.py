from __future__ import annotations

import numpy as np
import pytest

from anyref.data.describe import MOVES, Described, background_words, describe
from anyref.data.tracks import Movement
from anyref.perception.contracts import Box


def one(label, movement=Movement.STAY, left=80, right=120):
    return Described(label=label, movement=movement, box=Box(left, 0, right, 50), width=200)


def words(text, span):
    return text[slice(*span)]


@pytest.mark.parametrize("movement", list(MOVES))
def test_a_caption_says_the_way_of_the_subject(movement):
    text, spans, ground = describe("a", [one("owl", movement)])
    assert any(text == f"An owl {phrase}." for phrase in MOVES[movement])
    assert [words(text, span) for span in spans] == ["owl"]
    assert ground is None


def test_spans_name_each_subject_and_the_background():
    subjects = [one("rabbit", Movement.RIGHT), one("bird"), one("rabbit", None)]
    for number in range(20):
        text, spans, ground = describe(str(number), subjects, "green background")
        assert [words(text, span) for span in spans] == ["rabbit", "bird", "rabbit"]
        assert len(set(spans)) == 3
        assert words(text, ground) == "green background"
        assert "another rabbit" in text


def test_the_wording_follows_from_the_record():
    subjects = [one("rabbit", Movement.RIGHT), one("bird")]
    texts = [describe(str(number), subjects)[0] for number in range(20)]
    assert texts == [describe(str(number), subjects)[0] for number in range(20)]
    assert len(set(texts)) > 3


def test_a_subject_that_stays_is_placed_beside_another_or_at_its_side():
    text, *_ = describe("a", [one("rabbit", Movement.RIGHT, 80, 120), one("bird", None, 125, 150)])
    assert text.endswith(("beside the rabbit.", "next to the rabbit."))
    text, *_ = describe("a", [one("rabbit", Movement.STAY, 0, 40)])
    assert text.endswith("on the left.")


def test_a_clip_without_subjects_still_has_words():
    assert describe("a", [])[0] == "A scene without a clear subject."
    text, _, span = describe("a", [], "blue background")
    assert (text, words(text, span)) == ("A clip of a blue background.", "blue background")


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((60, 140, 50), "green background"),
        ((20, 30, 60), "dark blue background"),
        ((120, 120, 120), "grey background"),
        ((250, 250, 250), "white background"),
        ((110, 70, 40), "brown background"),
        ((140, 190, 250), "bright blue background"),
    ],
)
def test_a_background_is_named_by_its_colour(colour, expected):
    assert background_words(np.full((9, 3), colour, np.uint8)) == expected
