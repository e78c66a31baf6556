from __future__ import annotations

import numpy as np
import pytest

from anyref.errors import PerceptionError
from anyref.perception.contracts import Box, Face, compare
from anyref.perception.faces import (
    ALIGNED_LANDMARKS,
    DlibFaces,
    MobileFaceNet,
    YuNet,
    align,
    similarity_transform,
)

TEMPLATE = np.array(ALIGNED_LANDMARKS)


class StandIn:
    """Plays cv2.FaceDetectorYN: two faces, the larger second."""

    def setInputSize(self, size):  # noqa: N802
        self.size = size

    def detect(self, bgr):
        self.seen = bgr
        small = [10, 10, 10, 10, *range(10), 0.9]
        large = [20, 5, 30, 40, *range(10), 0.7]
        return 1, np.float32([small, large])


def face_at(points):
    return Face(box=Box(0, 0, 9, 9), landmarks=tuple(map(tuple, points.tolist())), score=1.0)


def test_faces_come_largest_first_in_pixels_of_the_picture(blank):
    detector = YuNet()
    detector.network = StandIn()
    (faces,) = detector.detect([blank(60, 80)])
    assert [face.box for face in faces] == [Box(20, 5, 50, 45), Box(10, 10, 20, 20)]
    assert faces[0].landmarks == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))


def test_a_large_picture_is_shrunk_and_its_faces_put_back(blank):
    detector = YuNet(max_side=40)
    detector.network = StandIn()
    (faces,) = detector.detect([blank(60, 80)])
    assert detector.network.size == (40, 30)
    assert detector.network.seen.shape == (30, 40, 3)
    assert faces[0].box == Box(40, 10, 100, 90)


def test_the_detector_sees_blue_first(blank):
    detector = YuNet()
    detector.network = StandIn()
    picture = blank()
    picture[..., 0] = 255
    detector.detect([picture])
    assert detector.network.seen[0, 0].tolist() == [128, 128, 255]


def test_a_turned_scaled_and_shifted_face_is_put_back_exactly():
    angle = np.radians(35)
    turn = 3 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity_transform(TEMPLATE @ turn.T + [40, -7], TEMPLATE)
    points = np.column_stack([TEMPLATE @ turn.T + [40, -7], np.ones(5)])
    np.testing.assert_allclose(points @ matrix.T, TEMPLATE, atol=1e-9)


def test_alignment_never_mirrors():
    mirrored = TEMPLATE * [-1, 1]
    matrix = similarity_transform(mirrored, TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_an_aligned_crop_has_its_landmarks_in_arcfaces_places():
    picture = np.zeros((300, 300, 3), np.uint8)
    points = (TEMPLATE * 2 + [30, 20]).round()
    for x, y in points.astype(int):
        picture[y - 3 : y + 4, x - 3 : x + 4] = 255
    crop = align(picture, face_at(points))
    assert crop.shape == (112, 112, 3)
    assert all(crop[round(y), round(x)].min() > 200 for x, y in ALIGNED_LANDMARKS)


def test_a_face_without_landmarks_cannot_be_aligned(blank):
    with pytest.raises(PerceptionError, match="0 landmarks, not 5"):
        MobileFaceNet().embed([blank()], [Face(box=Box(0, 0, 9, 9), landmarks=(), score=1.0)])


def test_aligned_faces_become_unit_vectors_two_by_two():
    batches = []

    def network(values):
        batches.append(values)
        return values.reshape(2, -1)[:, :192]

    embedder = MobileFaceNet()
    embedder.network = network
    pictures = [np.full((112, 112, 3), level, np.uint8) for level in (255, 0, 255)]
    vectors = embedder.embed(pictures, [face_at(TEMPLATE)] * 3)
    assert [batch.shape for batch in batches] == [(2, 112, 112, 3)] * 2
    assert batches[0].max() == pytest.approx(127.5 / 128)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1], rtol=1e-5)
    assert np.sign(vectors[:, 0]).tolist() == [1, -1, 1]


def test_one_face_is_needed_for_each_picture(blank):
    with pytest.raises(PerceptionError, match="1 faces for 2 pictures"):
        DlibFaces().embed([blank(), blank()], [face_at(TEMPLATE)])


@pytest.mark.slow
def test_the_astronaut_has_one_face_that_stays_hers_when_flipped(fetched, photograph):
    fetched("yunet", "dlib-face", "mobilefacenet")
    picture = photograph("astronaut")
    pictures = [picture, np.ascontiguousarray(picture[:, ::-1])]
    faces = YuNet().detect(pictures)
    assert [len(found) for found in faces] == [1, 1]
    assert Box(170, 60, 280, 220).overlap(faces[0][0].box) > 0.5
    chosen = [found[0] for found in faces]
    distances = DlibFaces().embed(pictures, chosen)
    assert compare(distances[:1], distances[1:], "euclidean") == pytest.approx(0.19, abs=0.06)
    cosines = MobileFaceNet().embed(pictures, chosen)
    assert compare(cosines[:1], cosines[1:], "cosine") > 0.75


@pytest.mark.slow
def test_a_cat_and_a_cup_have_no_face(fetched, photograph):
    fetched("yunet")
    assert YuNet().detect([photograph("chelsea"), photograph("coffee")]) == [(), ()]


@pytest.mark.slow
def test_one_person_in_two_photographs_is_nearer_than_two_people(fetched, portrait):
    fetched("yunet", "dlib-face", "mobilefacenet")
    pictures = [portrait(name) for name in ("obama", "obama2", "biden")]
    faces = [found[0] for found in YuNet().detect(pictures)]
    distances = DlibFaces().embed(pictures, faces)
    near, far = compare(distances[:1], distances[1:], "euclidean")[0]
    assert 0.25 < near < 0.5
    assert far > 0.7
    cosines = MobileFaceNet().embed(pictures, faces)
    near, far = compare(cosines[:1], cosines[1:], "cosine")[0]
    assert near > 0.7
    assert far < 0.25
