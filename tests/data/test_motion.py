from __future__ import annotations

import numpy as np
import pytest

from anyref.data.motion import cut_inside, motion_amplitude

pytest.importorskip("cv2")


def texture(seed, size=(90, 400), low=0, high=255):
    """Smooth grey patches."""
    import cv2

    coarse = np.random.default_rng(seed).integers(low, high, (size[0] // 8, size[1] // 8))
    return cv2.resize(coarse.astype(np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)


def pan(speed, frames=17, seed=0):
    """A window that moves over a texture by so many pixels a frame."""
    wide = texture(seed)
    return np.stack([wide[:, speed * n : speed * n + 160] for n in range(frames)])


def test_a_still_clip_has_no_motion():
    assert motion_amplitude(pan(0), 16) == pytest.approx(0, abs=1e-3)
    assert motion_amplitude(pan(0, frames=1), 16) == 0


def test_motion_is_speed_in_widths_per_second():
    assert motion_amplitude(pan(2), 16) == pytest.approx(2 * 16 / 160, rel=0.15)


def test_motion_does_not_depend_on_the_frame_rate():
    assert motion_amplitude(pan(1, 33), 32) == pytest.approx(motion_amplitude(pan(2), 16), rel=0.15)


def test_opposite_motions_do_not_cancel():
    there = pan(2)
    halves = np.concatenate([there, there[:, :, ::-1]], axis=1)
    assert motion_amplitude(halves, 16) > 0.15


def beside(clip, patch, place, side=36):
    """The clip with a square of a texture at a place (left, top) of each frame."""
    clip = clip.copy()
    for frame, (left, top) in zip(clip, place, strict=True):
        frame[top : top + side, left : left + side] = patch[:side, :side]
    return clip


def test_a_hard_cut_stands_out():
    joined = np.concatenate([pan(1, 9, seed=1), pan(1, 8, seed=2) // 2])
    assert cut_inside(joined) > 0.5


def test_a_subject_that_is_suddenly_elsewhere_is_a_cut_though_all_else_stays():
    steps = [(20 + n, 30) for n in range(8)] + [(110 + n, 30) for n in range(9)]
    assert cut_inside(beside(pan(0), texture(7), steps)) > 0.1


def test_another_subject_in_the_same_place_is_a_cut():
    steps = [(40 + n, 30) for n in range(17)]
    one, two = (beside(pan(0), texture(seed), steps) for seed in (7, 8))
    assert cut_inside(np.concatenate([one[:8], two[8:]])) > 0.05


def test_a_closer_view_of_the_same_is_a_cut():
    import cv2

    wide = pan(1)
    close = [cv2.resize(frame[9:-9, 16:-16], frame.shape[::-1]) for frame in wide[8:]]
    assert cut_inside(np.concatenate([wide[:8], close])) > 0.3


def test_motion_and_stillness_are_no_cut():
    assert cut_inside(pan(0)) == 0
    assert cut_inside(pan(6)) < 0.05
    assert cut_inside(pan(6)[:1]) == 0


def test_a_subject_that_travels_is_no_cut():
    steps = [(4 + 5 * n, 30) for n in range(17)]
    assert cut_inside(beside(pan(0), texture(7), steps)) < 0.03


def test_a_leap_in_the_last_frame_is_no_cut_for_nothing_comes_after():
    steps = [(4 + n, 30) for n in range(16)] + [(100, 30)]
    assert cut_inside(beside(pan(0), texture(7), steps)) < 0.03


def test_every_third_frame_left_out_is_no_cut():
    kept = [n for n in range(51) if n % 3 != 2]
    assert cut_inside(pan(2, 51)[kept]) < 0.03


def test_a_sudden_start_is_no_cut():
    assert cut_inside(np.concatenate([pan(0, 8), pan(4, 8)])) < 0.05


def test_a_flash_is_no_cut():
    clip = pan(1)
    clip[8] = 255
    assert cut_inside(clip) < 0.05


def test_a_fade_is_no_cut():
    clip = pan(1, 33)
    shares = np.linspace(1, 0, 33)[:, None, None]
    assert cut_inside((clip * shares + 255 * (1 - shares)).astype(np.uint8)) < 0.03
