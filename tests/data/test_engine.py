from __future__ import annotations

import pickle

import pytest

import films
from anyref.data import engine
from anyref.data.completion import Completed
from anyref.data.dataset import Dataset
from anyref.data.engine import EngineRecipe, changed_recipe, load_recipe
from anyref.data.thresholds import Rule
from anyref.errors import DataError

RECIPE = EngineRecipe(rules=films.RECIPE.rules)
NOTHING = Completed(clips=0, duplicates=0, identities=0, paired=0, pairs=0, generated=0)


@pytest.fixture
def calls(monkeypatch):
    """The engine with stages of text, and what completion was called with."""
    given = []

    def complete(folder, settings, *, load_grade):
        given.append((Dataset.open(folder).manifest.recipe["completion"], settings, load_grade))
        return NOTHING

    monkeypatch.setattr(engine, "engine_stages", lambda recipe, cache: list(films.stages()))
    monkeypatch.setattr(engine, "check_ready", lambda *given, **named: None)
    monkeypatch.setattr(engine, "complete", complete)
    return given


def limits(recipe):
    return {rule.measurement: (rule.at_least, rule.at_most) for rule in recipe.rules}


def test_the_shipped_recipe_says_all_there_is_and_is_the_default():
    assert load_recipe("default") == EngineRecipe(), "write it anew with EngineRecipe().to_yaml()"
    assert load_recipe() == EngineRecipe()
    assert "default" in engine.shipped_recipes()


def test_a_file_changes_single_rules_and_removes_others(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("clips: {fps: 24}\nrules: {sharpness: {at_least: 3}, text_area: null}\n")
    recipe = load_recipe(file)
    before, after = limits(EngineRecipe()), limits(recipe)
    assert after.pop("sharpness") == (3, None)
    assert before.pop("text_area") and before.pop("sharpness")
    assert after == before
    assert recipe.clips.fps == 24


def test_a_list_of_rules_replaces_all(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("rules: [{measurement: sharpness, at_least: 3}]\n")
    assert load_recipe(file).rules == (Rule(measurement="sharpness", at_least=3),)
    file.write_text("rules: []\n")
    assert load_recipe(file).rules == ()
    file.write_text("rules:\n")
    assert load_recipe(file).rules == EngineRecipe().rules


def test_changes_reach_sections_and_rules():
    recipe = load_recipe(
        changes=["rules.sharpness.at_least=1.5", "clips.fps=12", "rules.nsfw=null"]
    )
    assert limits(recipe)["sharpness"] == (1.5, None)
    assert "nsfw" not in limits(recipe)
    assert recipe.clips.fps == 12
    again = changed_recipe(recipe.model_dump(mode="json"), (), "x")
    assert again == recipe


def test_a_recipe_can_be_written_whole_and_read_back(tmp_path):
    changes = ["completion.synthesis=null", "rules.nsfw=null", "rules.sharpness={at_most: 9}"]
    recipe = load_recipe(changes=changes)
    (tmp_path / "mine.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "mine.yaml") == recipe


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("clips.fpz=3", "did you mean fps"),
        ("rules.sharpness.at_leest=3", "did you mean at_least"),
        ("clips", "write key=value"),
        ("clips.fps=fast", "clips.fps"),
        ("rules.sharpness=3", "rules"),
    ],
)
def test_a_faulty_change_names_its_key(change, said):
    with pytest.raises(DataError, match=said):
        load_recipe(changes=[change])


def test_a_recipe_that_is_nowhere_names_the_nearest():
    with pytest.raises(DataError, match="did you mean default"):
        load_recipe("defualt")


def test_what_makes_the_models_travels_between_processes(tmp_path):
    loader = pickle.loads(pickle.dumps(engine.grade_loader(tmp_path)))
    assert loader().faces.cache == tmp_path


def test_missing_weights_are_named_with_the_command_that_fetches_them(tmp_path):
    with pytest.raises(DataError, match=r"yunet.*anyref data fetch"):
        engine.check_ready(tmp_path)


def test_missing_libraries_are_named_with_their_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(engine.MODULES, "perception", ("no_such_module",))
    with pytest.raises(DataError, match=r"no_such_module.*anyref\[perception\]"):
        engine.check_ready(tmp_path)


def test_no_video_is_an_error_that_says_where(tmp_path):
    with pytest.raises(DataError, match="0 videos in"):
        engine.count_sources([tmp_path])


def test_a_dataset_is_built_and_completed_and_can_be_extended(calls, tmp_path):
    inputs = films.write_films(tmp_path / "in", films=2)
    made = engine.build([inputs], tmp_path / "out", RECIPE)
    assert made.accepted == made.progress.accepted > 0
    assert made.accepted + made.rejected == 20
    films.write_films(tmp_path / "in", films=3)
    assert engine.build([inputs], tmp_path / "out", RECIPE).progress.sources == 3
    assert [settings for _, settings, _ in calls] == [RECIPE.completion] * 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("rules.brightness.at_least=0.3", "other rules; apply these with `anyref data rescore`"),
        ("completion.duplicates=0.9", "other completion; apply"),
        ("clips.fps=24", "other settings of clips"),
    ],
)
def test_a_folder_of_another_recipe_says_what_to_do(calls, tmp_path, change, said):
    inputs = films.write_films(tmp_path / "in", films=1)
    engine.build([inputs], tmp_path / "out", RECIPE)
    with pytest.raises(DataError, match=said):
        other = engine.dataset_recipe(tmp_path / "out", [change])
        engine.build([inputs], tmp_path / "out", other)


def test_rescoring_judges_anew_and_completes_with_the_new_settings(calls, tmp_path):
    inputs = films.write_films(tmp_path / "in", films=2)
    before = engine.build([inputs], tmp_path / "out", RECIPE)
    changes = ["rules.brightness.at_least=0.5", "completion.duplicates=0.9"]
    told = engine.rescore(tmp_path / "out", engine.dataset_recipe(tmp_path / "out", changes))
    assert told.accepted == before.accepted - told.lost and told.lost > 0 == told.gained
    assert sum(told.rejected.values()) + told.accepted == 20
    recorded, settings, _ = calls[-1]
    assert recorded["duplicates"] == settings.duplicates == 0.9
    assert engine.dataset_recipe(tmp_path / "out").rules[0].at_least == 0.5


def test_a_rule_on_nothing_changes_no_byte(calls, tmp_path):
    engine.build([films.write_films(tmp_path / "in", films=1)], tmp_path / "out", RECIPE)
    before = films.tree(tmp_path / "out")
    recipe = engine.dataset_recipe(tmp_path / "out", ["rules.brightnes.at_least=1"])
    with pytest.raises(DataError, match="did you mean brightness"):
        engine.rescore(tmp_path / "out", recipe)
    assert films.tree(tmp_path / "out") == before
