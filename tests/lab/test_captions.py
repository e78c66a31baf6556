from __future__ import annotations

import random
import re

import pytest

from anyref.errors import LabError
from anyref.lab.captions import PHRASES, Motion, caption
from anyref.request import MENTION_PATTERN


def test_mentions_come_in_order_with_the_background_somewhere():
    rng = random.Random(0)
    subjects = [("fox", Motion.RIGHT), ("old_car", Motion.STAY)]
    for _ in range(200):
        mentions = MENTION_PATTERN.findall(caption(rng, subjects, "beach"))
        assert sorted(mentions) == ["beach", "fox", "old_car"]
        assert mentions.index("fox") < mentions.index("old_car")


def test_no_phrase_describes_two_motions():
    phrases = [phrase for motion in Motion for phrase in PHRASES[motion]]
    assert len(phrases) == len(set(phrases))
    assert not any("left" in p and "right" not in p for p in PHRASES[Motion.RIGHT])


def test_wording_varies():
    rng = random.Random(0)
    for motion in Motion:
        captions = {caption(rng, [("fox", motion)], "beach") for _ in range(300)}
        assert len(captions) > 60


def test_the_article_fits_the_noun():
    rng = random.Random(0)
    text = " ".join(
        caption(rng, [("owl", Motion.UP), ("glasses", Motion.STAY)], "pier") for _ in range(200)
    )
    assert "an @owl" in text
    assert "a @pier" in text
    wet = {caption(rng, [("fox", Motion.UP)], "deep_water") for _ in range(100)}
    assert not any("a @deep_water" in text for text in wet)
    assert not re.search(r"\ba @owl|\ban @pier|\ba @glasses", text)


def test_nothing_goes_across_a_place_while_it_stays():
    rng = random.Random(0)
    assert not any("across" in caption(rng, [("fox", Motion.STAY)], "beach") for _ in range(300))


def test_a_caption_without_subjects_is_refused():
    with pytest.raises(LabError, match="at least one subject"):
        caption(random.Random(0), [], "beach")
