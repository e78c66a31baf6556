"""MAGREF: canvas, mask, placement, lead frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from anyref import Reference, Request, generate
from anyref.errors import PromptError, ReferencesError, RequestError
from anyref.models.disentanglement import Disentanglement
from anyref.pipelines.canvas import canvas_cells, default_layout
from anyref.pipelines.magref import CLIP_MEAN
from anyref.request import PixelShape


@pytest.fixture(scope="module")
def pipe():
    return tiny.magref()


SHAPE = PixelShape(17, 64, 96)
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


def test_quarters_keep_a_picture_where_it_is_whatever_the_count():
    assert {tuple(canvas_cells("quarters", n, 480, 832)) for n in range(1, 5)} == {
        ((0, 0, 416, 240), (416, 0, 832, 240), (0, 240, 416, 480), (416, 240, 832, 480))
    }
    with pytest.raises(ReferencesError, match="'quarters' holds 4 pictures, 5 given"):
        canvas_cells("quarters", 5, 480, 832)


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
    made = pipe.condition([Reference(PICTURES[0])], SHAPE, layout="columns")
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
    plain_text, plain_video = pipe.text_encoder.forward, pipe.vae.quant_conv.forward

    def count(name, function):
        def wrapped(*args, **kwargs):
            calls[name] += 1
            return function(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(pipe.text_encoder, "forward", count("text", plain_text))
    monkeypatch.setattr(pipe.vae.quant_conv, "forward", count("canvas", plain_video))
    pipe.encodings.clear()
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


COLORS = {"red": (255, 0, 0), "lime": (0, 255, 0), "blue": (0, 0, 255)}


def plain(color, size=(30, 30)):
    return Image.new("RGB", size, color)


@pytest.mark.parametrize("seed", range(6))
def test_a_region_is_where_the_shuffled_picture_landed(pipe, seed):
    references = [Reference([plain(color)], color) for color in COLORS]
    made = pipe.condition(references, SHAPE, layout="grid", seed=seed)
    pixels = np.asarray(made.pictures["canvas"]).astype(int)
    assert made.regions.shape == (3, 8, 12)
    for region, color in zip(made.regions, COLORS.values(), strict=True):
        shown = torch.from_numpy(np.abs(pixels - color).sum(-1) == 0).float()
        cells = torch.nn.functional.max_pool2d(shown[None], 8)[0].bool()
        assert torch.equal(region, cells)
    mask = made.channels[0, 0, 0].bool()
    assert torch.equal(made.regions.any(0), mask)


def test_pictures_of_one_reference_share_its_region(pipe):
    views = Reference([plain("red"), plain("blue")], "fox")
    other = Reference([plain("lime")], "dog")
    boxes = [(0.0, 0.0, 0.25, 1.0), (0.75, 0.0, 1.0, 1.0), (0.25, 0.0, 0.75, 1.0)]
    fox, dog = pipe.condition([views, other], SHAPE, layout=boxes).regions
    assert fox.any(0).tolist() == [True] * 3 + [False] * 6 + [True] * 3
    assert dog.any(0).tolist() == [False] * 3 + [True] * 6 + [False] * 3


def test_a_mask_cuts_the_subject_out_and_shapes_its_region_only(pipe):
    mask = Image.new("L", (30, 30), 0)
    mask.paste(255, (0, 0, 15, 30))
    boxes = [(0.0, 0.0, 2 / 3, 1.0)]
    whole = pipe.condition([Reference([plain("red")], "fox")], SHAPE, layout=boxes)
    cut = pipe.condition([Reference([plain("red")], "fox", mask=mask)], SHAPE, layout=boxes)
    assert torch.equal(whole.channels[:, :4], cut.channels[:, :4])  # still the rectangle
    assert whole.regions[0, :, :8].all()
    assert cut.regions[0, :, :4].all()
    assert not cut.regions[0, :, 5:].any()
    canvas = cut.pictures["canvas"]
    assert (canvas.getpixel((10, 32)), canvas.getpixel((50, 32))) == ((255, 0, 0), (255, 255, 255))


def video_of(pipe, prompt="a @fox walks the @dog", **options):
    return pipe(
        prompt,
        references=[Reference([plain("red")], "fox"), Reference([plain("blue")], "dog")],
        generator=torch.Generator().manual_seed(1),
        output_type="latent",
        num_inference_steps=1,
        **options,
    ).frames


def test_disentanglement_is_off_by_default_and_zero_is_off(pipe):
    off = video_of(pipe)
    assert not torch.equal(off, video_of(pipe, disentangle=0.5))
    assert torch.equal(off, video_of(pipe, disentangle=0.0))
    assert torch.equal(off, video_of(pipe))


def test_every_choice_of_disentanglement_can_be_made_at_inference(pipe):
    half = video_of(pipe, disentangle=0.5)
    assert torch.equal(half, video_of(pipe, disentangle=Disentanglement(0.5)))
    for change in ({"where": "before"}, {"unconditional": True}, {"output_projection": True}):
        assert not torch.equal(half, video_of(pipe, disentangle=Disentanglement(0.5, **change)))


def test_each_prompt_of_a_batch_is_read_for_itself(pipe):
    prompts = ["a @fox walks the @dog", "the @dog walks right a @fox"]
    noise = torch.randn(2, 16, 5, 8, 12, generator=torch.Generator().manual_seed(3))
    options = {"disentangle": 0.5, "guidance_scale": 1.0}
    both = video_of(pipe, prompts, latents=noise, **options)
    for i, prompt in enumerate(prompts):
        alone = video_of(pipe, prompt, latents=noise[i : i + 1], **options)
        assert torch.allclose(both[i], alone[0], atol=1e-4)


def test_disentanglement_reaches_the_video_through_a_request(pipe):
    frames = [
        generate(pipe, tiny.request(disentangle=alpha, num_inference_steps=1)).frames
        for alpha in (None, 5.0)
    ]
    assert not np.array_equal(*frames)
    with pytest.raises(RequestError, match="disentangle has no effect on a KaleidoPipeline"):
        generate(tiny.kaleido(), tiny.request(disentangle=0.5))


def test_disentanglement_that_cannot_act_is_refused(pipe):
    unnamed = {"references": PICTURES[:2], "disentangle": 0.5}
    with pytest.raises(ReferencesError, match="no reference has a name"):
        pipe("a", **unnamed)
    nobody = Request(prompt="a", references=({"images": (PICTURES[0],)},), disentangle=0.5)
    with pytest.raises(ReferencesError, match="no reference has a name"):
        pipe.check_references(nobody.references, pipe.config, pipe.rules, nobody)
    embeds = torch.zeros(1, 512, 16)
    with pytest.raises(PromptError, match="give prompt and references"):
        video_of(pipe, None, prompt_embeds=embeds, guidance_scale=1.0, disentangle=0.5)
