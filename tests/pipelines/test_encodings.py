"""What was encoded is not encoded again, unless it or the encoder has changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny
from anyref import generate
from anyref.pipelines.encodings import Encodings, picture_key


@pytest.fixture
def calls(monkeypatch):
    """Counts of encoder calls, and the function that watches a pipeline."""
    counts = {}

    def watch(pipe):
        for name, owner, attribute in (
            ("text", pipe.text_encoder, "forward"),
            ("vae", pipe.vae.quant_conv, "forward"),
            ("clip", getattr(pipe, "image_encoder", None), "forward"),
        ):
            counts[name] = 0
            if owner is not None:
                plain = getattr(owner, attribute)

                def counted(*args, name=name, plain=plain, **kwargs):
                    counts[name] += 1
                    return plain(*args, **kwargs)

                monkeypatch.setattr(owner, attribute, counted)
        return counts

    return watch


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (lambda: tiny.magref(clip=True, layout="columns"), {"text": 2, "vae": 1, "clip": 1}),
        (tiny.kaleido, {"text": 2, "vae": 2, "clip": 0}),
    ],
)
def test_a_second_request_encodes_only_what_is_new(make, first, calls):
    pipe = make()
    counts = calls(pipe)
    once = generate(pipe, tiny.request()).frames
    assert counts == first
    assert np.array_equal(generate(pipe, tiny.request()).frames, once)
    assert counts == first
    generate(pipe, tiny.request(negative_prompt="another"))
    assert counts == first | {"text": first["text"] + 1}


@pytest.mark.parametrize("part", ["text_encoder", "vae"])
def test_weights_written_to_are_noticed(part):
    pipe = tiny.kaleido()
    before = generate(pipe, tiny.request()).frames
    with torch.no_grad():
        for parameter in getattr(pipe, part).parameters():
            parameter.mul_(1.3)
    after = generate(pipe, tiny.request()).frames
    pipe.encodings.clear()
    assert not np.array_equal(before, after)
    assert np.array_equal(generate(pipe, tiny.request()).frames, after)


@torch.no_grad()
def test_the_oldest_values_are_forgotten_first():
    encodings, module = Encodings(capacity=2), torch.nn.Linear(1, 1)
    made = []

    def get(key):
        return encodings.get(module, key, lambda: made.append(key) or torch.zeros(1))

    for key in ("a", "b", "a", "c", "a", "b"):
        get(key)
    assert made == ["a", "b", "c", "b"]


@torch.no_grad()
def test_another_module_at_the_same_place_does_not_inherit_values():
    encodings, made = Encodings(), []
    for number in range(2):
        module = torch.nn.Linear(1, 1)
        encodings.get(module, "key", lambda number=number: made.append(number) or torch.zeros(1))
    assert made == [0, 1]


def test_pictures_are_told_apart_by_every_pixel():
    picture = tiny.picture()
    other = picture.copy()
    other.putpixel((39, 29), (255, 0, 1))
    assert picture_key(picture) == picture_key(picture.copy()) != picture_key(other)


def test_an_encoder_in_training_is_asked_every_time():
    pipe = tiny.kaleido()
    for _ in range(2):  # a kept value would have lost its graph
        pipe._get_t5_prompt_embeds("the fox", max_sequence_length=8).sum().backward()
    embeds = pipe._get_t5_prompt_embeds("the fox", max_sequence_length=8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(pipe._get_t5_prompt_embeds("the fox", max_sequence_length=8), embeds)
