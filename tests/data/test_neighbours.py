from __future__ import annotations

import numpy as np
import pytest

from anyref.data import neighbours as module
from anyref.data.neighbours import VectorFile, mutual_neighbours
from anyref.errors import DataError


def vectors_of(count, size=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def test_vectors_come_back_from_their_file_by_place(tmp_path):
    vectors = vectors_of(7)
    with VectorFile(tmp_path, np.float32) as file:
        assert (file.add(vectors[:3]), file.add(vectors[3:]), len(file)) == (0, 3, 7)
        np.testing.assert_array_equal(file.take([5, 0, 5]), vectors[[5, 0, 5]])
    assert list(tmp_path.iterdir()) == []


def test_vectors_of_two_lengths_are_an_error(tmp_path):
    with VectorFile(tmp_path) as file:
        file.add(np.zeros((1, 4)))
        with pytest.raises(DataError, match="vectors of 5 numbers beside vectors of 4"):
            file.add(np.zeros((1, 5)))


def test_blocks_find_the_mutual_neighbours_that_a_full_matrix_has(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    vectors, groups = vectors_of(40), np.arange(40) // 4
    squares = (vectors**2).sum(1) + np.linspace(0, 1, 40, dtype=np.float32)
    found = mutual_neighbours(vectors, squares, 9.0, 3, groups)
    distances = squares[:, None] + squares - 2 * vectors @ vectors.T
    distances[groups[:, None] == groups] = np.inf
    near = np.argsort(distances, axis=1)[:, :3]
    expected = {
        (i, j)
        for i in range(40)
        for j in near[i].tolist()
        if i < j and i in near[j] and distances[i, j] <= 9
    }
    assert set(found) == expected
    assert len(expected) > 10
    for (i, j), distance in found.items():
        assert distance == pytest.approx(distances[i, j], rel=1e-4)
