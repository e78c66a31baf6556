from __future__ import annotations

import numpy as np
import pytest

from anyref.data import duplicates as module
from anyref.data.duplicates import Duplicate, find_duplicates, fingerprint, layout_of
from anyref.data.neighbours import VectorFile
from casts import direction


def found_in(folder, vectors, places, at_least):
    with VectorFile(folder, np.float32) as file:
        file.add(np.stack(vectors))
        return find_duplicates(file, places, at_least)


def test_of_many_copies_the_first_stays_and_each_names_the_most_like_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 2)
    a, b = direction(1), direction(2)
    found = found_in(tmp_path, [a, b, a, a, b], [0, 1, 2, None, 3, 4], 0.97)
    assert {place: duplicate.of for place, duplicate in found.items()} == {2: 0, 4: 0, 5: 1}
    assert found[2].similarity == pytest.approx(1)


def test_a_clip_that_only_a_dropped_one_resembles_stays(tmp_path):
    steps = [np.array([np.cos(angle), np.sin(angle)]) for angle in (0, 0.2, 0.4)]
    found = found_in(tmp_path, steps, [0, 1, 2], float(np.cos(0.25)))
    assert list(found) == [1]
    assert found[1] == Duplicate(0, pytest.approx(np.cos(0.2)))


def thumbs(seed, shift=0):
    """Smooth grey patches that move: (9, 90, 160)."""
    cv2 = pytest.importorskip("cv2")
    coarse = np.random.default_rng(seed).integers(20, 220, (9, 30)).astype(np.uint8)
    wide = cv2.resize(coarse, (400, 90), interpolation=cv2.INTER_CUBIC)
    return np.stack([wide[:, shift + 4 * n : shift + 4 * n + 160] for n in range(9)])


def test_a_copy_has_the_same_layout_and_another_clip_has_not():
    clip = thumbs(1)
    copy = (clip[:, 2:-2, 3:-3] * 0.93).astype(np.uint8)
    assert layout_of(clip) @ layout_of(copy) > 0.95
    assert abs(layout_of(clip) @ layout_of(thumbs(2))) < 0.5


def test_what_stands_elsewhere_has_another_layout():
    assert layout_of(thumbs(1)) @ layout_of(thumbs(1, shift=40)) < 0.8


def test_a_grey_wall_has_no_layout():
    assert not layout_of(np.full((1, 90, 160), 7, np.uint8)).any()


def test_fingerprints_are_alike_when_things_and_places_are():
    one, two = layout_of(thumbs(1)), layout_of(thumbs(2))
    a, b = fingerprint(3 * direction(1), one), fingerprint(direction(1), two)
    assert a @ a / 2 == pytest.approx(1)
    assert a @ b / 2 == pytest.approx((1 + one @ two) / 2)
