from __future__ import annotations

import numpy as np
import pytest

from anyref.data.coverage import behind, uncovered
from hares import BODY, COUNT, EAR, HEIGHT, WIDTH, hops, mask_of, meadow, nothing, walk


def left_out(frames, mask, number=3, others=None):
    seen = behind(frames, number, {k: mask_of(k) for k in range(COUNT)})
    return uncovered(seen, mask, nothing() if others is None else others)


def test_a_mask_of_the_whole_subject_leaves_nothing_out():
    assert left_out(walk([meadow()] * COUNT), mask_of(3)) == 0


def test_an_ear_that_is_left_out_is_measured():
    ear = EAR[0] * EAR[1] / (BODY[0] * BODY[1])
    assert left_out(walk([meadow()] * COUNT), mask_of(3, ear=False)) == pytest.approx(ear, rel=0.3)


def test_the_camera_may_move():
    wide = meadow(width=WIDTH + 40)
    grounds = [wide[:, 5 * k : 5 * k + WIDTH] for k in range(COUNT)]
    assert left_out(walk(grounds), mask_of(3)) < 0.003
    assert left_out(walk(grounds), mask_of(3, ear=False)) > 0.04


def test_a_shadow_is_no_part_of_the_subject():
    frames = walk([meadow()] * COUNT)
    for number, frame in enumerate(frames):
        top, left = hops(number)
        frame[top + 40 : top + 60, left + BODY[1] : left + BODY[1] + 40] //= 2
    assert left_out(frames, mask_of(3)) == 0


def test_what_belongs_to_another_subject_is_not_left_out():
    ear = mask_of(3) & ~mask_of(3, ear=False)
    assert left_out(walk([meadow()] * COUNT), mask_of(3, ear=False), others=ear) == 0


def test_a_wall_without_a_point_on_it_stands_still():
    wall = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    assert left_out(walk([wall] * COUNT), mask_of(3, ear=False)) > 0.04


def test_nothing_is_behind_frames_that_have_nothing_in_common():
    assert behind(walk([meadow(seed) for seed in range(COUNT)]), 3, {}) is None


def test_two_other_frames_are_too_few():
    assert behind(walk([meadow()] * 3), 1, {}) is None
