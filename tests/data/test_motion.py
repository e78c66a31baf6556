from __future__ import annotations

import numpy as np
import pytest

from anyref.data.motion import cut_inside, histogram_change, motion_amplitude

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


def test_a_hard_cut_stands_out():
    joined = np.concatenate([pan(1, 9, seed=1), pan(1, 8, seed=2) // 2])
    assert cut_inside(joined) > 0.2


def test_motion_and_stillness_are_no_cut():
    assert cut_inside(pan(0)) == 0
    assert cut_inside(pan(6)) < 0.05
    assert cut_inside(pan(6)[:1]) == 0


def test_a_sudden_start_is_no_cut():
    assert cut_inside(np.concatenate([pan(0, 8), pan(4, 8)])) < 0.1


def test_a_flash_is_no_cut():
    clip = pan(1)
    clip[8] = 255
    assert cut_inside(clip) < 0.1


def test_histograms_change_from_nothing_to_all():
    clip = np.zeros((3, 32, 32), np.uint8)
    clip[2] = 255
    assert histogram_change(clip).tolist() == [0, 1]
