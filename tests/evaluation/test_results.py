from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from PIL import Image

from anyref.errors import EvaluationError
from anyref.evaluation import results as results_module
from anyref.evaluation.benchmark import Benchmark, Case
from anyref.evaluation.cache import Cache, hash_references
from anyref.evaluation.decoding import FootageLimits
from anyref.evaluation.metric import Score, Skipped
from anyref.evaluation.results import Scorer, ScoreTable, score_results
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
    causes = {case: o.cause for (case, _), o in table.outcomes("brightness").items()}
    assert causes == {"a": "inapplicable", "b": "inapplicable", "c": "faulty"}
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


def test_the_grouping_of_pictures_is_part_of_the_key_where_it_is_not_plain(tmp_path):
    for name, level in (("a", 0), ("p", 50), ("x", 100)):
        Image.new("RGB", (2, 2), (level,) * 3).save(tmp_path / f"{name}.png")

    def hashed(*groups, names=("r", "s"), mask=None):
        references = [
            {"images": [tmp_path / f"{p}.png" for p in group], "name": name, "text": "a fox"}
            for group, name in zip(groups, names, strict=True)
        ]
        if mask:
            references[0]["mask"] = tmp_path / mask
        prompt = " ".join(f"@{name}" for name in names)
        request = Request(prompt=prompt, references=references)
        return hash_references(Case(id="a", request=request, labels=("fox", "fox")))

    assert hashed("ap", "x") != hashed("a", "px")
    assert hashed("ap", "x") != hashed("ap", "x", names=("r", "t"))
    assert hashed("a", "p", names=("r", "t")) == hashed("a", "p")


def test_the_key_of_references_of_one_picture_each_stays_what_it_was(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"any bytes")
    request = Request(prompt="a @fox", references=[{"images": [picture], "name": "fox"}])
    case = Case(id="a", request=request, labels=("fox",), pictures=("a.png",))
    parts = ["a", ["a.png"], ["fox"], ["object"], hashlib.sha256(b"any bytes").hexdigest()]
    assert hash_references(case) == hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def test_copies_of_a_video_scored_at_the_same_time_keep_all_scores(tmp_path):
    cache = Cache(tmp_path / "cache")
    with ThreadPoolExecutor(4) as pool:
        for k in range(24):
            pool.submit(cache.write, "ab" * 32, {f"m/1/exact/{k}": Score(0.5)})
    assert len(cache.read("ab" * 32)) == 24


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
    assert outcomes["comparing"].cause == "faulty"
    assert "a reference cannot be read" in outcomes["comparing"].reason
    assert outcomes["brightness"].value > 0
    assert Scorer([comparing]).score(case, None)["comparing"].cause == "faulty"


def test_a_black_mask_costs_its_case_alone(tmp_path, clip, metric):
    for name in ("fox", "mask"):
        Image.new("RGB", (8, 8), "black").save(tmp_path / f"{name}.png")
    fox = {"images": [tmp_path / "fox.png"], "mask": tmp_path / "mask.png"}
    case = Case(id="a", request=Request(prompt="a fox", references=[fox]))
    comparing = metric("comparing", frozenset({"video", "references"}))
    for path in (clip(tmp_path / "a.mp4"), None):
        outcome = Scorer([comparing]).score(case, path)["comparing"]
        assert outcome.cause == "faulty" and "mask" in outcome.reason
    assert comparing.asked == []


class Odd:
    """A metric that breaks off at bright videos."""

    def __init__(self, metric, error):
        self.spec, self.applies, self.error = metric("odd").spec, metric("odd").applies, error

    def score(self, case, footage):
        if footage.frames.mean() > 200:
            raise self.error
        return Score(0.5)


@pytest.mark.parametrize("error", [IndexError("empty quantile"), MemoryError(), RecursionError()])
def test_a_metric_that_breaks_off_at_a_video_fails_there_alone_and_is_asked_again(
    tmp_path, benchmark, clip, metric, error
):
    case, cache = benchmark("a").cases[0], Cache(tmp_path / "cache")
    bright, dark = clip(tmp_path / "bright.mp4", 250), clip(tmp_path / "dark.mp4", 10)
    scorer = Scorer([Odd(metric, error), metric()], cache)
    outcomes = scorer.score(case, bright)
    assert outcomes["odd"].cause == "failed" and type(error).__name__ in outcomes["odd"].reason
    assert outcomes["brightness"].value > 0.9
    assert scorer.score(case, dark)["odd"] == Score(0.5)
    mended = Scorer([Odd(metric, error)], cache)
    mended.metrics[0].score = lambda case, footage: Score(1.0)
    assert mended.score(case, bright)["odd"] == Score(1.0)


def test_a_value_that_is_no_measurement_is_a_failure_of_the_metric(
    tmp_path, benchmark, clip, metric
):
    far = metric("far")
    far.score = lambda case, footage: Score(7.0)
    nan = metric("nan")
    nan.score = lambda case, footage: Score(float("nan"))
    outcomes = Scorer([far, nan]).score(benchmark("a").cases[0], clip(tmp_path / "a.mp4"))
    assert [outcomes[name].cause for name in ("far", "nan")] == ["failed", "failed"]


def test_a_video_too_large_for_the_memory_costs_no_other(
    tmp_path, benchmark, clip, metric, monkeypatch
):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr(results_module, "read_footage", full)
    outcomes = Scorer([metric()]).score(benchmark("a").cases[0], clip(tmp_path / "a.mp4"))
    assert outcomes["brightness"].cause == "failed" and "memory" in outcomes["brightness"].reason


def test_what_the_references_alone_give_is_the_same_with_and_without_a_video(
    tmp_path, clip, metric
):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "fox.png")
    request = Request(prompt="a fox", references=[{"images": [tmp_path / "fox.png"]}])
    case, cache = Case(id="a", request=request), Cache(tmp_path / "cache")
    needs = frozenset({"video", "references"})
    (tmp_path / "broken.mp4").write_bytes(b"no video")

    def outcome(path, name, **given):
        asked = metric(name, needs, **given)
        return Scorer([asked], cache).score(case, path)[name], bool(asked.asked)

    faceless = Skipped("no face", "inapplicable")
    for path in (clip(tmp_path / "a.mp4"), tmp_path / "broken.mp4", None):
        assert outcome(path, "faces", answer=faceless)[0] == faceless
    assert outcome(None, "faces", answer=faceless) == (faceless, False)  # kept
    assert outcome(None, "other")[0].cause == "missing"
    assert outcome(tmp_path / "broken.mp4", "blind", answer=Skipped("", "undetected"))[0].cause == (
        "unreadable"
    )


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
