from __future__ import annotations

import io
import json

import pytest
from PIL import Image

import films
import records
from anyref.cli.data_build import _Watch, split_changes
from anyref.data import engine
from anyref.data.completion import Completed
from anyref.data.engine import EngineRecipe
from anyref.errors import DataError

NOTHING = Completed(clips=0, duplicates=0, identities=0, paired=0, pairs=0, generated=0)


@pytest.fixture
def dataset(tmp_path):
    return records.write(tmp_path / "set")


@pytest.fixture
def engine_of_text(monkeypatch):
    """The engine with stages of text instead of models."""
    recipe = EngineRecipe(rules=films.RECIPE.rules)
    load = engine.changed_recipe
    values = recipe.model_dump(mode="json")
    monkeypatch.setattr(engine, "load_recipe", lambda name, changes: load(values, changes, "r"))
    monkeypatch.setattr(engine, "engine_stages", lambda recipe, cache: list(films.stages()))
    monkeypatch.setattr(engine, "check_ready", lambda *given, **named: None)
    monkeypatch.setattr(engine, "complete", lambda *given, **named: NOTHING)


def test_a_build_ends_with_counts_reasons_and_the_next_commands(anyref, engine_of_text, tmp_path):
    inputs = films.write_films(tmp_path / "in", films=2)
    code, said, errors = anyref(
        "data", "build", inputs, "-o", tmp_path / "out", "--runner", "local"
    )
    assert code == 0
    assert "low brightness" in said
    assert "records in use" in said and "anyref data report" in said
    assert "2 of 2 videos, 20 records" in errors


def test_changes_reach_the_recipe(anyref, engine_of_text, tmp_path):
    inputs = films.write_films(tmp_path / "in", films=1)
    options = ("-o", tmp_path / "out", "--runner", "local")
    anyref("data", "build", inputs, "rules.brightness.at_least=0.7", *options)
    assert engine.dataset_recipe(tmp_path / "out").rules[0].at_least == 0.7


def test_missing_weights_end_a_build_before_anything_is_made(anyref, tmp_path):
    inputs = films.write_films(tmp_path / "in", films=1)
    code, _, errors = anyref(
        "data", "build", inputs, "-o", tmp_path / "out", "--runner", "local", "--cache", tmp_path
    )
    assert code == 2
    assert "anyref data fetch" in errors
    assert not (tmp_path / "out").exists()


def test_an_interrupted_build_says_how_to_go_on(anyref, engine_of_text, tmp_path, monkeypatch):
    def stop(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "run", stop)
    inputs = films.write_films(tmp_path / "in", films=1)
    code, _, errors = anyref("data", "build", inputs, "-o", tmp_path / "out", "--runner", "local")
    assert code == 130
    assert "the same command goes on" in errors


def test_workers_of_a_local_run_are_an_error(anyref, tmp_path):
    code, _, errors = anyref(
        "data", "build", tmp_path, "-o", tmp_path / "out", "--runner", "local", "--workers", 2
    )
    assert code == 2 and "--workers" in errors


def test_inputs_and_changes_are_told_apart(tmp_path):
    odd = tmp_path / "a=b.mp4"
    odd.touch()
    given = ["clips.fps=24", str(odd), "https://host/x.mp4?key=1", "in"]
    assert split_changes(given) == (["clips.fps=24"], given[1:])
    with pytest.raises(DataError, match="no input"):
        split_changes(["clips.fps=24"])


def test_the_live_table_shows_stages_reasons_and_time(tmp_path):
    from rich.console import Console

    from anyref.data.flow import Work
    from anyref.data.runners import Progress

    console = Console(width=100, record=True, file=io.StringIO())
    watch = _Watch(4, console)
    console.print(watch.table())
    work = {"clips": Work(taken=2, given=7, rejected=1, seconds=1.5, cpu_seconds=1.0)}
    report = Progress(sources=2, accepted=5, rejected={("clips", "too dark"): 3}, work=work)
    watch.note(report)
    console.print(watch.table())
    said = console.export_text()
    assert "0 of 4 videos" in said and "2 of 4 videos, 8 records: 5 in use" in said
    assert "too dark" in said and "s left" in said


def test_rescoring_tells_what_was_gained_and_lost(anyref, engine_of_text, tmp_path):
    inputs = films.write_films(tmp_path / "in", films=2)
    anyref("data", "build", inputs, "-o", tmp_path / "out", "--runner", "local")
    code, said, _ = anyref("data", "rescore", tmp_path / "out", "rules.brightness.at_least=0.6")
    assert code == 0
    assert "0 gained" in said and " lost)" in said


def test_a_report_is_written_where_it_is_asked_for(anyref, dataset, tmp_path):
    code, said, _ = anyref("data", "report", dataset, "-o", tmp_path / "page.html")
    assert code == 0 and "page.html" in said
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_a_record_is_shown_with_its_files_and_references(anyref, dataset, tmp_path):
    code, said, _ = anyref("data", "show", dataset, "a", "--open-sheet", tmp_path / "a.png")
    assert code == 0
    assert "status: accepted" in said and records.TEXT in said
    assert "cross clip" in said and ".mp4" in said
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width > 300


def test_a_rejected_record_says_why_and_steers_no_terminal(anyref, dataset):
    code, said, _ = anyref("data", "show", dataset, "c")
    assert code == 0
    assert "rejected at quality: low sharpness 3, the limit is 10" in said
    assert "\x1b" not in said and "\u202e" not in said


def test_a_record_comes_as_json(anyref, dataset):
    assert json.loads(anyref("data", "show", dataset, "a", "--json")[1])["id"] == "a"
    code, _, errors = anyref("data", "show", dataset, "d", "--json")
    assert code == 2 and "before it had a record" in errors


def test_an_unknown_record_is_one_line_and_code_2(anyref, dataset):
    code, _, errors = anyref("data", "show", dataset, "zz")
    assert code == 2 and errors.count("\n") == 1


def test_export_and_import_tell_what_they_wrote(anyref, dataset, tmp_path):
    code, said, _ = anyref("data", "export", dataset, tmp_path / "out", "--format", "opens2v")
    assert code == 0 and "2 records and 1 pairs" in said
    clips = tmp_path / "out/clips.json"
    pairs = ("--pairs", tmp_path / "out/pairs.json")
    code, said, _ = anyref(
        "data", "import", clips, "-o", tmp_path / "in", "--format", "opens2v", *pairs
    )
    assert code == 0 and "2 records in use" in said and "pairs used: 1" in said


def test_the_list_of_models_fetches_nothing(anyref, tmp_path, monkeypatch):
    from anyref import packages

    monkeypatch.setattr(packages, "fetch", lambda *given: pytest.fail("fetched"))
    code, said, _ = anyref("data", "fetch", "--list", "--cache", tmp_path)
    assert code == 0
    assert "yunet" in said and "MIT" in said and "not fetched" in said
    assert "models in" in said


def test_an_unknown_model_is_named(anyref, tmp_path):
    code, _, errors = anyref("data", "fetch", "nobody", "--cache", tmp_path)
    assert code == 2 and "nobody" in errors


def test_the_large_models_are_listed_with_their_licences(anyref):
    code, said, _ = anyref("data", "fetch", "--large", "--list", "grade.dinov2=/models/dino")
    assert code == 0
    assert "4/4 dinov2 /models/dino" in said and "Qwen/Qwen2.5-VL-7B-Instruct (Apache-2.0)" in said
