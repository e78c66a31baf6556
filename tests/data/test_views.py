from __future__ import annotations

from collections import Counter

import numpy as np

import stage_models
from anyref.data.crops import CropSettings
from anyref.data.tracks import Sighting, Track, TrackSettings
from anyref.data.views import (
    View,
    ViewSettings,
    chosen_tracks,
    detections,
    masked,
    view_frames,
    views_of,
    with_salient,
    without_overlap,
)
from anyref.perception.contracts import Box, Detection

SETTINGS, CROPS = ViewSettings(), CropSettings()


def soft(*boxes):
    mask = np.zeros(stage_models.SIZE, np.float32)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 1
    return mask


def sighting(left, top, right, bottom, frame=0):
    return Sighting(frame=frame, box=Box(left, top, right, bottom), score=0.9, label="dog")


def view(box, frame=0):
    pixels = soft(box) > 0
    frames = np.random.default_rng(0).integers(0, 256, (1, *stage_models.SIZE, 3), np.uint8)
    seen = Sighting(frame=0, box=Box(*box), score=1, mask=pixels)
    ((made,),) = views_of(frames, [Track((seen,))], {0: soft(box)}, {}, CROPS, Counter())
    return View(frame=frame, pixels=pixels, measures=made.measures, score=None)


def test_weak_and_tiny_detections_and_second_names_are_left_out():
    box = Box(0, 0, 50, 50)
    found = [
        Detection(box=box, label="dog", score=0.9),
        Detection(box=box, label="cat", score=0.8),
        Detection(box=Box(100, 0, 150, 50), label="cat", score=0.5),
        Detection(box=Box(100, 60, 110, 70), label="cat", score=0.9),
    ]
    (kept,) = detections(stage_models.ground(1), [found], SETTINGS, 0.6)
    assert [seen.label for seen in kept] == ["dog"]


def test_views_are_apart_in_time_and_show_what_was_detected():
    seen = [[sighting(0, 0, 90, 90, k)] if k in (1, 4) else [] for k in range(6)]
    assert view_frames(stage_models.ground(6), seen, 2) == [1, 4]
    assert view_frames(stage_models.ground(1), seen[:1], 3) == [0]


def test_what_stands_out_becomes_the_mask_of_a_detection_or_a_subject_of_its_own():
    mask = soft((10, 10, 60, 60), (120, 40, 180, 90))
    found, extra = with_salient([sighting(5, 8, 64, 60)], 0, mask, SETTINGS, CROPS)
    assert found.label == "dog"
    assert found.box == Box(10, 10, 60, 60)
    assert extra.label is None
    assert extra.mask[50, 150]


def test_a_part_of_a_detection_and_two_in_one_are_no_subjects_of_their_own():
    part = with_salient([sighting(0, 0, 100, 100)], 0, soft((30, 30, 60, 60)), SETTINGS, CROPS)
    assert [one.mask for one in part] == [None]
    both = with_salient(
        [sighting(0, 0, 60, 60), sighting(60, 0, 120, 60)],
        0,
        soft((0, 0, 120, 60)),
        SETTINGS,
        CROPS,
    )
    assert sum(one.label is None for one in both) == 0


def test_subjects_seen_too_rarely_or_too_many_are_counted():
    frames = [[sighting(0, 0, 50, 50), sighting(100, 0, 150, 40)], [sighting(0, 0, 50, 50, 1)]]
    dropped = Counter()
    kept = chosen_tracks(frames, 200, SETTINGS, TrackSettings(), dropped)
    assert len(kept) == 1
    few = ViewSettings(min_sightings=1, max_subjects=1)
    assert len(chosen_tracks(frames, 200, few, TrackSettings(), dropped)) == 1
    assert dropped == {"fleeting": 1, "crowd": 1}


def test_masks_by_box_are_bounded_and_people_may_go_to_the_fast_segmenter():
    frames = stage_models.walking(3)
    track = Track(tuple(sighting(10 + 20 * k, 40, 58 + 20 * k, 88, k) for k in range(3)))
    slow, fast = stage_models.Segmenter(), stage_models.Segmenter()
    made = masked(frames, [track], [0, 1, 2], {False: slow, True: fast}, ViewSettings(masks=2))
    assert sorted(made) == [(0, 0), (0, 1)]
    assert slow.calls == 2
    quick = ViewSettings(fast_people=True)
    people = Track((Sighting(frame=0, box=Box(10, 40, 58, 88), score=1, label="person"),))
    masked(frames, [people], [0], {False: slow, True: fast}, quick)
    assert fast.calls == 1


def test_of_two_masks_of_one_thing_the_larger_stays():
    whole, head, other = view((20, 20, 100, 110)), view((40, 20, 80, 50)), view((120, 20, 180, 90))
    dropped = Counter()
    kept = without_overlap([[head], [whole], [other]], SETTINGS, dropped)
    assert [len(some) for some in kept] == [0, 1, 1]
    assert dropped == {"overlap": 1}


def test_the_same_place_in_another_frame_is_no_overlap():
    kept = without_overlap(
        [[view((20, 20, 90, 90))], [view((20, 20, 90, 90), 1)]], SETTINGS, Counter()
    )
    assert [len(some) for some in kept] == [1, 1]
