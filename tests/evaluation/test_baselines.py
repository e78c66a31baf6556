from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from anyref.evaluation.baselines import FRAMES, GROUND, HEIGHT, WIDTH, pasted, without_references
from anyref.request import Reference, Request


@pytest.fixture
def fox():
    """A red disc with a white eye on white."""
    picture = Image.new("RGB", (100, 80), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((20, 10, 80, 70), fill=(220, 30, 10))
    draw.ellipse((45, 30, 55, 40), fill="white")
    return Reference(picture, "fox")


@pytest.fixture
def beach():
    return Reference(Image.new("RGB", (300, 200), (10, 90, 200)), "beach", kind="background")


def test_subjects_stand_still_on_the_background_without_their_ground(fox, beach):
    request = Request(
        prompt="a @fox on the @beach", references=(fox, beach), width=64, height=48, num_frames=5
    )
    frames = pasted(request)
    assert frames.shape == (5, 48, 64, 3) and (frames == frames[0]).all()
    assert frames[0, 0, 0].tolist() == [10, 90, 200] and frames[0, 8, 12].tolist() == [10, 90, 200]
    assert np.abs(frames[0, 24, 20].astype(int) - [220, 30, 10]).max() < 12
    assert frames[0, 21, 32].min() > 200  # the eye is no ground


def test_several_subjects_stand_side_by_side_and_a_photograph_is_pasted_whole(fox):
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    noise[:20, :20] = 90  # a plain corner of a photograph is no ground
    photo = Reference(Image.fromarray(noise), "owl")
    frame = pasted(Request(prompt="@fox and @owl", references=(fox, photo)))[0]
    assert frame.shape == (HEIGHT, WIDTH, 3)
    assert (frame[0, 0] == GROUND).all() and frame[240, 208, 0] > 200  # red, in the left half
    right = frame[100:380, WIDTH // 2 + 40 : WIDTH - 40]
    assert (right == GROUND).all(-1).mean() < 0.01


def test_a_mask_says_what_is_pasted_and_frames_are_81_if_nothing_else_is_said(fox):
    mask = Image.new("L", (100, 80))
    mask.paste(255, (0, 0, 50, 80))
    half = fox.model_copy(update={"mask": mask})
    frames = pasted(Request(prompt="@fox", references=(half,), width=100, height=80))
    assert len(frames) == FRAMES
    assert frames[0, 40, 30, 0] > 200 and (frames[0, 40, 62] == GROUND).all()


def test_without_references_the_prompt_has_their_words_and_no_mentions(fox, beach):
    request = Request(prompt="mail a@@b: a @fox on the @beach", references=(fox, beach), seed=7)
    plain = without_references(request)
    assert plain.references == () and plain.seed == 7
    assert plain.text == request.text == "mail a@b: a fox on the beach"
