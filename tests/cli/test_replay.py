"""`anyref replay` and `anyref models`."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from anyref.media import read_metadata

pytestmark = pytest.mark.usefixtures("fakes", "home")


@pytest.fixture
def original(anyref, home):
    code, _, err = anyref("generate", "a @fox", "-r", "fox=fox.png", "--seed", "3")
    assert code == 0, err
    return home / "out.mp4"


@pytest.mark.parametrize("source", ["out.mp4", "out.json"])
def test_a_video_is_made_again_byte_for_byte(anyref, original, source):
    code, out, err = anyref("replay", source, "-o", "again.mp4")
    assert (code, "warning" in err) == (0, False)
    assert "identical" in out
    assert original.with_name("again.mp4").read_bytes() == original.read_bytes()
    assert read_metadata("again.mp4") == read_metadata("out.mp4")


def test_replay_names_its_video_after_the_original(anyref, original, home):
    assert anyref("replay", "out.mp4")[0] == 0
    assert (home / "out-again.mp4").is_file()
    assert (home / "out-again.json").is_file()


def test_a_missing_original_is_said(anyref, original):
    original.unlink()
    code, out, _ = anyref("replay", "out.json")
    assert code == 0
    assert "not there to compare" in out


def test_different_bytes_are_reported_with_exit_code_1(anyref, fakes, original):
    fakes.noise = 1
    code, out, _ = anyref("replay", "out.mp4")
    assert code == 1
    assert "different" in out


def test_what_differs_from_the_record_is_warned_about(anyref, fakes, home, original):
    fakes.hash = "b" * 64
    Image.new("RGB", (9, 9)).save(home / "fox.png")
    sidecar = json.loads((home / "out.json").read_text())
    sidecar["versions"]["torch"] = "0.1"
    (home / "out.json").write_text(json.dumps(sidecar))
    _, _, err = anyref("replay", "out.json")
    assert "warning: the model differs" in err
    assert "warning: torch was 0.1" in err
    assert "warning: a reference picture has changed" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none.mp4",), "does not exist"),
        (("none.json",), "does not exist"),
        (("text.png",), "carries no anyref request"),
        (("empty.json",), "no anyref request"),
        (("out.mp4", "-o", "out.mp4"), "is the original"),
    ],
)
def test_what_cannot_be_replayed_gives_one_line(anyref, home, original, arguments, says):
    (home / "empty.json").write_text("{}")
    code, _, err = anyref("replay", *arguments)
    assert (code, err.count("\n")) == (2, 1), err
    assert says in err


def test_a_record_that_is_no_valid_request_gives_one_line(anyref, home):
    (home / "bad.json").write_text(json.dumps({"request": {"prompt": "a", "seed": -1}}))
    code, _, err = anyref("replay", "bad.json")
    assert (code, err.count("\n")) == (2, 1), err


def test_models_lists_what_is_shipped(anyref):
    code, out, _ = anyref("models")
    assert code == 0
    assert "tiny-magref" in out
    assert "a small Kaleido" in out


def test_a_changed_mask_is_warned_about(anyref, home):
    Image.new("L", (9, 9), 255).save(home / "mask.png")
    line = {
        "key": "one",
        "prompt": "a",
        "references": [{"images": ["fox.png"], "mask": "mask.png"}],
    }
    (home / "list.jsonl").write_text(json.dumps(line))
    assert anyref("generate", "--batch", "list.jsonl", "--out-dir", "videos")[0] == 0
    assert "changed" not in anyref("replay", "videos/one.json", "-o", "same.mp4")[2]
    Image.new("L", (9, 9), 200).save(home / "mask.png")
    assert "picture has changed" in anyref("replay", "videos/one.json", "-o", "again.mp4")[2]
