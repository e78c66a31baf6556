from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from metric_world import SKIN, case_of, footage_of, place, plain, value
from PIL import Image

from anyref.evaluation.metrics.identity import FaceSimilarity, alike, padded


def face(green, size=24):
    """A person is a shade of green in the middle of the skin."""
    pixels = np.full((size, size, 3), SKIN, np.uint8)
    pixels[8:16, 8:16, 1] = green
    return pixels


def person(green):
    picture = plain(255, (64, 64))
    picture[20:44, 20:44] = face(green)
    return Image.fromarray(picture), "human"


def frames(left=None, right=None, count=4):
    shown = place(0)
    for green, column in ((left, 20), (right, 110)):
        if green is not None:
            shown = shown.copy()
            shown[30:54, column : column + 24] = face(green)
    return [shown] * count


ANNA, BERT = 0, 255  # at a right angle


@pytest.fixture
def both():
    return case_of(person(ANNA), person(BERT))


def test_all_people_count_wherever_they_are(models, both):
    for number in range(2):
        metric = FaceSimilarity(models, number=number)
        assert value(metric, both, frames(ANNA, BERT)) == pytest.approx(1, abs=1e-3)
        assert value(metric, both, frames(BERT, ANNA)) == pytest.approx(1, abs=1e-3)
        assert value(metric, both, frames(ANNA, ANNA)) == pytest.approx(0.5, abs=0.01)
        assert value(metric, both, frames(ANNA)) == pytest.approx(0.5, abs=0.01)


def test_another_identity_lowers_the_score_by_its_angle(models):
    metric = FaceSimilarity(models)
    case = case_of(person(ANNA))
    values = [value(metric, case, frames(green)) for green in (0, 85, 170)]
    assert values == pytest.approx(np.cos(np.pi / 2 * np.array([0, 1 / 3, 2 / 3])), abs=0.01)


def test_a_drawn_face_of_a_reference_is_nothing_to_compare(models):
    found = models.faces.detect

    def unsure(pictures):
        return [
            tuple(replace(face, score=0.85) for face in faces) if picture.shape[1] < 160 else faces
            for picture, faces in zip(pictures, found(pictures), strict=True)
        ]  # references are narrower than frames

    models.faces.detect = unsure
    score = FaceSimilarity(models).score(case_of(person(ANNA)), footage_of(frames(ANNA)))
    assert score.cause == "inapplicable"


def test_frames_without_the_face_count_and_are_told(models):
    score = FaceSimilarity(models).score(case_of(person(ANNA)), footage_of(frames(ANNA) + frames()))
    assert score.value == pytest.approx(0.5, abs=1e-3)
    assert score.details["found"] == {"1": 0.5}
    assert score.details["seen"]["1"] == pytest.approx(1, abs=1e-3)


def test_a_reference_without_a_face_is_named_and_left_out(models):
    case = case_of(person(ANNA), (Image.fromarray(plain()), "human"))
    score = FaceSimilarity(models).score(case, footage_of(frames(ANNA)))
    assert score.value == pytest.approx(1, abs=1e-3)
    assert score.details["faceless"] == ["2"]


def test_why_there_is_no_score(models, both):
    metric = FaceSimilarity(models)
    assert metric.score(both, footage_of(frames())).cause == "undetected"
    faceless = case_of((Image.fromarray(plain()), "human"))
    assert metric.score(faceless, footage_of(frames(ANNA))).cause == "inapplicable"
    assert metric.applies(case_of(Image.fromarray(plain()))).cause == "inapplicable"


def test_a_grey_border_goes_around_a_close_face():
    wide = padded(plain(0, (40, 80)))
    assert wide.shape == (60, 120, 3)
    assert (wide[0] == 128).all()


def test_distances_become_likeness_and_the_best_picture_counts():
    wanted = [np.array([[0, 0], [3, 0]], np.float32)]
    faces = np.array([[0, 0.4], [9, 9]], np.float32)
    assert alike(wanted, faces, "euclidean").tolist() == [[pytest.approx(0.6), 0]]
