from __future__ import annotations

import numpy as np
import pytest

from anyref.data.crops import (
    CropSettings,
    box_around,
    clean,
    components,
    cores,
    cut_out,
    faults,
    measure,
    on_grey,
    sharpness,
    without,
)
from anyref.perception.contracts import Box

SETTINGS = CropSettings()


@pytest.fixture
def frame():
    """Noise of 100 rows and 150 columns."""
    return np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)


def block(top=30, bottom=70, left=40, right=90):
    soft = np.zeros((100, 150), np.float32)
    soft[top:bottom, left:right] = 1
    return soft


def wrong(frame, soft, box=None, settings=SETTINGS):
    return list(faults(measure(frame, soft, clean(soft, settings), box), settings))


def test_cleaning_removes_specks_hairs_and_pinholes_and_keeps_large_holes():
    soft = block()
    soft[5:9, 5:9] = 1
    soft[50, 90:130] = 1
    soft[40:42, 50:52] = 0
    soft[50:65, 60:80] = 0
    expected = block() > 0
    expected[50:65, 60:80] = False
    off = clean(soft, SETTINGS) ^ expected
    assert off.sum() <= 8  # corners


def test_an_empty_mask_stays_empty():
    assert not clean(np.zeros((20, 30), np.float32), SETTINGS).any()


def test_components_come_largest_first_without_small_ones():
    pixels = (block() + block(10, 20, 100, 120) + block(80, 82, 0, 2)) > 0
    assert [int(part.sum()) for part in components(pixels, 0.01)] == [2000, 200]


def test_a_good_mask_has_no_fault(frame):
    assert wrong(frame, block(), Box(42, 30, 92, 70)) == []


@pytest.mark.parametrize(
    ("fault", "soft"),
    [
        ("small", block(40, 48, 40, 48)),
        ("large", block(2, 98, 2, 148)),
        ("cut", block(0, 60, 0, 60)),
        ("fragmented", block() + block(5, 20, 5, 40) + block(80, 95, 100, 140)),
        ("loose", block(30, 50, 40, 60)),
    ],
)
def test_each_limit_finds_its_fault(frame, fault, soft):
    assert fault in wrong(frame, soft, Box(40, 30, 110, 90))


def test_a_ragged_outline_is_irregular(frame):
    comb = block(40, 50, 10, 140)
    for left in range(10, 140, 12):
        comb[10:90, left : left + 5] = 1
    assert wrong(frame, comb) == ["irregular"]


def test_what_no_detector_knows_may_not_be_as_irregular(frame):
    legs = block(5, 30, 10, 80) + block(5, 95, 10, 20) + block(5, 95, 60, 70)
    pixels = clean(legs, SETTINGS)
    measures = measure(frame, legs, pixels, None)
    assert list(faults(measures, SETTINGS)) == []
    assert list(faults(measures, SETTINGS, detected=False)) == ["irregular"]


def test_a_detector_that_takes_two_for_one_is_not_believed(frame):
    both = block(5, 95, 10, 30) + block(5, 95, 60, 80) + block(47, 53, 30, 60)
    assert wrong(frame, both) == ["irregular"]


def test_limbs_are_no_cores_and_two_that_touch_are():
    disc = np.hypot(*np.mgrid[-40:41, -40:41]) <= 40
    limb = np.zeros((81, 60), bool)
    limb[34:46] = True
    assert cores(np.hstack([disc, limb])) < 0.05
    assert cores(np.hstack([disc, limb[:, :20], disc])) > 0.8
    assert cores(disc) == 0


def test_a_mask_with_wide_doubt_is_unsure(frame):
    soft = block()
    soft[26:30, 40:90] = 0.15
    rim = block(30, 70, 38, 92)
    assert wrong(frame, np.maximum(soft, 0.7 * rim)) == []
    soft[50:60, 40:90] = 0.7
    assert wrong(frame, soft) == ["unsure"]


def test_a_mask_beside_which_more_of_it_may_be_is_unsure(frame):
    faint = 0.15 * block(40, 70, 90, 130)
    assert wrong(frame, np.maximum(block(), faint)) == ["unsure"]
    far = 0.15 * block(70, 100, 120, 150)
    assert wrong(frame, np.maximum(block(), far)) == []


def test_a_faint_part_of_some_width_belongs_to_what_it_touches():
    ear = 0.3 * block(10, 30, 60, 70)
    assert clean(np.maximum(block(), ear), SETTINGS)[15, 65]
    apart = 0.3 * block(10, 28, 60, 70)
    assert not clean(np.maximum(block(), apart), SETTINGS)[15, 65]


def test_a_part_on_a_short_neck_stays():
    soft = np.zeros((400, 600), np.float32)  # parts under 6 pixels are opened away
    soft[150:350, 200:400] = 1
    soft[146:150, 290:294] = 1
    soft[110:146, 275:310] = 1
    assert clean(soft, SETTINGS)[130, 290]


def test_dark_and_blurred_subjects_are_found_out(frame):
    assert wrong(frame // 32, block()) == ["dark"]
    smooth = np.full_like(frame, 128)
    assert wrong(smooth, block()) == ["blurry"]


def test_the_outline_of_a_plain_subject_is_no_sharpness():
    frame = np.zeros((100, 150, 3), np.uint8)
    pixels = block() > 0
    frame[pixels] = 255
    assert sharpness(frame) > 100
    assert sharpness(frame, pixels) == 0


def test_a_cut_out_is_the_box_with_its_margin_and_clear_around_the_subject(frame):
    pixels = block() > 0
    pixels[30:40, 40:60] = False
    rgba = cut_out(frame, pixels, 0.1)
    assert rgba.shape == (48, 60, 4)
    assert np.array_equal(rgba[..., :3], frame[26:74, 35:95])
    assert (rgba[6:40, 30:50, 3] == 255).all()
    assert not rgba[:10, :20, 3].any()
    assert box_around(rgba[..., 3] > 127) == Box(5, 4, 55, 44)


def test_embedders_see_grey_around_the_subject(frame):
    pixels = block() > 0
    pixels[30:40, 40:60] = False
    look = on_grey(frame, pixels)
    assert (look[:10, :20] == 128).all()
    assert np.array_equal(look[10:], frame[40:70, 40:90])


def test_a_hidden_subject_is_painted_over_from_around_it():
    frame = np.full((100, 150, 3), (30, 120, 200), np.uint8)
    hidden = block() > 0
    frame[32:68, 42:88] = (255, 0, 0)
    painted = without(frame, hidden)
    assert np.abs(painted.astype(int) - (30, 120, 200)).max() < 20
    assert np.array_equal(painted[:20], frame[:20])
