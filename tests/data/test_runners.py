from __future__ import annotations

import numpy as np
import pytest

import films
from anyref.data import flow, runners
from anyref.data.dataset import Dataset
from anyref.data.runners import run
from anyref.data.sources import Source
from anyref.data.stages import Rejection, Stage
from anyref.data.thresholds import Recipe
from anyref.errors import DataError


@pytest.fixture
def inputs(tmp_path):
    return films.write_films(tmp_path / "in", films=5, shots=7)


def test_accepted_rows_hold_record_numbers_assets_and_who_measured(inputs, tmp_path):
    progress = films.make(inputs, tmp_path / "out")
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
    films.make(inputs, tmp_path / "out")
    places = [row.uri for row in films.rows(tmp_path / "out")]
    assert places == sorted(places) and len(places) == 35
    words = [row.sample().captions[0].text for row in films.rows(tmp_path / "out") if row.record]
    assert words == sorted(words)


def test_a_rule_that_fails_ends_the_record_with_number_and_limit(tmp_path):
    films.make(films.one_film(tmp_path, "a 0.1 0.5", "b 0.5 0.95"), tmp_path / "out")
    dark, busy = films.rows(tmp_path / "out")
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
    films.make(films.one_film(tmp_path, "a 1 0", "boom 1 0", "c 1 0", "d 1 0"), tmp_path / "out")
    fates = [(row.status, row.reason, row.detail) for row in films.rows(tmp_path / "out")]
    assert fates[1] == ("rejected", "raised ValueError", "this shot explodes")
    assert [fate[0] for fate in fates] == ["accepted", "rejected", "accepted", "accepted"]


def test_a_stage_that_raises_midway_keeps_what_it_gave_before(tmp_path):
    films.make(films.one_film(tmp_path, "a 1 0", "short 1 0", "broken", "d 1 0"), tmp_path / "out")
    found = films.rows(tmp_path / "out")
    assert [row.reason for row in found] == [None, "too short", "raised ValueError"]
    assert len({row.id for row in found}) == 3


def test_a_source_that_cannot_be_read_or_gives_nothing_is_a_row(tmp_path):
    films.one_film(tmp_path)
    (tmp_path / "list.txt").write_text("in\nin/missing.mp4\n")
    run([tmp_path / "list.txt"], films.stages(), tmp_path / "out")
    found = {row.uri[-11:]: row for row in films.rows(tmp_path / "out")}
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
    assert {row.reason for row in films.rows(tmp_path / "out") if row.status == "rejected"} == {
        reason
    }


def test_words_that_are_not_unicode_do_not_stop_a_run(tmp_path):
    def say(item):
        raise ValueError("\udcff")

    run([films.one_film(tmp_path)], [Stage(name="say", function=say)], tmp_path / "out")
    assert films.rows(tmp_path / "out")[0].detail == "\\udcff"


def test_mixing_sources_in_batches_changes_no_row(inputs, tmp_path):
    films.make(inputs, tmp_path / "a")
    films.make(inputs, tmp_path / "b", films.stages(mixes=True))
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
    assert len(films.rows(tmp_path / "out")) == 2000
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


def test_more_inputs_extend_a_dataset_and_the_same_ones_change_nothing(inputs, tmp_path):
    films.make(inputs / "film001.mp4", tmp_path / "out")
    films.make(inputs, tmp_path / "out")
    films.make(inputs, tmp_path / "calm")
    assert films.tree(tmp_path / "out") == films.tree(tmp_path / "calm")
    again = films.make(inputs, tmp_path / "out")
    assert again.work == {} and again.accepted == Dataset.open(tmp_path / "out").manifest.accepted


def test_a_source_named_twice_is_read_once(inputs, tmp_path):
    film = inputs / "film000.mp4"
    run([film, film, inputs], films.stages(), tmp_path / "out")
    assert len(films.rows(tmp_path / "out")) == 35


def test_other_rules_or_stages_are_told_apart(inputs, tmp_path):
    films.make(inputs, tmp_path / "out")
    with pytest.raises(DataError, match="other rules; apply these with `anyref data rescore`"):
        run([inputs], films.stages(), tmp_path / "out", recipe=Recipe())
    with pytest.raises(DataError, match="other stages or settings"):
        films.make(inputs, tmp_path / "out", films.stages()[:3])
    assert len(films.rows(tmp_path / "out")) == 35


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
    last = films.make(inputs, tmp_path / "out", on_progress=told.append)
    assert [p.sources for p in told[:-1]] == sorted(p.sources for p in told[:-1])
    assert told[-1] == last and last.finished and last.sources == 5
    assert not any(p.finished for p in told[:-1])
