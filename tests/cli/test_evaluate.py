from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

import scored
from anyref.evaluation.benchmark import load_benchmark
from anyref.evaluation.shipped import Shipped
from anyref.media import read_video


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch, tmp_path):
    """Stand-in metrics for the shipped ones, and a cache of the test's own."""
    module = ModuleType("anyref.evaluation.metrics")
    module.small_metrics = lambda cache: scored.metrics()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("ANYREF_CACHE", str(tmp_path / "cache"))
    return module


@pytest.fixture
def cases(tmp_path):
    return scored.write_benchmark(tmp_path / "cases")


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "model-a"
    for place, name in enumerate(("one", "two", "three", "four")):
        scored.write_clip(folder / f"{name}.mp4", 80 + 40 * place)
    return folder


def read(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_folder_is_scored_without_naming_a_command(anyref, cases, videos, tmp_path):
    out = tmp_path / "out"
    code, said, errors = anyref(
        "evaluate", videos, "--benchmark", cases, "-o", out, "--fail-under", "total=0.2"
    )
    assert code == 0, errors
    assert "model-a on small, profile strict" in said
    assert "brightness" in said and "total" in said and "95 % interval" in said
    assert "4/4 scored" in errors
    figures = read(out)["figures"]
    assert figures["metrics"]["brightness"]["value"] == pytest.approx(140 / 255, abs=0.02)
    assert figures["metrics"]["brightness"]["low"] < figures["metrics"]["brightness"]["high"]
    assert set(read(out)["parts"]["category"]) == {"animals", "people"}
    rows = list(csv.DictReader((out / "results.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == ["four", "one", "three", "two"]
    assert (out / "report.html").is_file() and "| brightness |" in (out / "report.md").read_text()


def test_two_runs_and_any_number_of_workers_give_the_same_bytes(
    anyref, cases, videos, tmp_path, monkeypatch
):
    for workers in (1, 3):
        monkeypatch.setenv("ANYREF_CACHE", str(tmp_path / f"cache-{workers}"))
        anyref(
            "evaluate", videos, "--benchmark", cases, "-o", tmp_path / str(workers),
            "--workers", workers,
        )  # fmt: skip
    for name in ("results.json", "results.csv", "report.md", "report.html"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


def test_each_bad_video_has_its_own_reason_and_costs_no_other(anyref, cases, tmp_path):
    folder = tmp_path / "bad"
    scored.write_clip(folder / "one.mp4", 200)
    (folder / "two.mp4").write_bytes(b"not a video" * 100)
    (folder / "three.mp4").write_bytes(b"")
    for name in ("stranger.mp4", "=cmd()\x1b[31m<script>.mp4"):
        scored.write_clip(folder / name)
    out = tmp_path / "out"
    code, _, errors = anyref("evaluate", folder, "--benchmark", cases, "-o", out)
    assert code == 0
    assert "\x1b" not in errors and "two, take 0" in errors
    said = read(out)["model"]
    column = said["scores"]["brightness"]
    assert column["one-0"]["value"] > 0.7
    assert column["two-0"]["cause"] == "unreadable"
    assert column["three-0"]["cause"] == "missing" and "is empty" in column["three-0"]["skipped"]
    assert column["four-0"]["cause"] == "missing"
    assert said["videos"]["missing"] == ["four-0"] and len(said["videos"]["extra"]) == 2
    page = (out / "report.html").read_text()
    assert "<script" not in page and "stranger.mp4" in page


def test_a_bad_reference_is_a_fault_of_its_case(anyref, tmp_path, videos):
    cases = scored.write_benchmark(tmp_path / "cases")
    (cases.parent / "fox.png").write_text("not a picture")
    out = tmp_path / "out"
    assert anyref("evaluate", videos, "--benchmark", cases, "-o", out)[0] == 0
    scores = read(out)["model"]["scores"]
    assert scores["faces"]["one-0"]["cause"] == "faulty"
    assert "value" in scores["brightness"]["one-0"]


def test_a_figure_under_its_limit_is_code_1(anyref, cases, videos, tmp_path):
    code, _, errors = anyref(
        "evaluate", videos, "--benchmark", cases, "-o", tmp_path / "out",
        "--fail-under", "brightness=0.9", "--metrics", "brightness",
    )  # fmt: skip
    assert code == 1 and "the limit is 0.9" in errors
    assert read(tmp_path / "out")["gates"][0]["passed"] is False
    assert list(read(tmp_path / "out")["metrics"]) == ["brightness"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--fail-under", "speed=0.5"], "speed"),
        (["--fail-under", "total"], "METRIC=VALUE"),
        (["--metrics", "speed"], "speed"),
        (["--profile", "best"], "best"),
        (["--profile", "opens2v-v1.1"], "OpenS2V-Eval"),
        (["--profile", "magref"], "none of these is measured here"),
        (["--metrics", ""], "names none"),
        (["--fail-under", "total=50"], "total=0.5"),
        (["--compare", "nowhere"], "nowhere"),
        (["--benchmark", "nothing"], "nothing"),
        (["--out", "taken/in"], "taken"),
    ],
)
def test_bad_input_is_one_line_and_code_2_before_any_work(
    anyref, cases, videos, tmp_path, monkeypatch, changes, words
):
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("a file")
    given = {"--benchmark": cases, "--out": "out"} | dict([changes])
    flat = [part for pair in given.items() for part in pair]
    code, _, errors = anyref("evaluate", videos, *flat)
    assert code == 2 and errors.count("\n") == 1 and words in errors
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("large", "words"), [("gme=x", "PART=SOURCE"), ("clip=nowhere", "nowhere")]
)
def test_large_models_that_are_not_there_are_code_2_before_any_work(
    anyref, cases, videos, monkeypatch, large, words
):
    monkeypatch.delitem(sys.modules, "anyref.evaluation.metrics")  # the real ones
    code, _, errors = anyref("evaluate", videos, "--benchmark", cases, "--large", large)
    assert code == 2 and errors.count("\n") == 1 and words in errors


def test_a_folder_without_videos_of_the_cases_is_code_2(anyref, cases, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, errors = anyref("evaluate", tmp_path / "empty", "--benchmark", cases)
    assert code == 2 and "one.mp4" in errors


def test_another_model_is_compared_on_the_same_cases(anyref, cases, videos, tmp_path):
    for place, name in enumerate(("one", "two", "three", "four")):
        scored.write_clip(tmp_path / "model-b" / f"{name}.mp4", 70 + 38 * place)
    code, said, _ = anyref(
        "evaluate", videos, "--benchmark", cases, "-o", tmp_path / "out",
        "--compare", tmp_path / "model-b", "--metrics", "brightness",
    )  # fmt: skip
    assert code == 0 and "model-b" in said
    pair = read(tmp_path / "out")["figures"]["comparison"]["metrics"]["brightness"]
    assert 0 < pair["low"] <= pair["difference"] <= pair["high"]
    assert "model-b" in (tmp_path / "out/report.html").read_text()


def test_a_crash_has_an_exit_code_of_its_own(anyref, cases, videos, tmp_path, monkeypatch):
    def crash(*_):
        raise IndexError("a fault of ours")

    monkeypatch.setattr("anyref.cli.evaluate_job.finish", crash)
    code, _, errors = anyref("evaluate", videos, "--benchmark", cases, "-o", tmp_path / "out")
    assert code == 3 and "a fault of ours" in errors


def test_faulty_cases_are_told_and_no_gate_passes_over_them(anyref, cases, videos, tmp_path):
    said = json.loads(cases.read_text())
    said["cases"][1]["references"][0]["images"] = ["gone.png"]
    cases.write_text(json.dumps(said))
    given = ("evaluate", videos, "--benchmark", cases, "-o", tmp_path / "out")
    code, _, errors = anyref(*given, "--fail-under", "total=0.1")
    assert code == 2 and "1 of 4 cases are faulty" in errors
    code, told, _ = anyref(*given)
    assert code == 0 and "1 cases are at fault" in told
    assert read(tmp_path / "out")["figures"]["metrics"]["brightness"]["faulty"] == 1
    for case in said["cases"]:
        case["references"][0]["images"] = ["gone.png"]
    cases.write_text(json.dumps(said))
    code, _, errors = anyref(*given)
    assert code == 2 and "all 4 cases" in errors and "gone.png" in errors


def test_models_whose_folders_have_one_name_are_told_apart(anyref, cases, tmp_path):
    for model, level in (("a", 90), ("b", 120)):
        for name in ("one", "two"):
            scored.write_clip(tmp_path / model / "clips" / f"{name}.mp4", level)
    code, said, _ = anyref(
        "evaluate", tmp_path / "a/clips", "--benchmark", cases, "-o", tmp_path / "out",
        "--compare", tmp_path / "b/clips", "--metrics", "brightness",
    )  # fmt: skip
    assert code == 0 and "a/clips on small" in said and "less b/clips" in said


def test_help_names_the_options_of_scoring(anyref):
    for flag in ("-h", "--help"):
        code, said, _ = anyref("evaluate", flag)
        assert code == 0 and "evaluate score --help" in " ".join(said.split())


def test_faults_of_cases_steer_no_terminal(anyref, fakes, cases, tmp_path):
    lines = ['{"id": "one", "prompt": "a fox"}', '"\\u001b[31mred"']
    path = tmp_path / "hostile.jsonl"
    path.write_text("\n".join(lines))
    code, _, errors = anyref(
        "evaluate", "run", "--model", "tiny-magref", "--benchmark", path, "-o", tmp_path / "out",
        "--metrics", "brightness",
    )  # fmt: skip
    assert code == 0 and "red" in errors and "\x1b" not in errors


def test_a_killed_run_loses_at_most_one_video_per_worker(anyref, cases, videos, tmp_path):
    log = tmp_path / "log"
    code = (
        f"import sys; sys.path.insert(0, {str(Path(scored.__file__).parent)!r})\n"
        "import types, scored\n"
        "module = types.ModuleType('anyref.evaluation.metrics')\n"
        f"module.small_metrics = lambda cache: scored.metrics(log={str(log)!r}, seconds=SECONDS)\n"
        "sys.modules[module.__name__] = module\n"
        "from anyref.cli import main\n"
        "if __name__ == '__main__':\n"
        f"    sys.exit(main(['evaluate', {str(videos)!r}, '--benchmark', {str(cases)!r}, '-o',"
        f" {str(tmp_path / 'out')!r}, '--workers', '1']))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code.replace("SECONDS", "0.7"))
    run = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and run.poll() is None:
            if log.exists() and len(log.read_text().splitlines()) >= 2:
                break
            time.sleep(0.02)
        os.kill(run.pid, signal.SIGKILL)
    finally:
        run.kill()
        run.communicate()
    begun = log.read_text().splitlines()
    assert len(begun) >= 2 and not (tmp_path / "out/results.json").exists()
    worker = int(begun[0].split()[1])
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
    script.write_text(code.replace("SECONDS", "0"))
    done = subprocess.run([sys.executable, str(script)], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    asked = Counter(line.split()[0] for line in log.read_text().splitlines())
    assert set(asked) == {"one", "two", "three", "four"}
    assert sum(asked.values()) <= 5
    assert read(tmp_path / "out")["model"]["videos"]["found"] == 4


def test_videos_are_made_with_fixed_seeds_once_and_scored(anyref, fakes, cases, tmp_path):
    given = ("evaluate", "run", "--model", "tiny-magref", "--benchmark", cases, "--out")
    code, said, errors = anyref(*given, tmp_path / "out", "--metrics", "brightness")
    assert code == 0, errors
    assert "4 made, 0 there already, 0 not made" in said
    assert sorted(p.name for p in (tmp_path / "out/videos/tiny-magref").glob("*.mp4")) == [
        "four.mp4", "one.mp4", "three.mp4", "two.mp4",
    ]  # fmt: skip
    seeds = [request.seed for request in fakes.made]
    assert len(set(seeds)) == 4
    first = (tmp_path / "out/results.json").read_bytes()
    code, said, _ = anyref(*given, tmp_path / "out", "--metrics", "brightness")
    assert code == 0 and "0 made, 4 there already" in said
    assert (tmp_path / "out/results.json").read_bytes() == first
    anyref(*given, tmp_path / "again", "--metrics", "brightness")
    assert [request.seed for request in fakes.made[4:]] == seeds


def test_a_case_that_cannot_be_made_counts_as_missing(anyref, fakes, tmp_path):
    cases = scored.write_benchmark(tmp_path / "cases", ("one", "two"))
    said = json.loads(cases.read_text())
    said["cases"][1]["references"][0]["images"] = ["gone.png"]
    cases.write_text(json.dumps(said))
    code, text, errors = anyref(
        "evaluate", "run", "--model", "tiny-magref", "--benchmark", cases, "-o", tmp_path / "out",
        "--metrics", "brightness", "--takes", 2,
    )  # fmt: skip
    assert code == 0 and "2 made, 0 there already, 2 not made" in text and "gone.png" in errors
    names = sorted(p.name for p in (tmp_path / "out/videos/tiny-magref").glob("*.mp4"))
    assert names == ["one-1.mp4", "one.mp4"]


def test_baselines_are_made_and_scored_like_models(anyref, fakes, cases, tmp_path):
    given = ("evaluate", "run", "--benchmark", cases, "--metrics", "brightness", "--frames", 5,
             "--size", "32x16")  # fmt: skip
    out = tmp_path / "out"
    code, said, errors = anyref(*given, "--model", "copy-paste", "--out", out)
    assert code == 0, errors
    assert "4 made, 0 there already" in said and not fakes.made
    frames, _ = read_video(out / "videos/copy-paste/one.mp4")
    assert frames.shape == (5, 16, 32, 3)
    assert "0 made, 4 there already" in anyref(*given, "--model", "copy-paste", "--out", out)[1]
    code, said, errors = anyref(*given, "--model", "text-only:tiny-kaleido", "--out", out)
    assert code == 0, errors
    assert "text-only-tiny-kaleido on small" in said and len(fakes.made) == 4
    assert all(made.references == () and made.prompt == "a fox walks" for made in fakes.made)


def test_the_pictures_of_shipped_benchmarks_are_fetched_by_name(anyref, monkeypatch, cases):
    benchmark = replace(load_benchmark(cases), credits={"fox.png": "J. Doe; CC0"})
    fetched = []
    shipped = Shipped("a set", lambda: benchmark, lambda say: fetched.append(1) or benchmark)
    monkeypatch.setattr("anyref.evaluation.shipped.SHIPPED", {"anyref-1": shipped})
    code, said, _ = anyref("evaluate", "fetch", "anyref-1", "--credits")
    assert code == 0 and fetched == [1] and "anyref-1: 4 cases, a set" in said
    assert "fox.png: J. Doe; CC0" in said
    code, _, errors = anyref("evaluate", "fetch", "anyref-2")
    assert code == 2 and "'anyref-2' is none of anyref-1" in errors
