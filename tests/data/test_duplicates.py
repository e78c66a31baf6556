from __future__ import annotations

import numpy as np
import pytest

from anyref.data import duplicates as module
from anyref.data.duplicates import Duplicate, find_duplicates
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
