from __future__ import annotations

import numpy as np
import pytest

from anyref.data.faces import (
    FaceSettings,
    covers_face,
    face_faults,
    owner_of,
    owners_of,
    seen_faces,
    yaw_of,
)
from anyref.data.tracks import Sighting, Track, TrackSettings
from anyref.perception.contracts import Box, Face


def face(left=10, top=10, side=60, nose=0.5, score=0.9):
    x = [left + part * side for part in (0.3, 0.7, nose)]
    points = ((x[0], top + 0.4 * side), (x[1], top + 0.4 * side), (x[2], top + 0.6 * side))
    box = Box(left, top, left + side, top + side)
    return Face(box=box, landmarks=points, score=score)


def seen(one, noise=True):
    frames = np.random.default_rng(0).integers(0, 256, (1, 100, 150, 3), np.uint8)
    (made,) = seen_faces(frames if noise else frames // 255, [[one]], TrackSettings())
    return made


def test_a_face_from_the_front_has_no_yaw_and_a_turned_one_the_sign_of_its_nose():
    assert yaw_of(face().landmarks) == pytest.approx(0)
    assert yaw_of(face(nose=0.7).landmarks) == pytest.approx(45)
    assert yaw_of(face(nose=0.3).landmarks) == pytest.approx(-45)
    assert yaw_of(()) == 0


def test_a_tilted_head_is_not_a_turned_one():
    turn = np.exp(0.5j)
    points = [complex(*point) * turn for point in face().landmarks]
    assert yaw_of([(point.real, point.imag) for point in points]) == pytest.approx(0)


@pytest.mark.parametrize(
    ("one", "fault"),
    [
        (face(), []),
        (face(side=30), ["face_small"]),
        (face(nose=0.8), ["face_turned"]),
        (face(score=0.7), ["face_unsure"]),
    ],
)
def test_each_limit_of_faces_finds_its_fault(one, fault):
    assert list(face_faults(seen(one), FaceSettings())) == fault


def test_a_blurred_face_is_found_out():
    assert list(face_faults(seen(face(), noise=False), FaceSettings())) == ["face_blurry"]


def test_a_frontal_large_sure_face_is_worth_more():
    best = seen(face()).worth
    assert best > max(seen(face(nose=0.65)).worth, seen(face(side=45)).worth)
    assert best > seen(face(score=0.8)).worth


def test_one_person_in_two_frames_is_one_track_of_faces():
    frames = np.zeros((2, 100, 150, 3), np.uint8)
    found = [[face(), face(90, side=50)], [face(88, side=50), face(12)]]
    made = seen_faces(frames, found, TrackSettings())
    assert [(one.track, one.frame, one.face.box.left) for one in made] == [
        (0, 0, 10),
        (0, 1, 12),
        (1, 0, 90),
        (1, 1, 88),
    ]


def test_a_face_belongs_to_the_tightest_box_around_it_but_not_to_knees():
    one = seen(face(20, 20, 20))
    wide, tight, low = (
        Track((Sighting(frame=0, box=box, score=1),))
        for box in (Box(0, 0, 150, 100), Box(10, 10, 60, 100), Box(15, 0, 45, 40))
    )
    assert owner_of(one, [wide, tight, low]) == 1
    assert owner_of(one, [low]) is None


def test_a_face_keeps_its_owner_where_the_owner_is_not_seen():
    frames = np.zeros((3, 100, 150, 3), np.uint8)
    made = seen_faces(frames, [[face(20, 20, 20)]] * 2 + [[face(120, 20, 20)]], TrackSettings())
    track = Track((Sighting(frame=1, box=Box(10, 10, 60, 100), score=1),))
    assert owners_of(made, [track]) == [0, 0, None]


def test_an_object_that_is_a_face_is_found_and_a_whole_person_is_not():
    pixels = np.zeros((100, 150), bool)
    pixels[10:60, 10:60] = True
    assert covers_face(pixels, Box(12, 12, 60, 60), 0.25)
    assert not covers_face(pixels, Box(20, 10, 40, 30), 0.25)
