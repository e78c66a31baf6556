from __future__ import annotations

import numpy as np
import pytest

import stage_models
from anyref.data.labels import Label, LabelSettings, label_of, namer_among
from anyref.data.tracks import Sighting, Track
from anyref.perception.contracts import Box

WORDS = ("dog", "rabbit")


def label(*said, chances=(0.0, 0.0), face=0.0):
    """The label of a track that a detector called such names at such scores."""
    track = Track(
        tuple(
            Sighting(frame=k, box=Box(0, 0, 9, 9), score=score, label=name)
            for k, (name, score) in enumerate(said)
        )
    )
    made = label_of(track, WORDS, np.float32([chances]), face=face, settings=LabelSettings())
    return made.text, made.by


@pytest.mark.parametrize(
    ("said", "chances", "expected"),
    [
        ([("dog", 0.9)], (0.6, 0.0), ("dog", "objects")),
        ([("dog", 0.9)], (0.0, 0.8), ("rabbit", "pictures")),
        ([("dog", 0.9)], (0.25, 0.2), ("character", "nobody")),
        ([("dog", 0.9)], (0.1, 0.2), ("character", "nobody")),
        ([("dog", 0.7)], (0.3, 0.0), ("character", "nobody")),
        ([("cup", 0.9)], (0.0, 0.0), ("cup", "objects")),
        ([("cup", 0.9)], (0.0, 0.8), ("rabbit", "pictures")),
        ([("cup", 0.7)], (0.0, 0.0), ("object", "nobody")),
        ([("cup", 0.9), ("kite", 0.9)], (0.0, 0.0), ("object", "nobody")),
        ([(None, 0.5)], (0.0, 0.9), ("rabbit", "pictures")),
        ([(None, 0.5)], (0.0, 0.0), ("object", "nobody")),
    ],
)
def test_a_name_needs_a_sure_detector_and_a_classifier_that_agrees(said, chances, expected):
    assert label(*said, chances=chances) == expected


def test_a_person_is_believed_with_a_face_or_where_no_animal_is_seen():
    assert label(("person", 0.7), face=0.9) == ("person", "objects")
    assert label(("person", 0.9)) == ("person", "objects")
    assert label(("person", 0.7)) == ("character", "nobody")
    assert label(("person", 1.0), chances=(0.2, 0.2)) == ("character", "nobody")
    assert label((None, 0.5), face=0.9) == ("person", "faces")
    assert label(("dog", 0.9), face=0.9) == ("character", "nobody")


def test_a_face_makes_no_person_of_an_animal_unless_it_is_a_sure_one():
    rabbit = (0.2, 0.2)
    assert label(("person", 1.0), chances=rabbit, face=0.9) == ("character", "nobody")
    assert label((None, 0.5), chances=rabbit, face=0.9) == ("character", "nobody")
    assert label(("person", 0.7), chances=rabbit, face=0.94) == ("person", "objects")


def test_without_a_classifier_animals_are_not_believed():
    track = Track((Sighting(frame=0, box=Box(0, 0, 9, 9), score=1.0, label="dog"),))
    none = np.zeros((1, 0), np.float32)
    made = label_of(track, (), none, face=0.0, settings=LabelSettings())
    assert made.text == "character"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("person", "human"),
        ("the old man in a blue coat", "human"),
        ("a dog with a boy", "object"),
        ("woman", "human"),
        ("snowman", "object"),
    ],
)
def test_the_noun_decides_whether_it_is_human(text, kind):
    assert Label(text=text, by="captioner", score=1).kind == kind


def test_the_first_embedder_that_can_name_does():
    able = stage_models.Embedder()
    assert namer_among((stage_models.FaceEmbedder(), able)) is able
    assert namer_among((stage_models.FaceEmbedder(),)) is None
