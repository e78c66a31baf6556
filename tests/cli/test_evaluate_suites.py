from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import scored
from anyref.evaluation.profiles.opens2v_motion import signed_motion
from anyref.media import read_video, write_video


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """A cache of the test's own."""
    monkeypatch.setenv("ANYREF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cases(tmp_path):
    return scored.write_benchmark(tmp_path / "cases")


def read(folder):
    return json.loads((folder / "results.json").read_text())


def test_scores_of_a_suites_own_scripts_are_read_and_beside_published_ones(anyref, tmp_path):
    sample = {"prompt": "a man walks", "img_paths": ["man.png"], "class_label": ["man"]}
    cases = tmp_path / "Open-Domain_Eval.json"
    cases.write_text(json.dumps({"singlehuman_1": sample, "singlehuman_2": sample}))
    folder = tmp_path / "mine_output_json"
    folder.mkdir()
    scores = {"singlehuman_1": {"aes_score": 5.5}, "singlehuman_2": {"aes_score": 6.1}}
    (folder / "aesthetic_score.json").write_text(json.dumps(scores))
    out = tmp_path / "out"
    code, _, errors = anyref(
        "evaluate", folder, "--benchmark", cases, "--profile", "opens2v-v1.1", "-o", out
    )
    assert code == 0, errors
    assert read(out)["figures"]["metrics"]["aes_score"]["value"] == pytest.approx(0.6)
    page = (out / "report.html").read_text()
    assert "VACE-14B" in page and "published, by OpenS2V Team" in page and "measured here" in page


def test_a_suites_profile_counts_its_own_metrics_of_videos_alone(anyref, tmp_path):
    sample = {"prompt": "a man walks", "img_paths": ["man.png"], "class_label": ["man"]}
    Image.new("RGB", (8, 8), "red").save(tmp_path / "man.png")
    cases = tmp_path / "Open-Domain_Eval.json"
    cases.write_text(json.dumps({"singlehuman_1": sample}))
    rng = np.random.default_rng(0)
    noise = np.kron(rng.integers(0, 255, (16, 24, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    (tmp_path / "mine").mkdir()
    moving = np.stack([np.roll(noise, 2 * t, 1) for t in range(5)])
    write_video(tmp_path / "mine/singlehuman_1.mp4", moving, 8)
    given = ("evaluate", tmp_path / "mine", "--benchmark", cases, "--profile", "opens2v-v1.1")
    out = tmp_path / "out"
    code, _, errors = anyref(*given, "-o", out)
    assert code == 0, errors
    frames, _ = read_video(tmp_path / "mine/singlehuman_1.mp4")
    expected = min(1.0, abs(signed_motion(frames)))
    metrics = read(out)["figures"]["metrics"]
    assert metrics["motion_amplitude"]["value"] == pytest.approx(expected)
    assert metrics["motion_smoothness"]["value"] is None and read(out)["grade"] == "opens2v"
    assert read(out)["figures"]["total"]["value"] is None
    merged = json.loads((out / "suite/mine_Open-Domain.json").read_text())
    assert merged["motion_amplitude"] == pytest.approx(expected)
    code, _, errors = anyref(*given, "-o", out, "--metrics", "brightness")
    assert code == 2 and "motion_amplitude" in errors
    code, _, errors = anyref(*given, "-o", out, "--large", "clip=x")
    assert code == 2 and "--large goes with" in errors


def test_magrefs_scores_are_read_from_a_table_and_written_again(anyref, cases, tmp_path):
    rows = [f"{name},0.5,0.5,0.5,5.5,0.5,0.5" for name in ("one", "two", "three")]
    header = "case,id_sim,subj_sim,bg_sim,aesthetic,motion,gme_score"
    (tmp_path / "mine.csv").write_text("\n".join([header, *rows]))
    given = ("evaluate", tmp_path / "mine.csv", "--benchmark", cases, "--profile", "magref")
    code, said, errors = anyref(*given, "-o", tmp_path / "out")
    assert code == 0, errors
    assert read(tmp_path / "out")["figures"]["total"]["value"] == pytest.approx(0.5)
    assert "mine on small" in said and "1 of 4 are left out" in said
    given = ("evaluate", tmp_path / "out/suite", *given[2:])
    assert anyref(*given, "-o", tmp_path / "again")[0] == 0
    assert read(tmp_path / "again")["figures"] == read(tmp_path / "out")["figures"]
    code, _, errors = anyref(*given, "-o", tmp_path / "again", "--workers", 2)
    assert code == 2 and "--workers goes with videos" in errors
