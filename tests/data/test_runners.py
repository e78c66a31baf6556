from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
from dataclasses import replace

import numpy as np
import pytest

import films
from anyref.data import flow, journal, runners
from anyref.data.dataset import Dataset, DatasetWriter
from anyref.data.journal import Journal
from anyref.data.runners import run
from anyref.data.sources import Source
from anyref.data.stages import Rejection, Stage
from anyref.data.thresholds import Recipe
from anyref.errors import DataError


@pytest.fixture
def inputs(tmp_path):
    return films.write_films(tmp_path / "in", films=5, shots=7)


def make(inputs, out, stages=None, **given):
    return run([inputs], stages or films.stages(), out, recipe=films.RECIPE, **given)


def one_film(tmp_path, *lines):
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "in/film.mp4").write_text("\n".join(lines))
    return tmp_path / "in"


def rows(folder):
    return list(Dataset.open(folder).rows())


def test_accepted_rows_hold_record_numbers_assets_and_who_measured(inputs, tmp_path):
    progress = make(inputs, tmp_path / "out")
    found = Dataset.open(tmp_path / "out")
    row = next(found.rows("accepted"))
    sample = row.sample()
    assert set(row.measurements) == {"brightness", "detail"}
    assert found.read(row.assets["clip"]).startswith(sample.captions[0].text[2:].encode())
    assert found.read(sample.references[0].image)
    assert [(p.stage, p.tool) for p in sample.provenance][:2] == [("cut", None), ("look", "eye")]
    assert (progress.sources, progress.accepted) == (5, found.manifest.accepted)
    assert sum(progress.rejected.values()) == found.manifest.rejected > 0
    assert progress.work["cut"].given == progress.work["look"].taken == 35


def test_rows_are_in_the_order_of_sources_and_of_their_parts(inputs, tmp_path):
    make(inputs, tmp_path / "out")
    places = [row.uri for row in rows(tmp_path / "out")]
    assert places == sorted(places) and len(places) == 35
    words = [row.sample().captions[0].text for row in rows(tmp_path / "out") if row.record]
    assert words == sorted(words)


def test_a_rule_that_fails_ends_the_record_with_number_and_limit(tmp_path):
    make(one_film(tmp_path, "a 0.1 0.5", "b 0.5 0.95"), tmp_path / "out")
    dark, busy = rows(tmp_path / "out")
    assert (dark.stage, dark.reason, dark.number, dark.limit) == (
        "look",
        "low brightness",
        0.1,
        0.2,
    )
    assert (dark.stopped, dark.measurements) == ("look", {"brightness": 0.1})
    assert (busy.stage, busy.reason, busy.stopped) == ("keep", "high detail", None)
    assert busy.sample().flags.filtered_by == "keep"


def test_an_item_that_makes_a_batch_raise_is_rejected_alone_with_the_words(tmp_path):
    make(one_film(tmp_path, "a 1 0", "boom 1 0", "c 1 0", "d 1 0"), tmp_path / "out")
    fates = [(row.status, row.reason, row.detail) for row in rows(tmp_path / "out")]
    assert fates[1] == ("rejected", "raised ValueError", "this shot explodes")
    assert [fate[0] for fate in fates] == ["accepted", "rejected", "accepted", "accepted"]


def test_a_stage_that_raises_midway_keeps_what_it_gave_before(tmp_path):
    make(one_film(tmp_path, "a 1 0", "short 1 0", "broken", "d 1 0"), tmp_path / "out")
    found = rows(tmp_path / "out")
    assert [row.reason for row in found] == [None, "too short", "raised ValueError"]
    assert len({row.id for row in found}) == 3


def test_a_source_that_cannot_be_read_or_gives_nothing_is_a_row(tmp_path):
    one_film(tmp_path)
    (tmp_path / "list.txt").write_text("in\nin/missing.mp4\n")
    run([tmp_path / "list.txt"], films.stages(), tmp_path / "out")
    found = {row.uri[-11:]: row for row in rows(tmp_path / "out")}
    assert found["in/film.mp4"].reason == "nothing came out"
    assert found["missing.mp4"].reason == "raised FileNotFoundError"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda item: None, "raised TypeError"),
        (lambda item: [item, 3], "raised TypeError"),
        (lambda item: "text", "raised TypeError"),
        (lambda item: item.measure(noise=1), "undeclared measurement"),
        (lambda item: item.measure(quiet=float("inf")), "raised ValueError"),
        (lambda item: Rejection("odd", "dull", 1, 2), "dull"),
        (lambda item: exec("raise RuntimeError"), "raised RuntimeError"),
    ],
)
def test_whatever_a_stage_does_wrong_is_a_rejection(inputs, tmp_path, function, reason):
    stages = [Stage(name="odd", function=function, measures=("quiet",))]
    run([inputs], stages, tmp_path / "out")
    assert {row.reason for row in rows(tmp_path / "out") if row.status == "rejected"} == {reason}


def test_words_that_are_not_unicode_do_not_stop_a_run(tmp_path):
    def say(item):
        raise ValueError("\udcff")

    run([one_film(tmp_path)], [Stage(name="say", function=say)], tmp_path / "out")
    assert rows(tmp_path / "out")[0].detail == "\\udcff"


def test_mixing_sources_in_batches_changes_no_row(inputs, tmp_path):
    make(inputs, tmp_path / "a")
    make(inputs, tmp_path / "b", films.stages(mixes=True))
    assert films.tree(tmp_path / "a") == films.tree(tmp_path / "b")


def test_a_batch_holds_items_of_one_source_unless_they_may_mix(inputs, tmp_path):
    batches = []

    def look(items):
        batches.append({item.source.id for item in items})
        return items

    for name, mixes in (("a", False), ("b", True)):
        stage = Stage(name="look", function=look, batch_size=8, mixes_sources=mixes)
        run([inputs], [Stage(name="cut", function=films.cut), stage], tmp_path / name)
        assert (max(map(len, batches)) > 1) == mixes


def test_few_items_of_a_long_source_are_alive_at_a_time(tmp_path):
    made, ended, most = 0, 0, 0

    def many(item):
        nonlocal made, most
        for number in range(2000):
            made += 1
            most = max(most, made - ended)
            yield item.child(f"{item.id}-{number}").hold(frames=np.zeros(1000, np.uint8))

    def count(item):
        nonlocal ended
        ended += 1
        return item.drop("frames")

    stages = [Stage(name="many", function=many), Stage(name="count", function=count)]
    run([Source.of("long.mp4")], stages, tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 2000
    assert most <= 2 * flow.BUNDLE_ITEMS


def test_heavy_payloads_travel_in_smaller_bundles(tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "BUNDLE_BYTES", 5000)
    sizes = []

    def many(item):
        for number in range(20):
            yield item.child(f"{number}").hold(frames=[np.zeros(1000, np.uint8)])

    def look(items):
        sizes.append(len(items))
        return items

    stages = [
        Stage(name="many", function=many),
        Stage(name="look", function=look, batch_size=64),
    ]
    run([Source.of("long.mp4")], stages, tmp_path / "out")
    assert sizes == [5, 5, 5, 5]


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
    make(inputs, tmp_path / "calm")
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
            kills += killed(lambda: make(inputs, tmp_path / "out", stages))
    make(inputs, tmp_path / "out", stages)
    assert kills >= 6
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")
    assert len(begun.read_text().splitlines()) <= 5 + kills


def test_a_kill_inside_a_model_is_made_good_by_the_same_command(tmp_path):
    inputs = one_film(tmp_path, *(f"w{n} 1 0" for n in range(20)), "kill 1 0", "last 1 0")
    killer = tmp_path / "killed"
    stages = films.stages(killer=killer)
    assert killed(lambda: make(inputs, tmp_path / "out", stages)) and killer.exists()
    make(inputs, tmp_path / "out", stages)
    make(inputs, tmp_path / "calm", stages)
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")
    assert Dataset.open(tmp_path / "out").manifest.accepted == 22


def test_a_kill_inside_a_long_source_costs_only_the_records_in_flight(tmp_path, monkeypatch):
    long = films.write_films(tmp_path / "in", films=1, shots=400)
    calm, log = tmp_path / "calm.log", tmp_path / "log"
    make(long, tmp_path / "calm", films.stages(log=calm))
    stages = films.stages(log=log)
    for turn in (30, 20, 10):
        with monkeypatch.context() as patch:
            deadly(patch, (Journal, "_commit"), turn)
            assert killed(lambda: make(long, tmp_path / "out", stages))
    make(long, tmp_path / "out", stages)
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")
    once, done = calm.read_text().split(), log.read_text().split()
    assert set(done) == set(once)
    in_flight = flow.BUNDLE_ITEMS + 4  # and what one bundle has over
    assert 0 < len(done) - len(once) <= 3 * in_flight < len(once)


def test_a_source_that_is_no_input_any_more_leaves_nothing_of_itself(tmp_path, monkeypatch):
    inputs = films.write_films(tmp_path / "in", films=2, shots=40)
    make(inputs / "film001.mp4", tmp_path / "calm")
    with monkeypatch.context() as patch:
        deadly(patch, (Journal, "_commit"), 4)
        assert killed(lambda: make(inputs, tmp_path / "out"))
    progress = make(inputs / "film001.mp4", tmp_path / "out")
    found = Dataset.open(tmp_path / "out")
    assert (progress.accepted, progress.sources) == (found.manifest.accepted, 1)
    assert [row.id for row in found.rows()] == [row.id for row in rows(tmp_path / "calm")]


def test_bundles_of_another_size_are_another_run(inputs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        deadly(patch, (Journal, "_commit"), 3)
        assert killed(lambda: make(inputs, tmp_path / "out"))
    cut, *rest = films.stages()
    with pytest.raises(DataError, match="unfinished run"):
        make(inputs, tmp_path / "out", (replace(cut, spread=8), *rest))


def test_a_kill_while_a_dataset_is_extended_loses_none_of_it(inputs, tmp_path, monkeypatch):
    films.write_films(tmp_path / "more", films=2, shots=3)
    run([inputs, tmp_path / "more"], films.stages(), tmp_path / "calm", recipe=films.RECIPE)
    make(inputs, tmp_path / "out")
    for place, turn in (((Journal, "_insert"), 9), ((DatasetWriter, "add"), 3)):
        with monkeypatch.context() as patch:
            deadly(patch, place, turn)
            both = [inputs, tmp_path / "more"]
            assert killed(
                lambda: run(both, films.stages(), tmp_path / "out", recipe=films.RECIPE)  # noqa: B023
            )
            assert len(rows(tmp_path / "out")) == 35
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
    make(inputs, tmp_path / "calm")
    real, calls = getattr(owner, name), [0]

    def filling(*args, **kwargs):
        calls[0] += 1
        return full() if calls[0] > 20 or name == "finish" else real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, filling)
        with pytest.raises(DataError, match=r"No space left.*run this again"):
            make(inputs, tmp_path / "out")
    make(inputs, tmp_path / "out")
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
    assert {row.status for row in rows(tmp_path / "out")} == {"accepted"}


def test_a_journal_without_room_stops_the_run_which_goes_on_later(inputs, tmp_path, monkeypatch):
    make(inputs, tmp_path / "calm")
    connect = sqlite3.connect

    def small(*args, **kwargs):
        base = connect(*args, **kwargs)
        base.execute("PRAGMA max_page_count = 14")
        return base

    with monkeypatch.context() as patch:
        patch.setattr(journal.sqlite3, "connect", small)
        with pytest.raises(DataError, match=r"full.*run this again"):
            make(inputs, tmp_path / "out")
    make(inputs, tmp_path / "out")
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")


def test_more_inputs_extend_a_dataset_and_the_same_ones_change_nothing(inputs, tmp_path):
    make(inputs / "film001.mp4", tmp_path / "out")
    make(inputs, tmp_path / "out")
    make(inputs, tmp_path / "calm")
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")
    again = make(inputs, tmp_path / "out")
    assert again.work == {} and again.accepted == Dataset.open(tmp_path / "out").manifest.accepted


def test_a_source_named_twice_is_read_once(inputs, tmp_path):
    film = inputs / "film000.mp4"
    run([film, film, inputs], films.stages(), tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 35


def test_other_rules_or_stages_are_told_apart(inputs, tmp_path):
    make(inputs, tmp_path / "out")
    with pytest.raises(DataError, match="other rules; apply these with `anyref data rescore`"):
        run([inputs], films.stages(), tmp_path / "out", recipe=Recipe())
    with pytest.raises(DataError, match="other stages or settings"):
        make(inputs, tmp_path / "out", films.stages()[:3])
    assert len(rows(tmp_path / "out")) == 35


def test_an_unfinished_run_goes_on_with_its_own_recipe_only(inputs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(runners.DatasetWriter, "finish", full)
        with pytest.raises(DataError):
            make(inputs, tmp_path / "out")
    with pytest.raises(DataError, match="unfinished run with another recipe"):
        run([inputs], films.stages(), tmp_path / "out", recipe=Recipe())


def test_two_records_of_one_id_are_an_error_that_names_both(inputs, tmp_path):
    stage = Stage(name="same", function=lambda item: item.child("x"))
    with pytest.raises(DataError, match=r"'x' from .*film001.mp4' is taken .*film000.mp4'"):
        run([inputs], [stage], tmp_path / "out")


def test_a_model_that_does_not_load_stops_the_run(inputs, tmp_path):
    def load():
        raise RuntimeError("no weights")

    with pytest.raises(DataError, match="stage 'look' cannot be loaded"):
        run([inputs], [Stage(name="look", load=load)], tmp_path / "out")


def test_progress_is_told_and_ends_with_the_totals(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(runners, "REPORT_SECONDS", 0)
    told = []
    last = make(inputs, tmp_path / "out", on_progress=told.append)
    assert [p.sources for p in told[:-1]] == sorted(p.sources for p in told[:-1])
    assert told[-1] == last and last.finished and last.sources == 5
    assert not any(p.finished for p in told[:-1])
