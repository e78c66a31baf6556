from __future__ import annotations

import copy

import pytest

from anyref.data.leftovers import leftovers, restore, same

BUILT = {"a": {"b": 1, "c": [1.0]}, "d": {}, "e": 2}


@pytest.mark.parametrize(
    "original",
    [
        BUILT,
        {},
        {"a": {"b": 1, "c": [1.0], "more": None}, "d": {"x": {}}, "e": 2},
        {"a": {"b": True, "c": [1.0, 2]}, "d": [], "e": {"f": 1}},
        {"a": 5, "e": None},
        {"a": {"c": [1.0]}, "d": {}, "e": 2},
    ],
)
def test_what_is_kept_makes_the_original_of_what_was_built(original):
    kept = leftovers(original, BUILT)
    assert same(restore(copy.deepcopy(BUILT), kept), original)


def test_only_what_differs_is_kept():
    assert leftovers({**BUILT, "e": 2.0}, BUILT) == {}
    assert leftovers({**BUILT, "a": {"b": 1}}, BUILT) == {"absent": [["a", "c"]]}


def test_an_edit_shows_beside_what_is_kept():
    kept = leftovers({**BUILT, "new": 1}, BUILT)
    assert restore({**BUILT, "e": 3}, kept) == {**BUILT, "e": 3, "new": 1}


def test_numbers_and_booleans_are_compared_as_json_does():
    assert same({"a": [1, 2.0]}, {"a": [1.0, 2]})
    assert not same([1], [True])
    assert not same({"a": 1}, {"a": 1, "b": 2})
    assert not same([1], [1, 2])
