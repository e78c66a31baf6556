from __future__ import annotations

import json
from dataclasses import replace

import pytest
from PIL import Image

from anyref.errors import EvaluationError
from anyref.evaluation import results as results_module
from anyref.evaluation.benchmark import Benchmark, Case
from anyref.evaluation.decoding import FootageLimits
from anyref.evaluation.metric import Score, Skipped
from anyref.evaluation.results import Cache, Scorer, ScoreTable, score_results
from anyref.evaluation.videos import find_videos
from anyref.request import Request


def test_a_folder_becomes_a_table_in_which_everything_has_an_outcome(
    tmp_path, benchmark, clip, metric
):
    clip(tmp_path / "a.mp4", 255)
    clip(tmp_path / "b.mp4", 0, 9)
    (tmp_path / "c.mp4").write_bytes(b"no video")
    (tmp_path / "d.mp4").touch()
    cases = benchmark("a", "b", "c", "d", "e")
    scorer = Scorer([metric()], limits=FootageLimits(max_frames=8))
    table = score_results(cases, find_videos(cases, tmp_path), scorer)
    column = table.outcomes("brightness")
    assert column["a", 0].value == pytest.approx(1, abs=0.02)
    assert [column[case, 0].cause for case in "bcde"] == [
        "unreadable",
        "unreadable",
        "missing",
        "missing",
    ]
    assert "over 8 frames of 16x16" in column["b", 0].reason
    assert column["d", 0].reason == "d.mp4 is empty"


def test_what_does_not_apply_is_said_whether_or_not_there_is_a_video(
    tmp_path, benchmark, clip, metric
):
    clip(tmp_path / "a.mp4")
    nobody = benchmark("a", "b", category="nobody")
    faulty = replace(nobody.cases[0], id="c", category="people", fault="no picture")
    cases = Benchmark("x", (*nobody.cases, faulty), tmp_path)
    asked = metric()
    table = score_results(cases, find_videos(cases, tmp_path), Scorer([asked]))
    assert {o.cause for o in table.outcomes("brightness").values()} == {"inapplicable"}
    assert asked.asked == []


def test_a_second_run_decodes_and_scores_nothing_and_gives_the_same_json(
    tmp_path, benchmark, clip, metric, monkeypatch
):
    clip(tmp_path / "a.mp4")
    cases = benchmark("a", "b")
    found = find_videos(cases, tmp_path)
    cache = Cache(tmp_path / "cache")
    one = score_results(cases, found, Scorer([metric(), metric("other")], cache))
    again = metric()
    monkeypatch.setattr(results_module, "read_footage", None)
    two = score_results(cases, found, Scorer([again, metric("other")], cache))
    assert again.asked == []
    assert json.dumps(one.to_json()) == json.dumps(two.to_json())
    assert set(one.to_json()["brightness"]) == {"a-0", "b-0"}


def test_a_score_is_made_anew_for_another_version_grade_or_video(tmp_path, benchmark, clip, metric):
    cache = Cache(tmp_path / "cache")
    case = benchmark("a").cases[0]
    path = clip(tmp_path / "a.mp4")

    def is_scored(**changed):
        asked = metric(**changed)
        Scorer([asked], cache).score(case, path)
        return bool(asked.asked)

    assert is_scored() and not is_scored()
    assert is_scored(version=2) and is_scored(grade="small") and not is_scored()
    clip(path, 10)
    assert is_scored()


def test_what_a_metric_needs_of_the_case_is_part_of_the_key(tmp_path, clip, metric):
    cache, path = Cache(tmp_path / "cache"), clip(tmp_path / "a.mp4")
    fox = tmp_path / "fox.png"

    def is_scored(needs, prompt="a @fox", level=0):
        Image.new("RGB", (2, 2), (level,) * 3).save(fox)
        request = Request(prompt=prompt, references=[{"images": [fox], "name": "fox"}])
        asked = metric(needs=frozenset(needs))
        Scorer([asked], cache).score(Case(id="a", request=request), path)
        return bool(asked.asked)

    assert is_scored({"video"}) and not is_scored({"video"}, "the @fox", 9)
    assert is_scored({"prompt"}) and is_scored({"prompt"}, "the @fox")
    assert not is_scored({"prompt"}, level=9)
    assert is_scored({"references"}) and is_scored({"references"}, level=9)
    assert not is_scored({"references"}, "the @fox", 9)


@pytest.mark.parametrize("content", [b"no picture", None])
def test_a_reference_that_cannot_be_read_costs_those_metrics_that_need_it(
    tmp_path, clip, metric, content
):
    picture = tmp_path / "fox.png"
    if content:
        picture.write_bytes(content)
    case = Case(id="a", request=Request(prompt="a fox", references=[{"images": [picture]}]))
    comparing = metric("comparing", frozenset({"video", "references"}))
    outcomes = Scorer([comparing, metric()]).score(case, clip(tmp_path / "a.mp4"))
    assert outcomes["comparing"].cause == "inapplicable"
    assert "a reference cannot be read" in outcomes["comparing"].reason
    assert outcomes["brightness"].value > 0


def test_only_what_stays_true_is_kept(tmp_path, benchmark, clip, metric):
    path, cache = clip(tmp_path / "a.mp4"), Cache(tmp_path / "cache")
    case = benchmark("a").cases[0]
    for cause, asked_again in [
        ("unavailable", True),
        ("undetected", False),
        ("inapplicable", False),
    ]:
        first = metric(cause, answer=Skipped("why", cause))
        later = metric(cause)
        Scorer([first], cache).score(case, path)
        Scorer([later], cache).score(case, path)
        assert bool(later.asked) == asked_again


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": {}}', b"\xff", b"[" * 99999]
)
def test_a_damaged_cache_file_is_made_anew(tmp_path, benchmark, clip, metric, damage):
    path, cache = clip(tmp_path / "a.mp4"), Cache(tmp_path / "cache")
    case = benchmark("a").cases[0]
    first = Scorer([metric()], cache).score(case, path)
    (file,) = (tmp_path / "cache").rglob("*.json")
    file.write_bytes(damage)
    assert Scorer([metric()], cache).score(case, path) == first
    assert file.read_bytes() != damage


def test_a_kill_loses_no_finished_video(tmp_path, benchmark, clip, metric):
    for name, level in [("a", 10), ("b", 20)]:
        clip(tmp_path / f"{name}.mp4", level)
    cases = benchmark("a", "b")
    found, cache = find_videos(cases, tmp_path), Cache(tmp_path / "cache")

    def stop(sample, outcomes):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_results(cases, found, Scorer([metric()], cache), stop)
    later = metric()
    score_results(cases, found, Scorer([later], cache))
    assert later.asked == ["b"]


def test_grades_and_names_are_not_mixed(metric):
    with pytest.raises(EvaluationError, match="small and the large"):
        Scorer([metric("a", grade="small"), metric("b", grade="large")])
    with pytest.raises(EvaluationError, match="repeat"):
        Scorer([metric(), metric()])


def test_a_table_is_completed_with_what_is_expected():
    table = ScoreTable({"m": {("a", 0): Score(1)}}).completed([("a", 0), ("b", 0)])
    assert table.values("m") == {("a", 0): 1}
    assert table.outcomes("m")["b", 0].cause == "missing"
    assert table.outcomes("unknown") == {}
