from __future__ import annotations

import json

import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.metric import Score
from anyref.evaluation.profiles.profile import summarise
from anyref.evaluation.profiles.vbench import QUALITY, SEMANTIC, scaled, vbench, vbench_i2v
from anyref.evaluation.profiles.vbench_files import read_eval_results, write_eval_results
from anyref.evaluation.results import ScoreTable


def results(**dimensions):
    return json.dumps(dimensions)


def videos(*pairs):
    return [{"video_path": path, "video_results": value} for path, value in pairs]


def test_dimensions_and_videos_are_read_from_all_files_of_a_folder(tmp_path):
    one = results(imaging_quality=[0.65, videos(("v/a fox-0.mp4", 60.0), ("v/a fox-1.mp4", 70.0))])
    two = results(dynamic_degree=[1.0, videos(("C:\\v\\a fox-0.mp4", True))])
    (tmp_path / "results_1_eval_results.json").write_text(one)
    (tmp_path / "results_2_eval_results.json").write_text(two)
    read = read_eval_results(tmp_path)
    assert read.raw == {"imaging_quality": 0.65, "dynamic_degree": 1.0}
    assert read.table.values("imaging_quality") == {("a fox", 0): 0.6, ("a fox", 1): 0.7}
    assert read.table.values("dynamic_degree") == {("a fox", 0): 1.0}
    assert read.faults == ()


def test_a_benchmark_says_which_video_is_whose(tmp_path, benchmark):
    said = results(color=[0.5, videos(("a-1.mp4", 0.25), ("x.mp4", 1.0))])
    (tmp_path / "r.json").write_text(said)
    read = read_eval_results(tmp_path / "r.json", benchmark("a-1"))
    assert read.table.values("color") == {("a-1", 0): 0.25}
    assert len(read.faults) == 1


def test_what_is_no_dimension_or_video_is_said(tmp_path):
    bad = [*videos(("a.mp4", "high"), (3, 0.5)), "b.mp4"]
    (tmp_path / "r.json").write_text(
        results(speed=[1, []], color=[0.5, bad], scene=0.5, human_action=["x", []])
    )
    read = read_eval_results(tmp_path / "r.json")
    assert (read.raw, read.table.values("color")) == ({"color": 0.5}, {})
    assert len(read.faults) == 3 + 3


@pytest.mark.parametrize("text", ["[]", "{", None])
def test_a_file_that_is_no_result_is_refused(tmp_path, text):
    if text:
        (tmp_path / "r.json").write_text(text)
    with pytest.raises(EvaluationError):
        read_eval_results(tmp_path / "r.json")
    with pytest.raises(EvaluationError, match="holds no"):
        read_eval_results(tmp_path)


def test_what_is_written_is_read_back(tmp_path):
    table = ScoreTable(
        {
            "imaging_quality": {("a", 0): Score(0.6), ("b", 0): Score(0.8)},
            "i2v_subject": {("a", 0): Score(0.9)},
        }
    )
    summary = summarise(vbench_i2v(), table)
    files = {("a", 0): tmp_path / "a.mp4", ("b", 0): tmp_path / "b.mp4"}
    path = tmp_path / "r_eval_results.json"
    write_eval_results(path, vbench_i2v(), summary, table, files)
    back = read_eval_results(tmp_path)
    assert back.raw == pytest.approx({"imaging_quality": 0.7, "i2v_subject": 0.9})
    assert scaled(back.raw) == pytest.approx(summary.values)
    for name in table.columns:
        assert back.table.values(name) == pytest.approx(table.values(name))


def test_videos_are_found_by_their_prompts(tmp_path, benchmark):
    said = results(color=[0.5, videos(("v/a fox walks-0.mp4", 0.25), ("v/a fox walks-1.mp4", 0.5))])
    (tmp_path / "r.json").write_text(said)
    read = read_eval_results(tmp_path / "r.json", benchmark("0001", prompt="a fox walks"))
    assert read.table.values("color") == {("0001", 0): 0.25, ("0001", 1): 0.5}
    with pytest.raises(EvaluationError, match="0 videos of the benchmark"):
        read_eval_results(tmp_path / "r.json", benchmark("0001", prompt="an owl"))


def test_what_vbench_printed_is_the_figure_also_without_videos(tmp_path, benchmark):
    names = (*QUALITY, *SEMANTIC)
    values = (
        0.95,
        0.96,
        0.98,
        0.99,
        0.62,
        0.68,
        0.6,
        0.9,
        0.7,
        0.95,
        0.88,
        0.65,
        0.5,
        0.24,
        0.25,
        0.27,
    )
    said = {name: [value, []] for name, value in zip(names, values, strict=True)}
    (tmp_path / "r.json").write_text(json.dumps(said))
    read = read_eval_results(tmp_path / "r.json", benchmark("a"))
    assert summarise(vbench(), read.table).total == pytest.approx(0.8201460191, abs=5e-11)
    frames = videos(("a-0.mp4", 0.9), ("a-1.mp4", 0.5))
    (tmp_path / "r.json").write_text(results(subject_consistency=[0.8, frames]))
    read = read_eval_results(tmp_path / "r.json", benchmark("a"))  # frame-weighted by VBench
    found = summarise(vbench(), read.table).values["subject_consistency"]
    assert found == pytest.approx((0.8 - 0.1462) / 0.8538)
