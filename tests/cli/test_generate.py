"""`anyref generate`, without and with a list."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from anyref.media import read_metadata, read_video

pytestmark = pytest.mark.usefixtures("fakes", "home")
FOX = ("a @fox walks", "-r", "fox=fox.png")
NINE = [part for i in range(9) for part in ("-r", f"r{i}=fox.png")]
NINE_PROMPT = " ".join(f"@r{i}" for i in range(9))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a @fox", "-r", "fox=none.png"), "does not exist"),
        (("a @fox", "-r", "fox=text.png"), "not a readable picture"),
        ((NINE_PROMPT, *NINE), "9 reference pictures"),
        ((*FOX, "--model", "tiny-magref", "--frames", "76"), "80 network frames"),
        ((*FOX, "--model", "tiny-kaleido", "--frames", "80"), "80 network frames"),
        ((*FOX, "--size", "131x130"), "height 130 is not a multiple of 16"),
        (("a @wolf and @fox", "-r", "fox=fox.png"), "@wolf"),
        (("a fox", "-r", "fox=fox.png"), "never used"),
        ((*FOX, "-r", "fox=side.png"), "given 2 times"),
        (("",), "prompt is empty"),
        ((), "no prompt"),
        ((*FOX, "--seed", "-1"), "seed"),
        ((*FOX, "-o", "text.png/out.mp4"), "cannot be written"),
        ((*FOX, "-o", "out.json"), "not an .mp4"),
        ((*FOX, "--model", "huge"), "model 'huge' is not known"),
        ((*FOX, "--solver", "magic"), "solver"),
        ((*FOX, "--size", "wide"), "--size"),
        ((*FOX, "--layout", "rows"), "layout"),
        ((*FOX, "--layout", "0,0,1"), "layout"),
        ((*FOX, "--layout", "0,0,0,1"), "empty"),
        ((*FOX, "--layout", "0,0,nan,1"), "empty"),
        ((*FOX, "--reference-offset", "far"), "--reference-offset"),
        ((*FOX, "--disentangle", "11"), "disentangle"),
        ((*FOX, "--dtype", "int8"), "dtype"),
        ((*FOX, "--text", "wolf=a wolf"), "'wolf'"),
        ((*FOX, "--text", "fox"), "NAME=WORDS"),
        ((*FOX, "--strength", "wolf=2"), "'wolf'"),
        ((*FOX, "--strength", "fox=strong"), "--strength fox=2"),
        ((*FOX, "--strength", "fox=nan"), "strength"),
        ((*FOX, "--strength", "fox=1", "--strength", "fox=2"), "given twice"),
        ((*FOX, "--strength", "fox=2", "--strength-map", "here"), "strength_map"),
        ((*FOX, "--strength-map", "uniform"), "strength is 1"),
        ((*FOX, "--speed", "warp"), "speed"),
        ((*FOX, "--step-cache", "first-block:2"), "step_cache"),
        ((*FOX, "--guidance-interval", "0.6"), "--guidance-interval 0,0.6"),
        ((*FOX, "--guidance-interval", "0.6,0.6"), "is empty"),
        ((*FOX, "--guidance-interval", "0,2"), "guidance_interval"),
        ((*FOX, "--attention", "magic"), "attention 'magic' is not known"),
        ((*FOX, "--parallel", "ulysses=2"), "torchrun"),
        (("a @fox", "-r", "fox="), "empty picture path"),
        (("a", "-r", "Fox=fox.png"), "lower-case"),
        ((*FOX, "--out-dir", "videos"), "--batch"),
        ((*FOX, "--batch", "list.jsonl"), "leave out PROMPT"),
        (("--batch", "list.jsonl"), "--out-dir"),
        (("--batch", "list.jsonl", "--out-dir", "videos"), "cannot be read"),
    ],
)
def test_bad_input_gives_one_line_and_writes_nothing(anyref, fakes, home, arguments, says):
    before = sorted(home.rglob("*"))
    code, out, err = anyref("generate", *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err
    assert says in err
    assert sorted(home.rglob("*")) == before
    assert fakes.loaded == []


def test_a_usage_error_exits_with_2(anyref):
    code, _, err = anyref("generate", "a", "--nonsense")
    assert code == 2
    assert "--nonsense" in err


def test_the_first_fault_in_the_order_of_checks_is_reported(anyref):
    faults = ["--model", "huge", "--size", "131x130", "-o", "text.png/out.mp4"]
    assert "empty" in anyref("generate", "", *faults)[2]
    assert "none.png" in anyref("generate", "a @fox", "-r", "fox=none.png", *faults)[2]
    assert "huge" in anyref("generate", *FOX, *faults)[2]
    assert "131" in anyref("generate", *FOX, *faults[2:], "--size", "131x128")[2]


def test_a_video_comes_with_its_record_and_the_seconds_of_each_part(anyref, fakes, home):
    code, out, err = anyref("generate", *FOX, "--seed", "7", "-o", "videos/out.mp4")
    assert code == 0, err
    assert out.startswith("videos/out.mp4 (load ")
    assert all(part in out for part in ("encode 0.1 s", "steps 0.2 s", "decode 0.3 s", "write "))
    assert "step 1/2" in err
    frames, fps = read_video("videos/out.mp4")
    metadata = read_metadata("videos/out.mp4")
    assert (frames.shape, fps) == ((5, 64, 64, 3), 8.0)
    assert set(metadata) == {"request", "model", "versions", "engine"}
    assert metadata["engine"] == {"attention": "native"}
    assert "attention native" in err
    assert metadata["model"] == {"name": "tiny-magref", "hash": fakes.hash}
    assert metadata["request"]["references"][0]["images"] == [str(home / "fox.png")]
    assert set(metadata["versions"]) == {"anyref", "torch", "diffusers", "transformers"}
    sidecar = json.loads((home / "videos/out.json").read_text())
    assert {key: sidecar[key] for key in metadata} == metadata
    assert set(sidecar["timings"]) == {"load", "encode", "steps", "decode", "write"}


def test_the_same_request_gives_the_same_bytes(anyref, home):
    for name in ("one.mp4", "two.mp4"):
        anyref("generate", *FOX, "-o", name)
    assert (home / "one.mp4").read_bytes() == (home / "two.mp4").read_bytes()


def test_every_option_reaches_the_request(anyref, fakes, home):
    code, _, err = anyref(
        *("generate", "a @fox on @beach", "-r", "fox=fox.png,side.png:human"),
        *("-r", "beach=beach.jpg:background", "--text", "fox=a red fox", "--seed", "5"),
        *("--size", "128x64", "--frames", "5", "--steps", "3", "--guidance", "2.5"),
        *("--negative", "blur", "--solver", "dpm++", "--shift", "4", "--no-shuffle"),
        *("--layout", "0,0,0.5,1;0.5,0,1,1;0,0,1,1", "--reference-offset", "video"),
        *("--disentangle", "0.5", "--reference-size", "native"),
        *("--speed", "fast", "--step-cache", "taylorseer:3", "--guidance-interval", "0.1,0.7"),
        *("--device", "cpu", "--dtype", "bfloat16"),
    )
    assert code == 0, err
    (request,) = fakes.made
    fox, beach = request.references
    assert fox.images == (home / "fox.png", home / "side.png")
    assert (fox.kind, beach.kind) == ("human", "background")
    assert request.text == "a a red fox on beach"
    assert (request.width, request.height, request.num_frames) == (128, 64, 5)
    assert (request.seed, request.num_inference_steps, request.guidance_scale) == (5, 3, 2.5)
    assert (request.negative_prompt, request.solver, request.flow_shift) == ("blur", "dpm++", 4.0)
    assert request.layout == ((0, 0, 0.5, 1), (0.5, 0, 1, 1), (0, 0, 1, 1))
    assert (request.shuffle, request.reference_offset) == (False, "video")
    assert (request.reference_size, request.disentangle) == ("native", 0.5)
    assert (request.speed, request.step_cache) == ("fast", "taylorseer:3")
    assert request.guidance_interval == (0.1, 0.7)
    assert str(fakes.loaded[0]["dtype"]) == "torch.bfloat16"
    assert fakes.loaded[0]["device"] == "cpu"


def test_only_the_three_kinds_are_cut_from_a_path(anyref, fakes, home):
    Image.new("RGB", (8, 8)).save(home / "fox.png:person", format="PNG")
    assert anyref("generate", "a @fox", "-r", "fox=fox.png:person")[0] == 0
    assert fakes.made[0].references[0].images == (home / "fox.png:person",)


def test_an_equals_sign_behind_a_slash_is_part_of_the_path(anyref, fakes, home):
    Image.new("RGB", (8, 8)).save(home / "x=1.png")
    assert anyref("generate", "a fox", "-r", "./x=1.png")[0] == 0
    assert fakes.made[0].references[0].images == (home / "x=1.png",)


def test_conditioning_pictures_are_saved_on_request(anyref, home):
    assert anyref("generate", *FOX, "--save-conditioning", "seen")[0] == 0
    with Image.open(home / "seen/canvas.png") as picture:
        assert picture.size == (8, 8)


def test_an_interrupt_exits_with_130_and_leaves_nothing(anyref, fakes, home):
    fakes.fail_on, fakes.error = "fox", KeyboardInterrupt()
    before = sorted(home.rglob("*"))
    code, _, err = anyref("generate", *FOX)
    assert code == 130
    assert "Traceback" not in err
    assert sorted(home.rglob("*")) == before


def test_ranks_above_0_print_and_write_nothing(anyref, home, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    before = sorted(home.rglob("*"))
    assert anyref("generate", *FOX) == (0, "", "")
    assert sorted(home.rglob("*")) == before


def write_list(home, *prompts):
    lines = [json.dumps({"key": f"k{i}", "prompt": prompt}) for i, prompt in enumerate(prompts)]
    (home / "list.jsonl").write_text("\n".join(lines))
    return "generate", "--batch", "list.jsonl", "--out-dir", "videos"


def test_a_list_is_made_with_one_loaded_model(anyref, fakes, home):
    code, out, err = anyref(*write_list(home, "a", "b"), "--seed", "4")
    assert code == 0, err
    assert len(fakes.loaded) == 1
    assert [request.seed for request in fakes.made] == [4, 4]
    assert sorted(p.name for p in (home / "videos").iterdir()) == [
        *("k0.json", "k0.mp4", "k1.json", "k1.mp4")
    ]
    assert "2 made, 0 skipped, 0 failed" in out


def test_a_list_goes_on_after_failures_and_exits_with_1(anyref, fakes, home):
    fakes.fail_on = "broken"
    code, out, err = anyref(*write_list(home, "a", "broken", "a @wolf", "b"))
    assert code == 1
    assert "2 made, 0 skipped, 2 failed" in out
    assert "out of memory" in err
    assert "@wolf" in err
    assert not (home / "videos/k1.mp4").exists()


def test_finished_videos_of_a_list_are_skipped_without_loading(anyref, fakes, home):
    command = write_list(home, "a", "b")
    anyref(*command)
    fakes.loaded.clear()
    code, out, _ = anyref(*command)
    assert (code, fakes.loaded) == (0, [])
    assert "0 made, 2 skipped" in out


@pytest.mark.parametrize("change", ["seed", "model", "sidecar", "video", "picture"])
def test_what_has_changed_is_made_again(anyref, fakes, home, change):
    line = {"key": "k", "prompt": "a", "references": [{"images": ["fox.png"]}]}
    (home / "list.jsonl").write_text(json.dumps(line))
    command = ("generate", "--batch", "list.jsonl", "--out-dir", "videos")
    anyref(*command)
    more = ()
    if change == "seed":
        more = ("--seed", "1")
    elif change == "model":
        fakes.hash = "b" * 64
    elif change == "picture":
        Image.new("RGB", (20, 10), "blue").save(home / "fox.png")
    else:
        (home / "videos" / {"sidecar": "k.json", "video": "k.mp4"}[change]).unlink()
    _, out, _ = anyref(*command, *more)
    assert "1 made, 0 skipped" in out


def test_an_entry_for_another_model_fails_alone(anyref, home):
    lines = ['{"prompt":"a","model":"tiny-kaleido"}', '{"prompt":"b","model":"tiny-magref"}']
    (home / "list.jsonl").write_text("\n".join(lines))
    code, out, err = anyref("generate", "--batch", "list.jsonl", "--out-dir", "videos")
    assert (code, "1 made" in out) == (1, True)
    assert "asks for model 'tiny-magref'" in err


def test_the_command_line_starts_without_torch_or_diffusers():
    script = (
        "import sys, anyref.cli\n"
        "assert anyref.cli.main(['--help']) == 0\n"
        "sys.exit(bool({'torch', 'diffusers', 'transformers', 'av'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
