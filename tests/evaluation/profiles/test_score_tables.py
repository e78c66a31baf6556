from __future__ import annotations

import json

import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.metric import Score
from anyref.evaluation.profiles.score_tables import read_table, score_file, write_table
from anyref.evaluation.results import ScoreTable

COLUMNS = ("id_sim", "motion")


def test_what_is_written_is_read_back_to_the_last_digit(tmp_path, benchmark):
    table = ScoreTable(
        {"id_sim": {("a", 0): Score(1 / 3), ("a", 1): Score(0.1)}, "motion": {("a", 0): Score(1.0)}}
    )
    write_table(tmp_path / "scores.csv", table, COLUMNS)
    read = read_table(score_file(tmp_path), COLUMNS, benchmark("a", "b")).table
    for name in COLUMNS:
        assert read.values(name) == table.values(name)
    assert (
        read.outcomes("motion")["a", 1].cause == read.outcomes("id_sim")["b", 0].cause == "missing"
    )


def test_json_has_the_scores_of_a_case_under_its_id(tmp_path, benchmark):
    said = {"a": {"id_sim": 0.5, "motion": "0.9"}, "a-1": {"id_sim": 0.7}}
    (tmp_path / "scores.json").write_text(json.dumps(said))
    read = read_table(tmp_path / "scores.json", COLUMNS, benchmark("a"))
    assert read.table.values("id_sim") == {("a", 0): 0.5, ("a", 1): 0.7}
    assert read.table.values("motion") == {("a", 0): 0.9}


def test_what_cannot_be_used_is_said_and_costs_nothing_else(tmp_path, benchmark):
    rows = "case,id_sim,motion\na,0.5,fast\nstranger,0.1,0.1\nb,nan,\n"
    (tmp_path / "scores.csv").write_text(rows)
    read = read_table(tmp_path / "scores.csv", COLUMNS, benchmark("a", "b"))
    assert read.table.values("id_sim") == {("a", 0): 0.5}
    assert len(read.faults) == 3


@pytest.mark.parametrize("text", ["[]", "{", '{"x": {"id_sim": 1}}', "[" * 9999, "{}"])
def test_a_file_without_a_score_of_the_benchmark_is_refused(tmp_path, benchmark, text):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(EvaluationError):
        read_table(tmp_path / "scores.json", COLUMNS, benchmark("a"))
