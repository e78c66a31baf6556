from __future__ import annotations

import numpy as np
import pytest

from anyref.errors import PerceptionError
from anyref.perception.contracts import Box
from anyref.perception.objects import COCO_LABELS, SsdMobileNet


class StandIn:
    """Plays cv2.dnn.Net: a cat, a better dog, an unused class and a weak cup."""

    def setInput(self, blob):  # noqa: N802
        self.blob = blob

    def forward(self):
        rows = [
            [0, 17, 0.7, 0.1, 0.2, 0.5, 0.6],
            [0, 18, 0.9, -0.1, 0.0, 0.5, 1.2],
            [0, 12, 0.9, 0.0, 0.0, 1.0, 1.0],
            [0, 47, 0.3, 0.0, 0.0, 1.0, 1.0],
        ]
        return np.float32([[rows]])


@pytest.fixture
def detector():
    detector = SsdMobileNet()
    detector.network = StandIn()
    return detector


def test_the_labels_are_cocos_eighty():
    assert len(detector_vocabulary()) == 80
    assert [COCO_LABELS[number] for number in (1, 17, 44, 90)] == [
        "person",
        "cat",
        "bottle",
        "toothbrush",
    ]


def detector_vocabulary():
    return SsdMobileNet.vocabulary


def test_objects_come_best_first_within_the_picture(detector, blank):
    (found,) = detector.detect([blank(100, 200)])
    assert [thing.label for thing in found] == ["dog", "cat"]
    assert found[0].box == Box(0, 0, 100, 100)
    assert found[1].box.left == pytest.approx(20)
    assert found[1].box.bottom == pytest.approx(60)


def test_only_the_words_asked_for_are_found(detector, blank):
    found = detector.detect([blank(), blank()], [["Cat", "unicorn"], []])
    assert [[thing.label for thing in things] for things in found] == [["cat"], []]


def test_words_are_needed_for_each_picture(detector, blank):
    with pytest.raises(PerceptionError, match="1 lists of words for 2 pictures"):
        detector.detect([blank(), blank()], [["cat"]])


def test_the_network_sees_red_first_and_whole_numbers(detector, blank):
    picture = blank(level=0)
    picture[..., 0] = 200
    detector.detect([picture])
    assert detector.network.blob.shape == (1, 3, 300, 300)
    assert detector.network.blob[0, :, 0, 0].tolist() == [200, 0, 0]


@pytest.mark.slow
def test_a_person_a_cat_and_a_cup_are_found(fetched, photograph):
    fetched("ssd-mobilenet-v2")
    pictures = [photograph(name) for name in ("astronaut", "chelsea", "coffee")]
    found = SsdMobileNet().detect(pictures, [["person"], ["cat"], ["cup"]])
    scores = [things[0].score for things in found]
    assert scores == pytest.approx([0.81, 0.91, 0.95], abs=0.05)
