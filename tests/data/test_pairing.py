from __future__ import annotations

from collections import Counter

import numpy as np

from anyref.data import pairing as module
from anyref.data.gallery import Clip, Subject, View
from anyref.data.identities import Identity, _Sum
from anyref.data.pairing import PairSettings, find_pairs


class Showcase:
    """Clips of one subject each, whose views have given angles in a plane."""

    def __init__(self, *clips, faces=False, portraits=(), length=16):
        self.clips, self.angles = [], []
        for number, angles in enumerate(clips):
            views = []
            for angle in angles:
                place = len(self.angles)
                self.angles.append(angle)
                views.append(
                    View(
                        ref_id=f"v{place}",
                        main=angle == angles[0],
                        portrait=place in portraits,
                        look=place,
                        face=place if faces else None,
                        text=(0, 0),
                    )
                )
            subject = Subject(entity_id=f"c{number}-1", word=None, views=tuple(views))
            self.clips.append(
                Clip(
                    id=f"c{number}",
                    uri="a.mp4",
                    start=16 * number,
                    end=16 * number + length,
                    middle=None,
                    subjects=(subject,),
                    backgrounds=(),
                )
            )

    def looks(self, views):
        angles = np.array([self.angles[view.look] for view in views])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    features = looks

    @property
    def identity(self):
        empty = _Sum(np.zeros(2, np.float32))
        members = [(place, 0) for place in range(len(self.clips))]
        return Identity(members, set(range(len(members))), {"a.mp4"}, set(), empty, empty)


def pairs_of(show, settings, views=10):
    return {
        place: [pair.view.ref_id for pair in pairs]
        for place, pairs in find_pairs(show, [show.identity], settings, views).items()
    }


WIDE = PairSettings(at_least=float(np.cos(1.0)), at_most=float(np.cos(0.1)), per_reference=3)


def test_the_most_similar_picture_of_each_clip_is_taken_the_best_first():
    show = Showcase([0.0], [0.5, 0.3], [0.2])
    assert pairs_of(show, WIDE)[0] == ["v3", "v2"]


def test_too_like_and_too_unlike_pictures_are_not_taken():
    show = Showcase([0.0], [0.05], [1.2], [0.4])
    assert pairs_of(show, WIDE)[0] == ["v3"]


def test_clips_with_common_frames_lend_each_other_nothing():
    assert pairs_of(Showcase([0.0], [0.3], length=20), WIDE) == {0: [], 1: []}


def test_same_faces_need_no_like_looks():
    assert pairs_of(Showcase([0.0], [1.4], faces=True), WIDE) == {0: ["v1"], 1: ["v0"]}


def test_a_face_is_paired_with_a_face():
    show = Showcase([0.0], [0.2, 0.5], portraits={0, 2})
    assert pairs_of(show, WIDE)[0] == ["v2"]


def test_only_so_many_views_with_a_face_are_lent():
    show = Showcase(*([0.01 * n] for n in range(60)), faces=True)
    settings = PairSettings(at_most=1, per_reference=60)
    found = find_pairs(show, [show.identity], settings, 10)
    lent = {pair.view.ref_id for pairs in found.values() for pair in pairs}
    assert len(lent) == 10
    assert {"v0", "v59"} <= lent


def test_of_a_large_identity_neighbours_look_among_themselves(monkeypatch):
    monkeypatch.setattr(module, "COMPANY", 4)
    show = Showcase(*([0.2 + 0.001 * (n % 2)] for n in range(10)))
    found = find_pairs(show, [show.identity], PairSettings(at_most=1.1, per_reference=9), 10)
    assert Counter(len(pairs) for pairs in found.values()) == {2: 6, 3: 4}
