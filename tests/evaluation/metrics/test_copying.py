from __future__ import annotations

import numpy as np
from metric_world import (
    case_of,
    figure,
    footage_of,
    mirrored_turned,
    place,
    plain,
    portrait,
    put,
    value,
    walk,
)
from PIL import Image

from anyref.evaluation.metrics.copying import CopyPaste, copy_of
from anyref.evaluation.metrics.cutouts import Cutout, cut_references

THING = figure(2)


def cutout_of(models, thing):
    (wanted,) = cut_references(case_of(portrait(thing)), models)
    return wanted.cutouts[0]


def region_of(frame):
    return frame[..., 2] < 120


def resized(frame, factor):
    size = (round(frame.shape[1] * factor), round(frame.shape[0] * factor))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))


def test_pasted_pixels_are_found_at_other_sizes_and_mirrored(models):
    cutout = cutout_of(models, THING)
    frame = put(place(0), THING, 20, 50)
    for shown in (frame, frame[:, ::-1], resized(frame, 1.6)):
        copy = copy_of(np.ascontiguousarray(shown), region_of(shown), cutout)
        assert copy.pixels > 0.6
        assert copy.pose > 0.8


def test_another_pose_and_another_subject_are_no_copies(models):
    cutout = cutout_of(models, THING)
    for thing in (mirrored_turned(THING), figure(4), figure(5)):
        frame = put(place(0), thing, 20, 50)
        assert copy_of(frame, region_of(frame), cutout).pixels < 0.3


def test_a_plain_subject_has_no_pixels_to_copy(models):
    flat = np.full((48, 48, 3), (200, 60, 20), np.uint8), THING[1]
    frame = put(place(0), flat, 20, 50)
    cutout = Cutout(frame, region_of(frame), np.zeros(1, np.float32))
    assert copy_of(frame, region_of(frame), cutout).pixels < 0.1


def test_a_paste_scores_higher_than_a_rendering_and_highest_with_its_place(models):
    metric = CopyPaste(models)
    on_white, on_place = case_of(portrait(THING)), case_of(portrait(THING, place(5)))
    pasted = value(metric, on_white, walk(THING))
    assert pasted > 0.7
    assert value(metric, on_white, walk(mirrored_turned(THING))) < pasted - 0.3
    assert value(metric, on_white, walk(figure(5))) < pasted - 0.3
    with_place = value(metric, on_place, walk(THING, ground=place(5)))
    assert with_place > value(metric, on_place, walk(THING)) + 0.03


def test_a_paste_in_half_of_the_frames_is_half_a_paste(models):
    metric = CopyPaste(models)
    case = case_of(portrait(THING))
    whole, half = walk(THING), walk(THING)[:4] + [place(0)] * 4
    assert abs(value(metric, case, half) - value(metric, case, whole) / 2) < 0.03


def test_details_name_the_shares(models):
    case = case_of(portrait(THING, place(5)))
    score = CopyPaste(models).score(case, footage_of(walk(THING)))
    ((name, shares),) = score.details.items()
    assert name == "1 reference 1"
    assert set(shares) == {"pixels", "pose", "background"}


def test_an_empty_video_is_undetected(models):
    case = case_of(portrait(THING))
    assert CopyPaste(models).score(case, footage_of([plain()] * 3)).cause == "undetected"
