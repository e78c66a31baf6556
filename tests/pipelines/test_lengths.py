"""Tokens of a request, and sizes nearby that divide."""

from __future__ import annotations

import torch

from anyref.pipelines.lengths import count_tokens, counted_at, shapes_that_fit
from anyref.request import PixelShape, ShapeRules

RULES = ShapeRules(spatial=8, temporal=4, patch=(1, 2, 2), max_positions=128)


def reference(rows, columns):
    return torch.zeros(1, 16, 1, rows, columns)


def test_tokens_are_those_of_the_video_and_of_its_references():
    shape = PixelShape(17, 480, 832)
    assert count_tokens(RULES, shape, []) == 5 * 30 * 52
    assert count_tokens(RULES, shape, [reference(60, 104), reference(20, 30)]) == (
        6 * 30 * 52 + 10 * 15
    )


def test_references_as_large_as_the_video_grow_with_it():
    count = counted_at(RULES, PixelShape(17, 480, 832), [reference(60, 104), reference(20, 30)])
    assert count(PixelShape(13, 240, 416)) == 5 * 15 * 26 + 10 * 15


def test_the_nearest_size_on_each_axis_divides():
    shape = PixelShape(17, 80, 48)  # 5 frames of 5 x 3 tokens
    texts = shapes_that_fit(RULES, shape, counted_at(RULES, shape, []), 4)
    assert texts == ["--frames 13", "--size 64x80", "--size 48x64"]


def test_lead_frames_are_not_counted_in_what_the_user_asks_for():
    rules = ShapeRules(spatial=8, temporal=4, patch=(1, 2, 2), max_positions=128, lead_frames=4)
    shape = PixelShape(17, 80, 48)
    assert shapes_that_fit(rules, shape, counted_at(rules, shape, []), 4)[0] == "--frames 9"


def test_an_axis_on_which_nothing_divides_is_left_out():
    shape = PixelShape(17, 80, 48)
    count = counted_at(RULES, shape, [reference(2, 2)])  # one token more, whatever the frames
    assert shapes_that_fit(RULES, shape, count, 1000)[0] == ""
