"""`--memory` and `--transformer`: told before loading, kept in the record, replayed."""

from __future__ import annotations

import json

import pytest

import tiny
from anyref.cli.holding import Asked, Holding, recorded
from anyref.errors import ModelError, RequestError
from anyref.pipelines.memory.dry_run import Strengths
from anyref.request import PixelShape, Reference, Request


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.tiny_kaleido_folder(tmp_path_factory.mktemp("held") / "model")


def test_a_video_under_a_plan_tells_it_first_and_replays_to_the_same_bytes(anyref, home, model):
    arguments = ["generate", "a @fox walks", "-r", "fox=fox.png", "--model", model, "--steps", 1]
    code, _, told = anyref(*arguments, "--memory", "disk-int8", "--device", "cpu")
    assert code == 0
    assert told.index("predicted peak") < told.index("encode\n")
    assert "text_encoder: " in told
    assert "memory plan disk-int8" in told
    record = json.loads((home / "out.json").read_text())
    assert record["engine"]["memory"] == "disk-int8"
    assert record["model"]["memory"] == "disk-int8"
    code, said, _ = anyref("replay", "out.mp4", "--device", "cpu")
    assert "identical" in said
    assert code == 0


def test_other_weights_are_used_and_recorded(anyref, home, model):
    file = model / "transformer" / "diffusion_pytorch_model.safetensors"
    arguments = ["generate", "a @fox walks", "-r", "fox=fox.png", "--model", model, "--steps", 1]
    assert anyref(*arguments, "--transformer", file)[0] == 0
    record = json.loads((home / "out.json").read_text())
    assert record["model"]["transformer"]["path"] == str(file)
    assert recorded(record) == Holding(transformer=str(file))


def test_what_cannot_be_is_refused_before_loading(monkeypatch):
    with pytest.raises(ModelError, match="is not a file"):
        Holding(transformer="nowhere.gguf").check()
    with pytest.raises(ModelError, match="use auto"):
        Holding("plenty").check()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="one process"):
        Holding("12GB").check()
    Holding().check()


@pytest.mark.parametrize(
    ("fields", "passes"),
    [({}, 0), ({"strength_map": "guidance"}, 2), ({"strength_map": "uniform"}, 0)],
)
def test_references_with_a_pass_of_their_own_count_as_time(fields, passes):
    pictures = [tiny.picture(color) for color in ("red", "green", "blue", "gray")]
    references = [
        Reference([picture], strength=strength)
        for picture, strength in zip(pictures, (1.0, 0.0, 0.5, 3.0), strict=True)
    ]
    request = Request(prompt="x", references=references, **fields)
    shape, defaults = PixelShape(17, 96, 96), {"num_inference_steps": 9}
    asked = Asked.of(request, shape, defaults)
    assert Strengths(asked.strengths, asked.strength_map).contrasts == passes
    asked = Asked.of(request, shape, defaults | {"strength_map": "guidance"})
    assert asked.strength_map == fields.get("strength_map", "guidance")


def test_the_largest_request_decides():
    small = Asked(PixelShape(17, 96, 96), 20, True, 1)
    large = Asked(PixelShape(33, 96, 96), 20, True, 1)
    assert max([small, large], key=lambda one: one.pixels) is large
    made = Asked.of(
        Request(prompt="x", guidance_scale=1.0), small.shape, {"num_inference_steps": 9}
    )
    assert (made.steps, made.guided, made.pictures) == (9, False, 0)


def test_records_without_a_plan_are_held_whole():
    assert recorded({}) == Holding()
    assert recorded({"model": "x", "engine": 3}) == Holding()
    assert recorded({"model": {"memory": "12GB"}, "engine": {"memory": "blocks"}}) == (
        Holding("blocks")
    )
