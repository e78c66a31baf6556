from __future__ import annotations

import pytest
import torch

from anyref.errors import PerceptionError
from anyref.perception.contracts import Box, Detection
from anyref.perception.large_objects import GroundingDino, _distinct
from tiny_large import pictures, save_grounding_dino

PHRASES = ("a red dog", "A cat?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_grounding_dino(tmp_path_factory.mktemp("grounding-dino"))


@pytest.fixture
def detector(folder):
    return GroundingDino(folder, device="cpu", min_score=0.0, max_overlap=1.0, batch=2)


def rounded(detections):
    return [
        (d.label, round(d.score, 3), *(round(v, 1) for v in vars(d.box).values()))
        for d in detections
    ]


def test_boxes_carry_the_phrase_as_given_and_lie_in_the_picture(detector):
    (found,) = detector.detect(pictures((60, 90)), [PHRASES])
    assert found
    assert {detection.label for detection in found} <= set(PHRASES)
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    for detection in found:
        assert 0 <= detection.score <= 1
        assert 0 <= detection.box.left <= detection.box.right <= 90
        assert 0 <= detection.box.top <= detection.box.bottom <= 60


def test_a_batch_of_sizes_and_phrases_finds_what_each_picture_finds_alone(detector):
    some = pictures((60, 90), (60, 90), (90, 60), (60, 90))
    words = [PHRASES, ["cat"], ["a dog", "red"], []]
    together = detector.detect(some, words)
    for picture, phrases, found in zip(some, words, together, strict=True):
        (alone,) = detector.detect([picture], [phrases])
        assert rounded(found) == rounded(alone)
    assert together[3] == ()


def test_a_box_belongs_to_the_phrase_whose_tokens_fit_best_on_average(detector):
    (question,) = detector._questions(0, PHRASES)
    assert question.tokens == (101, 1033, 1030, 1031, 1012, 1033, 1032, 1012, 102)
    assert question.spans == ((1, 4), (5, 7))
    scores = torch.zeros(2, 12)
    scores[0, 1:4] = torch.tensor([0.1, 0.9, 0.2])  # one token of the first phrase
    scores[0, 5:7] = 0.6
    scores[1, 1:4] = 0.5
    boxes = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.25, 0.5, 0.5, 2.0]])
    found = detector._read(question, scores, boxes, 10, 20)
    assert [d.label for d in found] == ["A cat?", "a red dog"]
    assert [d.score for d in found] == pytest.approx([0.6, 0.5])
    assert [d.box for d in found] == [Box(0, 0, 20, 10), Box(0, 0, 10, 10)]


def test_more_phrases_than_the_text_holds_are_asked_in_turns(detector):
    phrases = ["red dog", "red cat", "a dog", "a cat", "cat"]
    assert len(detector._questions(0, phrases)) > 1
    (found,) = detector.detect(pictures((60, 90)), [phrases])
    assert {detection.label for detection in found} <= set(phrases)


def test_one_of_two_boxes_of_a_phrase_in_the_same_place_stays():
    def dog(left, score, label="dog"):
        return Detection(box=Box(left, 0, left + 10, 10), label=label, score=score)

    kept = _distinct([dog(0, 0.5), dog(1, 0.9), dog(20, 0.4), dog(1, 0.3, "cat")], 0.8)
    assert [(d.label, d.score) for d in kept] == [("dog", 0.9), ("dog", 0.4), ("cat", 0.3)]


def test_what_it_cannot_look_for_is_refused(detector):
    with pytest.raises(PerceptionError, match="no vocabulary"):
        detector.detect(pictures((60, 90)))
    with pytest.raises(PerceptionError, match=r"phrase '\.' has 0 tokens"):
        detector.detect(pictures((60, 90)), [["."]])
    with pytest.raises(PerceptionError, match="1 lists of words for 2 pictures"):
        detector.detect(pictures((60, 90), (60, 90)), [["cat"]])
