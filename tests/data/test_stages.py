from __future__ import annotations

import pytest

from anyref.data.sources import Source
from anyref.data.stages import Item, Stage, check_stages
from anyref.errors import DataError


def test_a_measurement_is_a_finite_number():
    item = Item(id="a", source=Source.of("a.mp4"))
    assert item.measure(blur=1).measurements == {"blur": 1.0}
    with pytest.raises(ValueError, match="blur is nan"):
        item.measure(blur=float("nan"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "function or load"),
        ({"function": str, "load": str}, "function or load"),
        ({"function": str, "batch_size": 0}, "at least 1"),
        ({"function": str, "mixes_sources": True}, "no batch_size"),
        ({"function": str, "gpus": -1}, "fewer than 0"),
    ],
)
def test_a_stage_that_cannot_run_is_refused(fields, words):
    with pytest.raises(DataError, match=words):
        Stage(name="x", **fields)


def test_stages_share_neither_names_nor_measurements():
    one = Stage(name="one", function=str, measures=("a",))
    with pytest.raises(DataError, match="called 'one'"):
        check_stages([one, one])
    with pytest.raises(DataError, match="both measure 'a'"):
        check_stages([one, Stage(name="two", function=str, measures=("a",))])
    with pytest.raises(DataError, match="0 stages"):
        check_stages([])
