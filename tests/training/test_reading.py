from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from anyref.lab.captions import Motion
from anyref.models.presets import tiny_text_encoder
from anyref.training.reading import (
    MOTIONS,
    Reading,
    draw_sentences,
    learn_to_read,
    understood,
)
from anyref.training.wording import make_tokenizer, template_words

SIDEWAYS = {MOTIONS.index(Motion.LEFT), MOTIONS.index(Motion.RIGHT)}
torch.set_flush_denormal(True)  # the loss nears 0, and slow numbers with it


@pytest.fixture
def catalog():
    """Names of two splits that share none."""
    names = {"train": ("red_fox", "owl", "old-elk"), "test": ("grey_cat", "hen", "eel")}
    places = {"train": ("beach",), "test": ("dune",)}

    def named(words):
        return lambda split: [SimpleNamespace(name=name) for name in words[split]]

    return SimpleNamespace(subjects=named(names), backgrounds=named(places))


@pytest.mark.parametrize("subjects", [1, 2, 3])
def test_sentences_are_plain_words_with_one_motion_per_subject(catalog, subjects):
    texts, motions = draw_sentences(random.Random(0), catalog, "train", 40, subjects)
    assert motions.shape == (40, subjects)
    assert not any(set("@_") & set(text) for text in texts)
    for text, row in zip(texts, motions.tolist(), strict=True):
        assert ("left" in text or "right" in text) == bool(set(row) & SIDEWAYS)


def test_an_encoder_learns_which_subject_moves_how(catalog):
    texts = []
    for subjects in (1, 2, 3):
        texts += draw_sentences(random.Random(1), catalog, "train", 300, subjects)[0]
    tokenizer = make_tokenizer(template_words(texts, least=10), 80)
    torch.manual_seed(0)
    encoder = tiny_text_encoder(len(tokenizer))
    how = Reading(steps=150, batch=24, rate=2e-3)
    reader = learn_to_read(encoder, tokenizer, catalog, how, lambda _, __: None)
    one, two, _ = understood(encoder, reader, tokenizer, catalog, "test", count=100)
    assert one > 0.9
    assert two > 0.7  # guessing gives 0.33; knowing the motions but not whose, about 0.6
