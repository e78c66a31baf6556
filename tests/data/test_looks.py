from __future__ import annotations

import numpy as np
import pytest

from anyref.data.looks import (
    black_bars,
    blur,
    brightness,
    sharpness,
    stillness,
    watermark_edges,
)

cv2 = pytest.importorskip("cv2")


def scenes(count=8, size=(180, 320), seed=0):
    """Pictures that have nothing in common: (K, Y, X, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (count, 9, 16, 3)).astype(np.uint8)
    return np.stack([cv2.resize(c, size[::-1], interpolation=cv2.INTER_CUBIC) for c in coarse])


def marked(frames):
    """The frames with a name in a corner."""
    frames = frames.copy()
    for frame in frames:
        cv2.putText(frame, "STOCK", (220, 165), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255,) * 3, 2)
    return frames


def test_black_bars_are_measured_and_left_out():
    thumbs = np.full((4, 90, 160), 120, np.uint8)
    thumbs[:, :9] = thumbs[:, -9:] = 3
    share, inside = black_bars(thumbs)
    assert share == pytest.approx(0.2)
    assert inside.shape == (4, 72, 160)


def test_a_dark_sky_is_no_bar():
    thumbs = np.full((4, 90, 160), 120, np.uint8)
    thumbs[:, :30] = 3
    assert black_bars(thumbs)[0] == 0


def test_brightness_is_the_median_frame_and_counts_dark_frames():
    thumbs = np.full((4, 90, 160), 102, np.uint8)
    thumbs[0] = 5
    assert brightness(thumbs) == pytest.approx((0.4, 0.25))


def test_stillness_counts_repeated_frames():
    moving = np.arange(9, dtype=np.uint8)[:, None, None] * np.full((9, 8, 8), 4, np.uint8)
    assert stillness(moving) == 0
    assert stillness(moving.repeat(2, axis=0)) == pytest.approx(9 / 17)
    assert stillness(moving[:1]) == 1


def test_blur_lowers_sharpness():
    noise = np.random.default_rng(0).integers(0, 255, (3, 288, 512, 3)).astype(np.uint8)
    blurred = np.stack([cv2.GaussianBlur(frame, (9, 9), 3) for frame in noise])
    assert sharpness(blurred) < sharpness(noise) / 100


def test_enlarging_does_not_make_sharp():
    small = scenes(3, (90, 160))
    large = np.stack([cv2.resize(frame, (1280, 720)) for frame in small])
    assert sharpness(large) < 2 * sharpness(small) + 1


def test_one_blurred_frame_does_not_decide():
    noise = np.random.default_rng(0).integers(0, 255, (3, 288, 512, 3)).astype(np.uint8)
    mixed = noise.copy()
    mixed[1] = 90
    assert sharpness(mixed) == pytest.approx(sharpness(noise), rel=0.1)


def edges(sigma=0.0, size=(288, 512), low=20, high=220):
    """Rectangles on grey, blurred: (3, Y, X, 3)."""
    frame = np.full((*size, 3), low, np.uint8)
    for left in range(40, 440, 100):
        frame[60:200, left : left + 50] = high
    blurred = cv2.GaussianBlur(frame, (0, 0), sigma) if sigma else frame
    return np.stack([blurred] * 3)


def test_blur_is_the_deviation_of_the_edges_in_pixels():
    assert blur(edges()) < 1.2
    for sigma in (2, 4, 6):
        assert blur(edges(sigma)) == pytest.approx(sigma, rel=0.15)


def test_blur_depends_neither_on_contrast_nor_on_how_much_is_seen():
    assert blur(edges(3, low=100, high=130)) == pytest.approx(blur(edges(3)), rel=0.15)
    small = edges(3)
    small[:, :, 150:] = 20
    assert blur(small) == pytest.approx(blur(edges(3)), rel=0.15)


def test_blur_is_told_at_one_size():
    large = edges(6, (576, 1024))
    assert blur(large) == pytest.approx(3, rel=0.2)


def test_a_sharp_thing_before_mist_is_sharp():
    mist = edges(8)
    mist[:, 100:160, 200:260] = 250
    assert blur(mist) < 1.2


def test_grain_does_not_make_sharp():
    noise = np.random.default_rng(0).normal(0, 2.5, (3, 288, 512, 1))
    grainy = (edges(4) + noise).clip(0, 255).astype(np.uint8)
    assert blur(grainy) > 2


def test_a_grey_wall_has_no_edge():
    assert blur(np.full((3, 90, 160, 3), 90, np.uint8)) == 15


def test_a_mark_over_changing_scenes_is_found():
    assert watermark_edges(scenes()) == 0
    assert 0.01 < watermark_edges(marked(scenes())) < 0.1


def test_a_scene_that_stands_still_is_no_mark():
    still = marked(scenes(1)).repeat(8, axis=0)
    assert watermark_edges(still) == 0


def test_what_stands_behind_a_moving_thing_is_no_mark():
    frames = scenes(1).repeat(8, axis=0)
    for number, frame in enumerate(frames):
        frame[60:120, 35 * number : 35 * number + 50] = (240, 20, 20)
    assert watermark_edges(frames) == 0
