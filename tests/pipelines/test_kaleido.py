"""Kaleido: reference tokens, their positions and sizes."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from PIL import Image

import tiny
from anyref import Reference
from anyref.errors import ReferencesError, SizeError
from anyref.models.positions import ReferenceRotaryPosEmbed
from anyref.pipelines.kaleido import reference_shape
from anyref.request import PixelShape

PICTURES = [tiny.picture("red"), tiny.picture("green", (30, 60)), tiny.picture("blue")]


@pytest.fixture(scope="module")
def pipe():
    return tiny.kaleido()


def latents_of(pipe, references, **options):
    return pipe(
        "a",
        references=references,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        **options,
    ).frames


@pytest.mark.parametrize(("offset", "start"), [(80, (80, 80)), ("video", (4, 6))])
def test_reference_patches_sit_past_the_video(offset, start):
    rope = ReferenceRotaryPosEmbed(12, (1, 2, 2), 128)
    wan = WanRotaryPosEmbed(12, (1, 2, 2), 128)
    video = torch.zeros(1, 16, 3, 8, 12)
    cos, sin = rope(video, [(2, 3), (4, 1)], offset)
    wide = [table.reshape(3, 100, 100, 12) for table in wan(torch.zeros(1, 1, 3, 200, 200))]
    for found, table, plain in zip((cos, sin), wide, wan(video), strict=True):
        first = table[0, start[0] : start[0] + 2, start[1] : start[1] + 3].reshape(-1, 12)
        second = table[1, start[0] : start[0] + 4, start[1] : start[1] + 1].reshape(-1, 12)
        assert torch.equal(found[0, :6, 0], first)
        assert torch.equal(found[0, 6:10, 0], second)
        assert torch.equal(found[:, 10:], plain)


def test_a_position_past_the_table_is_refused(pipe):
    with pytest.raises(SizeError, match="rotary table holds 128"):
        latents_of(pipe, PICTURES[:1], reference_offset=126)
    with pytest.raises(SizeError, match="whole number"):
        latents_of(pipe, PICTURES[:1], reference_offset=-1)


def test_every_reference_and_its_order_change_the_video(pipe):
    one, two = latents_of(pipe, PICTURES[:1]), latents_of(pipe, PICTURES[:2])
    assert not torch.equal(one, two)
    assert not torch.equal(two, latents_of(pipe, PICTURES[1::-1]))
    assert not torch.equal(
        latents_of(pipe, PICTURES), latents_of(pipe, [*PICTURES[:2], PICTURES[0]])
    )


def test_offsets_and_sizes_are_options_that_act(pipe):
    plain = latents_of(pipe, PICTURES[:1])
    assert not torch.equal(plain, latents_of(pipe, PICTURES[:1], reference_offset="video"))
    assert not torch.equal(plain, latents_of(pipe, PICTURES[:1], reference_size="native"))


def test_native_sizes_keep_the_aspect_ratio_in_whole_tokens():
    shape = PixelShape(17, 64, 96)
    assert reference_shape(PICTURES[1], shape, "letterbox", 1.0, 16) == (64, 96)
    assert reference_shape(PICTURES[1], shape, "native", 1.0, 16) == (64, 32)
    assert reference_shape(PICTURES[0], shape, "native", 0.25, 16) == (32, 48)


def test_references_are_encoded_one_by_one(pipe, monkeypatch):
    sizes, plain = [], pipe.vae.encode

    def encode(frames):
        sizes.append(tuple(frames.shape))
        return plain(frames)

    monkeypatch.setattr(pipe.vae, "encode", encode)
    pipe.encodings.clear()
    latents_of(pipe, PICTURES)
    assert sizes == [(1, 3, 1, 64, 96)] * 3


def test_latents_of_another_shape_are_refused(pipe):
    with pytest.raises(ReferencesError, match="multiple of 2"):
        latents_of(pipe, None, reference_latents=[torch.zeros(1, 16, 1, 3, 4)])
    with pytest.raises(ReferencesError, match="not both"):
        latents_of(pipe, PICTURES[:1], reference_latents=[torch.zeros(1, 16, 1, 4, 4)])


def test_reference_tokens_get_gradients_and_leave_before_the_loss(pipe):
    transformer = tiny.kaleido().transformer.train()
    reference = torch.randn(1, 16, 1, 4, 4, requires_grad=True)
    out = transformer(
        torch.randn(1, 16, 5, 8, 12),
        torch.tensor([500.0]),
        torch.randn(1, 8, 16),
        reference_hidden_states=[reference],
        return_dict=False,
    )[0]
    assert out.shape == (1, 16, 5, 8, 12)
    out.square().mean().backward()
    assert reference.grad.abs().sum() > 0


@pytest.mark.parametrize("size", ["letterbox", "native"])
def test_a_mask_cuts_the_subject_out_on_white(pipe, size):
    picture = Image.new("RGB", (96, 64), "red")
    mask = Image.new("L", (96, 64), 0)
    mask.paste(255, (0, 0, 48, 64))
    reference = Reference([picture], "fox", mask=mask)
    made = pipe.condition([reference], PixelShape(17, 64, 96), reference_size=size)
    shown = made.pictures["reference_0"]
    assert (shown.getpixel((10, 32)), shown.getpixel((80, 32))) == ((255, 0, 0), (255, 255, 255))
