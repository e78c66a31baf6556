from __future__ import annotations

import json
import math

import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import load_benchmark
from anyref.evaluation.metric import Score
from anyref.evaluation.profiles import opens2v as rules
from anyref.evaluation.profiles.opens2v_files import (
    leaderboard_line,
    merged_figures,
    read_leaderboard,
    read_score_folder,
    write_merged,
    write_score_folder,
)
from anyref.evaluation.profiles.profile import summarise
from anyref.evaluation.results import ScoreTable

HEADER = "Model,Venue,Evaluated by,TotalScore↑,Aesthetics↑,Motion↑,FaceSim↑,GmeScore↑,NaturalScore↑"


def test_the_published_demo_merges_to_its_published_open_domain_figures(opens2v):
    read = read_score_folder(opens2v / "results")
    assert read.faults == ()
    figures = merged_figures(summarise(rules.opens2v("v1.1", "Open-Domain"), read.table))
    assert figures["total_score"] == 0.5959962472265614
    assert figures["motion_amplitude"] == 0.1945268139243126
    assert figures["motion_smoothness"] == 0.9492753623188406
    assert figures["natural_score"] == pytest.approx(0.6666666666666667, abs=1e-15)


def test_the_published_demo_merges_to_its_human_domain_total(opens2v):
    table = read_score_folder(opens2v / "results").table
    figures = merged_figures(summarise(rules.opens2v("v1.1", "Human-Domain"), table))
    assert figures["total_score"] == 0.6884787565947551
    assert "nexus_score" not in figures


def test_the_published_demo_merges_to_its_v1_0_figures_but_for_nexus(opens2v):
    # leaderboard/file_v1.0/model_name_Open-Domain.json is of an earlier run of Nexus
    table = read_score_folder(opens2v / "results").table
    summary = summarise(rules.opens2v("v1.0", "Open-Domain"), table)
    figures = merged_figures(summary)
    assert figures["aes_score"] == pytest.approx(0.3343864281972249, abs=1e-15)
    assert figures["motion_score"] == 0.1945268139243126
    assert figures["facesim_cur"] == 0.9420197624713182
    assert figures["gme_score"] == 0.6767578125
    assert figures["nexus_score"] == pytest.approx(0.260162353515625, abs=1e-15)
    earlier = {**summary.values, "nexus_score": 0.260009765625}
    total = rules.opens2v("v1.0", "Open-Domain").total(earlier)
    assert total == pytest.approx(0.5450864321738482, abs=1e-15)


def test_the_demos_figures_say_how_little_of_the_benchmark_they_cover(opens2v):
    benchmark = load_benchmark(opens2v / "eval" / "Open-Domain_Eval.json", check_pictures=False)
    table = rules.completed(read_score_folder(opens2v / "results").table, benchmark)
    summary = summarise(rules.opens2v("v1.1", "Open-Domain"), table)
    covered = {f.name: (f.scored, f.scored + f.left_out) for f in summary.figures}
    assert covered == {
        "aes_score": (2, 180),
        "motion_smoothness": (2, 180),
        "motion_amplitude": (2, 180),
        "facesim_cur": (1, 90),
        "gme_score": (2, 180),
        "nexus_score": (1, 141),
        "natural_score": (2, 180),
    }
    assert summary.total == 0.5959962472265614


def scores():
    values = {"aes_score": 5.0, "motion_amplitude": 0.25, "facesim_cur": 0.5, "nexus_score": 0.02}
    columns = {name: {("a_1", 0): Score(value)} for name, value in values.items()}
    judged = Score(11 / 3, {"answers": [4.0, 4.0, 3.0]})
    return ScoreTable({**columns, "natural_score": {("a_1", 0): judged, ("a_2", 0): Score(2.5)}})


def test_a_folder_of_scores_comes_back(tmp_path):
    table = scores()
    write_score_folder(tmp_path, table)
    back = read_score_folder(tmp_path)
    assert back.faults == ()
    assert {n: back.table.values(n) for n in table.columns} == {
        n: table.values(n) for n in table.columns
    }
    assert json.loads((tmp_path / "naturalscore_3.json").read_text()) == {"a_1": "3", "a_2": "2.5"}
    assert not (tmp_path / "motionscore.json").exists()


def test_v1_0s_name_of_the_motion_file_is_read(tmp_path):
    (tmp_path / "motionscore.json").write_text('{"a": {"motion_fb": 0.5, "motion_lk": 3}}')
    assert read_score_folder(tmp_path).table.values("motion_amplitude") == {("a", 0): 0.5}


def test_what_cannot_be_used_is_said_and_costs_nothing_else(tmp_path):
    bad = {"a": {"aes_score": 5.0}, "b": {}, "c": 4.0, "d": {"aes_score": math.nan}, "e": None}
    (tmp_path / "aesthetic_score.json").write_text(json.dumps(bad))
    (tmp_path / "gmescore.json").write_text("[]")
    (tmp_path / "facesim.json").write_bytes(b"\xff")
    (tmp_path / "nexusscore.json").write_text('{"a": {"retrieval_score": 0.5}}')
    (tmp_path / "naturalscore_1.json").write_text('{"a": "4", "b": "error", "c": ["4"]}')
    (tmp_path / "naturalscore_2.json").write_text('{"a": "error"}')
    read = read_score_folder(tmp_path)
    assert read.table.values("aes_score") == {("a", 0): 5.0}
    assert read.table.values("natural_score") == {("a", 0): 4.0}
    assert read.table.outcomes("natural_score")["b", 0].cause == "unavailable"
    assert len(read.faults) == 4 + 1 + 1 + 1 + 3


def test_a_folder_without_score_files_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="holds none"):
        read_score_folder(tmp_path)


def test_merged_figures_are_written_with_the_total_first(tmp_path):
    summary = summarise(rules.opens2v("v1.0", "Open-Domain"), scores())
    write_merged(tmp_path / "m_Open-Domain.json", summary)
    said = json.loads((tmp_path / "m_Open-Domain.json").read_text())
    assert list(said)[:3] == ["total_score", "aes_score", "motion_score"]
    assert said["total_score"] == summary.total


def test_a_leaderboard_line_is_read_back_as_a_published_row(tmp_path):
    summary = summarise(rules.opens2v("v1.0", "Human-Domain"), scores())
    line = leaderboard_line(summary, "[ours](https://example.org)", "us")
    path = tmp_path / "board.csv"
    path.write_text(f"{HEADER}\n{line}\n")
    (row,) = read_leaderboard(path, "v1.0", "Human-Domain")
    assert (row.model, row.source, row.evaluated_by) == ("ours", "https://example.org", "us")
    assert row.total == pytest.approx(summary.total, abs=6e-5)
    assert dict(row.values) == pytest.approx(summary.values, abs=6e-5)
    with pytest.raises(EvaluationError, match="leave it out"):
        leaderboard_line(summary, "a,b", "us")


@pytest.mark.parametrize(
    "text",
    [
        HEADER.replace("Motion↑", "Speed") + "\nm,o,t,1%,1%,1%,1%,1%,1%",
        HEADER + "\nm,o,t,1%,1%,x,1%,1%,1%",
        HEADER + "\nm,o,t,1%,1%",
        HEADER + "\nm,o,t,nan%,1%,1%,1%,1%,1%",
    ],
)
def test_a_leaderboard_that_is_not_one_is_refused(tmp_path, text):
    path = tmp_path / "board.csv"
    path.write_text(text)
    with pytest.raises(EvaluationError, match="leaderboard"):
        read_leaderboard(path, "v1.0", "Human-Domain")


def test_answers_of_the_judge_come_back_to_the_last_digit(tmp_path):
    scores = ScoreTable({"natural_score": {("a", 0): Score(11 / 3)}})
    write_score_folder(tmp_path, scores)
    assert read_score_folder(tmp_path).table.values("natural_score") == {("a", 0): 11 / 3}
