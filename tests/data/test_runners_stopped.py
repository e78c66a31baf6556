from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
from dataclasses import replace

import pytest

import films
from anyref.data import flow, journal, runners
from anyref.data.dataset import Dataset, DatasetWriter
from anyref.data.journal import Journal
from anyref.data.runners import run
from anyref.data.stages import Stage
from anyref.data.thresholds import Recipe
from anyref.errors import DataError


@pytest.fixture
def inputs(tmp_path):
    return films.write_films(tmp_path / "in", films=5, shots=7)


def killed(make_dataset):
    """Run it in a process that may kill itself; whether it did."""
    child = os.fork()
    if child == 0:
        try:
            make_dataset()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def deadly(monkeypatch, place, turn):
    """Kill the process at the so many-th call of one of the functions that write."""
    owner, name = place
    real, calls = getattr(owner, name), [0]

    def dying(*args, **kwargs):
        calls[0] += 1
        if calls[0] == turn:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, dying)


PLACES = (
    (flow, "write_asset"),
    (Journal, "_insert"),
    (Journal, "_commit"),
    (DatasetWriter, "add"),
    (DatasetWriter, "finish"),
    (Journal, "discard"),
)


def test_kills_at_any_point_cost_only_the_source_in_flight(inputs, tmp_path, monkeypatch):
    films.make(inputs, tmp_path / "calm")
    begun = tmp_path / "begun"

    def cut(item):
        with begun.open("a") as file:
            file.write(f"{item.id}\n")
        yield from films.cut(item)

    stages = (Stage(name="cut", function=cut, spread=4), *films.stages()[1:])
    chance, kills = random.Random(4), 0
    for place in PLACES * 2:
        turn = 1 if place[1] in ("finish", "discard") else chance.randint(1, 20)
        with monkeypatch.context() as patch:
            deadly(patch, place, turn)
            kills += killed(lambda: films.make(inputs, tmp_path / "out", stages))
    films.make(inputs, tmp_path / "out", stages)
    assert kills >= 6
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")
    assert len(begun.read_text().splitlines()) <= 5 + kills


def test_a_kill_inside_a_model_is_made_good_by_the_same_command(tmp_path):
    inputs = films.one_film(tmp_path, *(f"w{n} 1 0" for n in range(20)), "kill 1 0", "last 1 0")
    killer = tmp_path / "killed"
    stages = films.stages(killer=killer)
    assert killed(lambda: films.make(inputs, tmp_path / "out", stages)) and killer.exists()
    films.make(inputs, tmp_path / "out", stages)
    films.make(inputs, tmp_path / "calm", stages)
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")
    assert Dataset.open(tmp_path / "out").manifest.accepted == 22


def test_a_kill_inside_a_long_source_costs_only_the_records_in_flight(tmp_path, monkeypatch):
    long = films.write_films(tmp_path / "in", films=1, shots=400)
    calm, log = tmp_path / "calm.log", tmp_path / "log"
    films.make(long, tmp_path / "calm", films.stages(log=calm))
    stages = films.stages(log=log)
    for turn in (30, 20, 10):
        with monkeypatch.context() as patch:
            deadly(patch, (Journal, "_commit"), turn)
            assert killed(lambda: films.make(long, tmp_path / "out", stages))
    films.make(long, tmp_path / "out", stages)
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")
    once, done = calm.read_text().split(), log.read_text().split()
    assert set(done) == set(once)
    in_flight = flow.BUNDLE_ITEMS + 4  # and what one bundle has over
    assert 0 < len(done) - len(once) <= 3 * in_flight < len(once)


def test_a_source_that_is_no_input_any_more_leaves_nothing_of_itself(tmp_path, monkeypatch):
    inputs = films.write_films(tmp_path / "in", films=2, shots=40)
    films.make(inputs / "film001.mp4", tmp_path / "calm")
    with monkeypatch.context() as patch:
        deadly(patch, (Journal, "_commit"), 4)
        assert killed(lambda: films.make(inputs, tmp_path / "out"))
    progress = films.make(inputs / "film001.mp4", tmp_path / "out")
    found = Dataset.open(tmp_path / "out")
    assert (progress.accepted, progress.sources) == (found.manifest.accepted, 1)
    assert [row.id for row in found.rows()] == [row.id for row in films.rows(tmp_path / "calm")]


def test_bundles_of_another_size_are_another_run(inputs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        deadly(patch, (Journal, "_commit"), 3)
        assert killed(lambda: films.make(inputs, tmp_path / "out"))
    cut, *rest = films.stages()
    with pytest.raises(DataError, match="unfinished run"):
        films.make(inputs, tmp_path / "out", (replace(cut, spread=8), *rest))


def test_a_kill_while_a_dataset_is_extended_loses_none_of_it(inputs, tmp_path, monkeypatch):
    films.write_films(tmp_path / "more", films=2, shots=3)
    run([inputs, tmp_path / "more"], films.stages(), tmp_path / "calm", recipe=films.RECIPE)
    films.make(inputs, tmp_path / "out")
    for place, turn in (((Journal, "_insert"), 9), ((DatasetWriter, "add"), 3)):
        with monkeypatch.context() as patch:
            deadly(patch, place, turn)
            both = [inputs, tmp_path / "more"]
            assert killed(
                lambda: run(both, films.stages(), tmp_path / "out", recipe=films.RECIPE)  # noqa: B023
            )
            assert len(films.rows(tmp_path / "out")) == 35
    run([inputs, tmp_path / "more"], films.stages(), tmp_path / "out", recipe=films.RECIPE)
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("owner", "name"),
    [(flow, "write_asset"), (runners.DatasetWriter, "add"), (runners.DatasetWriter, "finish")],
)
def test_a_full_disk_stops_the_run_which_goes_on_when_there_is_room(
    inputs, tmp_path, monkeypatch, owner, name
):
    films.make(inputs, tmp_path / "calm")
    real, calls = getattr(owner, name), [0]

    def filling(*args, **kwargs):
        calls[0] += 1
        return full() if calls[0] > 20 or name == "finish" else real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, filling)
        with pytest.raises(DataError, match=r"No space left.*run this again"):
            films.make(inputs, tmp_path / "out")
    films.make(inputs, tmp_path / "out")
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")


def test_a_full_disk_inside_a_stage_rejects_nothing(inputs, tmp_path):
    def write(item):
        try:
            full()
        except OSError as error:
            raise ValueError("cannot write the clip") from error

    with pytest.raises(DataError, match="No space left"):
        run([inputs], [Stage(name="write", function=write)], tmp_path / "out")
    run([inputs], [Stage(name="write", function=lambda item: item)], tmp_path / "out")
    assert {row.status for row in films.rows(tmp_path / "out")} == {"accepted"}


def test_a_journal_without_room_stops_the_run_which_goes_on_later(inputs, tmp_path, monkeypatch):
    films.make(inputs, tmp_path / "calm")
    connect = sqlite3.connect

    def small(*args, **kwargs):
        base = connect(*args, **kwargs)
        base.execute("PRAGMA max_page_count = 14")
        return base

    with monkeypatch.context() as patch:
        patch.setattr(journal.sqlite3, "connect", small)
        with pytest.raises(DataError, match=r"full.*run this again"):
            films.make(inputs, tmp_path / "out")
    films.make(inputs, tmp_path / "out")
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")


def test_an_unfinished_run_goes_on_with_its_own_recipe_only(inputs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(runners.DatasetWriter, "finish", full)
        with pytest.raises(DataError):
            films.make(inputs, tmp_path / "out")
    with pytest.raises(DataError, match="unfinished run with another recipe"):
        run([inputs], films.stages(), tmp_path / "out", recipe=Recipe())
