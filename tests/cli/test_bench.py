"""`anyref bench`: predictions without weights, measurements of two ways, JSON and a table."""

from __future__ import annotations

import json

import pytest

import tiny
from anyref.cli.bench import Way
from anyref.errors import RequestError


def test_a_model_is_predicted_for_a_gpu_that_is_not_here(anyref, tmp_path):
    out = tmp_path / "made.json"
    code, table, _ = anyref(
        "bench", "--model", "tiny-kaleido", "--predict", "--gpu", "4090", "--memory", "8GB",
        "--size", "96x96", "--frames", 9, "--json", out,
    )  # fmt: skip
    assert code == 0
    assert "plan full" in table
    record = json.loads(out.read_text())
    (way,) = record["ways"]
    assert way["predicted"]["peak"] < 8 * 2**30
    assert way["exact"]
    assert record["shape"] == [9, 96, 96]
    assert "measured" not in way


def test_two_ways_are_measured_side_by_side(anyref, tmp_path):
    tiny.tiny_kaleido_folder(tmp_path / "model")
    out = tmp_path / "made.json"
    code, table, _ = anyref(
        "bench", "--model", tmp_path / "model", "--steps", 2, "--memory", "full",
        "--against", "memory=blocks", "--device", "cpu", "--json", out,
    )  # fmt: skip
    assert code == 0
    assert "same frames" in table
    record = json.loads(out.read_text())
    assert [way["plan"] for way in record["ways"]] == ["full", "blocks"]
    assert all(way["measured"]["step"] > 0 for way in record["ways"])
    assert record["difference"]["latents"] == 0.0
    assert record["peak_is"] == "measured"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--against", "colour=red"], "is no change"),
        (["--predict", "--gpu", "abacus"], "known: b200"),
        (["--steps", "0"], "give 1 or more"),
        (["--memory", "plenty"], "is not known"),
        (["--size", "95x96"], "not a multiple"),
    ],
)
def test_what_cannot_be_measured_is_one_line(anyref, options, words):
    code, _, error = anyref("bench", "--model", "tiny-magref", *options)
    assert code == 2
    assert words in error


def test_a_second_way_says_what_differs():
    way = Way("12GB").changed("speed=fast, step-cache=taylorseer")
    assert way == Way("12GB", "fast", "taylorseer")
    assert way.name == "12GB, fast, taylorseer"
    with pytest.raises(RequestError, match=r"memory=\.\.\."):
        way.changed("fast")
