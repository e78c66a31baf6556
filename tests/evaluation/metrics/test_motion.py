from __future__ import annotations

import numpy as np
import pytest
from metric_world import case_of, figure, footage_of, place, plain, portrait, put, value, walk
from PIL import Image, ImageFilter, ImageOps

from anyref.evaluation.metrics.motion import (
    FirstFrameFlash,
    Flicker,
    FrozenFrames,
    MotionAmplitude,
    MotionSmoothness,
)

THING = figure(2)
CASE = case_of(portrait(THING))
WALK = walk(THING, count=12, step=4)


def pan(speed, count=12):
    """A wide scene that goes by, pixels per frame."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 480, 3), np.uint8))
    wide = np.asarray(ImageOps.autocontrast(noise.filter(ImageFilter.GaussianBlur(4))))
    return [wide[:, speed * t : speed * t + 160] for t in range(count)]


def test_amplitude_is_the_speed_in_widths_per_second():
    assert value(MotionAmplitude(), CASE, pan(4), fps=8) == pytest.approx(4 * 8 / 160, rel=0.25)
    still, slow, fast = (value(MotionAmplitude(), CASE, pan(s)) for s in (0, 2, 6))
    assert still == pytest.approx(0, abs=1e-3)
    assert slow < fast


def test_amplitude_does_not_depend_on_the_frame_rate():
    frames = pan(2, 24)
    often, seldom = (value(MotionAmplitude(), CASE, frames[::k], fps=16 / k) for k in (1, 2))
    assert often == pytest.approx(seldom, rel=0.15)


def test_shuffled_frames_are_not_smooth_and_have_other_middles():
    metric = MotionSmoothness()
    smooth = value(metric, CASE, pan(3))
    order = np.random.default_rng(0).permutation(12)
    shuffled = value(metric, CASE, [pan(3)[t] for t in order])
    assert smooth > 0.9
    assert shuffled < smooth - 0.2


@pytest.mark.parametrize("speed", [1, 6])
def test_smoothness_is_of_the_motion_whatever_its_speed_and_share(speed):
    metric = MotionSmoothness()
    frames = [put(place(0), THING, 20, 8 + speed * t) for t in range(8)]
    stuttering = [frames[t // 2 * 2] for t in range(8)]
    assert value(metric, CASE, frames) > value(metric, CASE, stuttering) + 0.15
    assert value(metric, CASE, stuttering) < 0.2
    assert value(metric, CASE, frames[:1] * 8) == 1


def test_frozen_frames_are_counted():
    metric = FrozenFrames()
    assert value(metric, CASE, WALK) == 0
    assert value(metric, CASE, [WALK[0]] * 12) == 1
    half = [*WALK[:6], *[WALK[5]] * 6]
    assert value(metric, CASE, half) == pytest.approx(6 / 11)


def test_flicker_is_how_far_brightness_is_from_even_change():
    bright, dark = plain(140), plain(100)
    assert value(Flicker(), CASE, [bright, dark] * 4) == pytest.approx(40 / 255)
    fade = [plain(level) for level in range(100, 180, 10)]
    assert value(Flicker(), CASE, fade) == pytest.approx(0, abs=1e-6)
    assert value(Flicker(), CASE, WALK) < 0.01


def canvas():
    """The reference as a model's condition shows it: large, on white."""
    return put(plain(255), THING, 24, 56)


@pytest.mark.parametrize("count", [1, 3])
def test_references_in_the_first_frames_are_a_flash(count):
    metric = FirstFrameFlash()
    flashed = [canvas()] * count + WALK[count:]
    score = metric.score(CASE, footage_of(flashed))
    assert score.details["frames"] == count
    assert score.value > 0.4
    other = [place(7)] * count + WALK[count:]
    assert value(metric, CASE, other) < score.value
    assert value(metric, CASE, WALK) < 0.02


def test_a_video_of_cuts_has_no_flash():
    cuts = [place(0), place(3)] * 6
    assert value(FirstFrameFlash(), CASE, cuts) < 0.1


def test_what_needs_three_frames_says_so():
    for metric in (MotionSmoothness(), Flicker(), FirstFrameFlash()):
        assert metric.score(CASE, footage_of(WALK[:2])).cause == "undetected"
    assert value(FrozenFrames(), CASE, WALK[:1]) == 1


def test_a_flash_needs_references():
    assert FirstFrameFlash().applies(case_of()).cause == "inapplicable"


def test_a_single_frame_has_no_motion_and_two_have_theirs():
    assert MotionAmplitude().score(CASE, footage_of(WALK[:1])).cause == "undetected"
    moving = pan(4)[:2]
    assert value(MotionAmplitude(), CASE, moving, fps=16) == pytest.approx(4 * 16 / 160, rel=0.4)


def test_a_rate_that_no_video_has_is_not_believed():
    frames = pan(2, 17)
    usual = value(MotionAmplitude(), CASE, frames, fps=0)
    assert usual > 0.1 and value(MotionAmplitude(), CASE, frames, fps=10_000) == usual
