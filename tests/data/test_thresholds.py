from __future__ import annotations

import pytest

from anyref.data.dataset import StageEntry
from anyref.data.thresholds import Judge, Recipe, Rule, Section, parse_recipe, read_recipe
from anyref.errors import DataError

STAGES = (StageEntry(name="first", measures=("a",)), StageEntry(name="second", measures=("b",)))


class Shots(Section):
    seconds: float = 2.0


class Film(Recipe):
    shots: Shots = Shots()


def test_a_recipe_is_read_from_yaml(tmp_path):
    path = tmp_path / "film.yaml"
    path.write_text("shots: {seconds: 3}\nrules:\n- {measurement: a, at_least: 1}\n")
    recipe = read_recipe(path, Film)
    assert recipe.shots.seconds == 3
    assert recipe.rules == (Rule(measurement="a", at_least=1),)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"shots": {"second": 3}}, "shots.second: no such key; did you mean seconds?"),
        ({"rules": [{"measurment": "a"}]}, "did you mean measurement?"),
        ({"rules": [{"measurement": "a"}]}, "no limit on a"),
        ({"rules": [{"measurement": "a", "at_least": 2, "at_most": 1}]}, "nothing would pass"),
        ({"rules": [{"measurement": "a", "at_least": float("nan")}]}, "finite"),
        ([], "valid dictionary"),
    ],
)
def test_a_fault_in_a_recipe_is_named(values, words):
    with pytest.raises(DataError) as error:
        parse_recipe(values, Film, "film.yaml")
    assert words in str(error.value)


def test_a_rule_on_what_no_stage_measures_is_an_error():
    with pytest.raises(DataError, match="no stage measures 'c'; known: a, b"):
        Judge([Rule(measurement="c", at_least=1)], STAGES)


def test_the_first_stage_that_measures_gives_the_reason_whatever_the_order_of_rules():
    judge = Judge([Rule(measurement="b", at_least=1), Rule(measurement="a", at_most=0)], STAGES)
    failed = judge.verdict({"a": 2, "b": 0}, None)
    assert (failed.stage, failed.reason, failed.number, failed.limit) == ("first", "high a", 2, 0)
    assert judge.verdict({"a": 0, "b": 1}, None) is None


def test_a_rule_that_does_not_stop_is_only_heard_at_the_end_or_beside_one_that_does():
    soft = Rule(measurement="a", at_least=1, stop=False)
    judge = Judge([soft, Rule(measurement="b", at_least=1)], STAGES)
    assert judge.after("first", {"a": 0}) is None
    assert judge.after("second", {"a": 0, "b": 1}) is None
    assert judge.after("second", {"a": 0, "b": 0}).reason == "low a"
    assert judge.verdict({"a": 0, "b": 1}, None).reason == "low a"


def test_what_was_not_measured_passes_unless_it_is_required():
    assert Judge([Rule(measurement="a", at_least=1)], STAGES).verdict({}, None) is None
    required = Judge([Rule(measurement="b", required=True)], STAGES)
    assert required.verdict({}, None).reason == "no b"
    assert required.verdict({}, "first") is None  # its stage never ran
