from __future__ import annotations

import pytest

import films
from anyref.data.dataset import Dataset
from anyref.data.rescore import rescore
from anyref.data.runners import run
from anyref.data.thresholds import Recipe, Rule
from anyref.errors import DataError


@pytest.fixture
def inputs(tmp_path):
    return films.write_films(tmp_path / "in", films=3, shots=6)


def make(inputs, out, recipe=films.RECIPE):
    return run([inputs], films.stages(), out, recipe=recipe)


def rules(brightness, detail):
    low = Rule(measurement="brightness", at_least=brightness)
    return Recipe(rules=(low, Rule(measurement="detail", at_most=detail, stop=False)))


def fates(folder):
    return {r.id: (r.status, r.stage, r.reason, r.limit) for r in Dataset.open(folder).rows()}


def test_the_same_rules_change_no_byte(inputs, tmp_path):
    make(inputs, tmp_path / "a")
    before = films.tree(tmp_path / "a")
    rescore(tmp_path / "a", films.RECIPE)
    assert films.tree(tmp_path / "a") == before


def test_tighter_rules_judge_as_a_run_with_them_would(inputs, tmp_path):
    tight = rules(0.5, 0.4)
    make(inputs, tmp_path / "a")
    make(inputs, tmp_path / "b", tight)
    told = rescore(tmp_path / "a", tight)
    assert fates(tmp_path / "a") == fates(tmp_path / "b")
    assert told.lost > 0 and told.gained == told.unfinished == 0
    lost = next(r for r in Dataset.open(tmp_path / "a").rows("rejected") if r.record)
    assert lost.sample().flags.filtered_by == lost.stage


def test_a_looser_rule_that_stopped_nothing_needs_no_stage(inputs, tmp_path):
    make(inputs, tmp_path / "a", rules(0.2, 0.3))
    make(inputs, tmp_path / "b", rules(0.2, 0.8))
    told = rescore(tmp_path / "a", rules(0.2, 0.8))
    assert told.gained > 0
    assert films.tree(tmp_path / "a") == films.tree(tmp_path / "b")


def test_what_older_rules_stopped_is_unfinished_until_the_run_is_repeated(inputs, tmp_path):
    loose = rules(0.0, 0.9)
    make(inputs, tmp_path / "a")
    make(inputs, tmp_path / "b", loose)
    assert rescore(tmp_path / "a", loose).unfinished > 0
    make(inputs, tmp_path / "a", loose)
    assert films.tree(tmp_path / "a") == films.tree(tmp_path / "b")


def test_what_a_stage_rejected_stays_rejected(inputs, tmp_path):
    with (inputs / "film000.mp4").open("a") as file:
        file.write("\nshort 1 1")
    make(inputs, tmp_path / "a")
    rescore(tmp_path / "a", Recipe())
    (row,) = [r for r in Dataset.open(tmp_path / "a").rows() if r.reason == "too short"]
    assert (row.status, row.number, row.limit) == ("rejected", 1, 2)


def test_a_rule_on_an_unknown_measurement_is_an_error(inputs, tmp_path):
    make(inputs, tmp_path / "a")
    with pytest.raises(DataError, match="did you mean detail"):
        rescore(tmp_path / "a", Recipe(rules=(Rule(measurement="detial", at_most=1),)))
