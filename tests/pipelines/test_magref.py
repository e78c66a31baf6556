"""MAGREF: canvas, mask, placement, lead frames."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from anyref import Reference
from anyref.errors import ReferencesError, RequestError
from anyref.pipelines.magref import CLIP_MEAN, canvas_cells, default_layout


@pytest.fixture(scope="module")
def pipe():
    return tiny.magref()


PICTURES = [tiny.picture(color) for color in ("red", "green", "blue")]


def test_the_published_grid_is_used_for_every_count():
    counts = [len(canvas_cells("grid", n, 480, 832)) for n in range(1, 9)]
    assert counts == [1, 2, 3, 4, 6, 6, 8, 8]
    assert canvas_cells("grid", 3, 480, 832)[1] == (277, 0, 554, 480)


def test_columns_are_three_and_one_picture_stands_in_the_centre():
    assert canvas_cells("columns", 1, 480, 832) == [(277, 0, 555, 480)]
    assert len(canvas_cells("columns", 2, 480, 832)) == 3
    with pytest.raises(ReferencesError, match="use layout 'grid'"):
        canvas_cells("columns", 4, 480, 832)
    assert [default_layout(n) for n in (3, 4)] == ["columns", "grid"]


def test_boxes_of_your_own_are_fractions_of_the_canvas(pipe):
    canvas, mask = pipe.make_canvas(
        [Image.new("RGB", (10, 10), "red")], 64, 96, layout=[(0.5, 0.0, 1.0, 1.0)]
    )
    assert canvas.getpixel((70, 32)) == (255, 0, 0)
    assert canvas.getpixel((10, 32)) == (255, 255, 255)
    assert mask.shape == (8, 12)
    assert not mask[:, :6].any()
    with pytest.raises(ReferencesError, match="one box per picture"):
        pipe.make_canvas(PICTURES, 64, 96, layout=[(0, 0, 1, 1)])
    with pytest.raises(ReferencesError, match="not inside"):
        pipe.make_canvas(PICTURES[:1], 64, 96, layout=[(0.5, 0, 0.2, 1)])


@pytest.mark.parametrize("layout", ["grid", "columns"])
def test_seeds_move_pictures_only_when_shuffling_is_on(pipe, layout):
    def canvases(shuffle):
        return {
            pipe.make_canvas(PICTURES, 64, 96, layout, shuffle, seed)[0].tobytes()
            for seed in range(6)
        }

    assert len(canvases(False)) == 1
    assert len(canvases(True)) > 1


def test_no_reference_at_all_is_refused(pipe):
    with pytest.raises(ReferencesError, match="at least one"):
        pipe("a", references=[])
    with pytest.raises(ReferencesError, match="at most 8"):
        pipe("a", references=[PICTURES[0]] * 9)


def test_mask_comes_before_canvas_latents_and_only_in_the_first_frame(pipe):
    from anyref.request import PixelShape

    shape = PixelShape(17, 64, 96)
    made = pipe.condition([Reference(PICTURES[0])], shape, layout="columns")
    assert made.channels.shape == (1, 20, 5, 8, 12)
    mask = made.channels[0, :4]
    assert torch.equal(mask[:, 0], mask[:1, 0].expand(4, -1, -1))
    assert set(mask[:, 0].unique().tolist()) == {0.0, 1.0}
    assert not mask[:, 1:].any()


def test_lead_frames_are_cut_from_decoded_output_only(pipe):
    options = {"references": PICTURES[:1], "guidance_scale": 1.0}
    assert pipe("a", **options).frames.shape == (1, 13, 64, 96, 3)
    assert pipe("a", output_type="latent", **options).frames.shape == (1, 16, 5, 8, 12)


def test_every_step_sees_the_request_once_encoded(pipe, monkeypatch):
    calls = {"text": 0, "canvas": 0}
    plain_text, plain_video = pipe.text_encoder.forward, pipe.vae.encode

    def count(name, function):
        def wrapped(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(pipe.text_encoder, "forward", count("text", plain_text))
    monkeypatch.setattr(pipe.vae, "encode", count("canvas", plain_video))
    pipe("a", references=PICTURES[:2], num_inference_steps=4, output_type="latent")
    assert calls == {"text": 2, "canvas": 1}  # the prompt and the negative prompt; the canvas


def test_clip_sees_the_whole_canvas_squashed():
    pipe = tiny.magref(clip=True)
    seen = []
    pipe.image_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True
    )
    canvas = Image.new("RGB", (96, 64), "white")
    canvas.paste((0, 0, 0), (0, 0, 8, 64))  # a crop to the centre would not see this
    tokens = pipe.encode_image(canvas)
    assert tokens.shape == (1, 17, 16)
    left, right = seen[0][0, 0, 112, 4], seen[0][0, 0, 112, 200]
    assert right - left == pytest.approx(1 / 0.26862954, abs=0.1)
    assert CLIP_MEAN[0] == 0.48145466


def test_an_option_of_the_other_family_is_refused(pipe):
    with pytest.raises(TypeError, match="reference_offset"):
        pipe("a", references=PICTURES[:1], reference_offset=80)
    with pytest.raises(RequestError, match="latents are"):
        pipe("a", references=PICTURES[:1], latents=torch.zeros(1, 16, 5, 8, 8))


def test_output_types_agree(pipe):
    def video(output_type):
        return pipe(
            "a",
            references=PICTURES[:1],
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(1),
            output_type=output_type,
        ).frames

    assert np.allclose(video("np")[0], video("pt")[0].permute(0, 2, 3, 1).numpy())
    assert len(video("pil")[0]) == 13
