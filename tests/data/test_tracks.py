from __future__ import annotations

import numpy as np
import pytest

from anyref.data.tracks import (
    Movement,
    Sighting,
    Track,
    TrackSettings,
    associate,
    boxes_of,
    distinct,
    movement_of,
)
from anyref.perception.contracts import Box


def seen(frame, left, top=0, side=20, score=0.9, feature=None):
    vector = None if feature is None else np.float32(feature)
    box = Box(left, top, left + side, top + side)
    return Sighting(frame=frame, box=box, score=score, label="dog", feature=vector)


def tracks(frames, **settings):
    return associate(frames, 100, TrackSettings(**settings))


def lefts(track):
    return [(one.frame, one.box.left) for one in track.sightings]


def test_boxes_that_overlap_from_frame_to_frame_are_one_track():
    made = tracks([[seen(0, 0), seen(0, 60)], [seen(1, 64), seen(1, 4)]])
    assert sorted(map(lefts, made)) == [[(0, 0), (1, 4)], [(0, 60), (1, 64)]]


def test_a_subject_that_jumps_is_known_by_its_look_but_not_from_afar():
    frames = [[seen(0, 0, feature=(1, 0))], [seen(1, 30, feature=(1, 0)), seen(1, 25, 40)]]
    assert lefts(tracks(frames)[0]) == [(0, 0), (1, 30)]
    assert len(tracks(frames, max_jump=0.2)) == 3


def test_two_that_swap_places_keep_their_looks():
    red, blue = (1, 0), (0, 1)
    frames = [
        [seen(0, 0, feature=red), seen(0, 22, feature=blue)],
        [seen(1, 22, feature=red), seen(1, 0, feature=blue)],
    ]
    assert sorted(map(lefts, tracks(frames, min_overlap=0.9))) == [
        [(0, 0), (1, 22)],
        [(0, 22), (1, 0)],
    ]


def test_a_track_ends_after_too_long_a_gap():
    frames = [[seen(0, 0)], [], [], [seen(3, 0)]]
    assert len(tracks(frames, max_gap=2)) == 1
    assert len(tracks(frames, max_gap=1)) == 2


def test_one_thing_under_two_names_is_seen_once():
    kept = distinct([seen(0, 0, score=0.7), seen(0, 1, score=0.8), seen(0, 50)], 0.6)
    assert [one.box.left for one in kept] == [50, 1]


def test_boxes_between_sightings_lie_on_the_line_and_nowhere_else():
    boxes = boxes_of(Track((seen(1, 0), seen(2, 8))), (0, 4, 8, 12), 13, 2)
    assert [box[0] if box else None for box in boxes] == [
        None, None, None, None, 0, 2, 4, 6, 8, None, None, None, None,
    ]  # fmt: skip


def test_no_boxes_are_made_up_across_a_long_gap():
    boxes = boxes_of(Track((seen(0, 0), seen(3, 9))), (0, 2, 4, 6), 7, 1)
    assert [number for number, box in enumerate(boxes) if box] == [0, 6]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (Box(60, 40, 80, 60), Movement.RIGHT),
        (Box(10, 40, 30, 60), Movement.LEFT),
        (Box(40, 5, 60, 25), Movement.UP),
        (Box(44, 70, 64, 90), Movement.DOWN),
        (Box(41, 41, 61, 61), Movement.STAY),
        (Box(30, 30, 70, 70), Movement.CLOSER),
        (Box(45, 45, 55, 55), Movement.AWAY),
    ],
)
def test_the_way_of_a_box_gets_its_word(last, expected):
    first = Sighting(frame=0, box=Box(40, 40, 60, 60), score=1)
    track = Track((first, Sighting(frame=5, box=last, score=1)))
    assert movement_of(track, 100, 100) == expected


def test_a_subject_that_enters_does_not_count_as_moving_by_its_growing_box():
    entering = Track(
        (
            Sighting(frame=0, box=Box(0, 0, 10, 50), score=1),
            Sighting(frame=1, box=Box(0, 0, 40, 50), score=1),
        )
    )
    assert movement_of(entering, 100, 100) == Movement.CLOSER
    assert movement_of(Track(entering.sightings[:1]), 100, 100) is None
