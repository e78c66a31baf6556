from __future__ import annotations

import pytest

import tiny
from anyref.data.index import ShardIndex
from anyref.data.shards import ShardWriter
from anyref.errors import TrainingError
from anyref.training.cache import ContentCache
from anyref.training.examples import Preparer
from anyref.training.feed import Feed


@pytest.fixture(scope="module")
def pipe():
    return tiny.kaleido(height=32, width=32, num_frames=5)


@pytest.fixture
def feed(pipe, shards, recipe, request):
    opened = []

    def make(index=None, **changes):
        ranks = {name: changes.pop(name) for name in ("rank", "world") if name in changes}
        made, skipped = recipe(**changes), []
        preparer = Preparer(pipe, made.data, ContentCache(None))
        index = index or ShardIndex.open([str(shards)])
        opened.append(Feed(made, pipe, preparer, index, on_skip=skipped.append, **ranks))
        opened[-1].reports = skipped
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def keys(feed, step):
    return {position: example.key for position, example in feed.examples(step)}


def test_a_step_s_examples_do_not_depend_on_the_steps_before(feed):
    one, two = feed(steps=8), feed(steps=8)
    expected = [keys(one, step) for step in range(4)]
    assert keys(two, 3) == expected[3]
    assert keys(two, 1) == expected[1]
    assert list(expected[2].values()) == list(one.keys(2))


def test_processes_share_the_batch_of_one(feed):
    whole = feed()
    halves = [feed(rank=rank, world=2) for rank in (0, 1)]
    for step in range(3):
        joined = keys(halves[0], step) | keys(halves[1], step)
        assert joined == keys(whole, step)


def test_every_sample_of_a_full_bucket_comes_once_an_epoch(feed):
    made = feed(steps=12)
    seen = [key for step in range(6) for key in made.keys(step)]
    assert len(set(seen)) == 24


def test_a_batch_that_does_not_divide_is_refused(feed):
    with pytest.raises(TrainingError, match="batch of 3 does not divide over 2 processes"):
        feed(batch=3, rank=0, world=2)


def test_tokens_set_the_batch_of_each_stage(feed):
    stages = [{"frames": 1, "steps": 2}, {"frames": 2, "steps": 2}]
    made = feed(batch=None, tokens=32, stages=stages, steps=4)
    assert [made.batch_size(step) for step in range(4)] == [8, 8, 4, 4]
    assert [made.frames(step) for step in range(4)] == [1, 1, 2, 2]
    assert len(made.examples(0)) == 8
    assert len(made.examples(3)) == 4


def test_a_damaged_record_is_replaced_counted_and_named(feed, make_sample, tmp_path):
    with ShardWriter(tmp_path / "data") as writer:
        for index in range(8):
            writer.write(make_sample(index))
    (path,) = (tmp_path / "data").rglob("*.tar")
    index = ShardIndex.open([str(tmp_path / "data")])
    entry = index.entries[3]
    damaged = bytearray(path.read_bytes())
    damaged[entry.offset : entry.offset + entry.size] = bytes(entry.size)
    path.write_bytes(damaged)
    made = feed(index=index, batch=8, steps=2)
    found = keys(made, 0)
    assert len(found) == 8
    assert entry.key not in found.values()
    assert {report.key for report in made.reports} == {entry.key}
    assert "000000.tar" in made.reports[0].shard


def test_nothing_but_damage_is_an_error(feed, make_sample, tmp_path):
    with ShardWriter(tmp_path / "data") as writer:
        for index in range(24):
            writer.write(make_sample(index, references=0))
    index = ShardIndex.open([str(tmp_path / "data")])
    with pytest.raises(TrainingError, match="20 records in a row"):
        feed(index=index).examples(0)


def test_samples_that_never_fill_a_batch_are_counted(feed):
    assert feed(batch=4).unused == 0


def test_tokens_count_the_clips_of_the_bucket_not_the_stored_ones(feed):
    made = feed(batch=None, tokens=16, data={"buckets": [[16, 16, 5]]}, steps=1)
    assert made.batch_size(0) == 8  # of 2 tokens; stored they have 8


def test_a_record_that_fails_in_one_draw_is_tried_again_in_the_next(feed, monkeypatch):
    made = feed(steps=12)
    (first, *_) = made.keys(0)
    whole = made.preparer.prepare

    def prepare(packed, seed, key):
        if packed.record.id == first and seed.endswith("/0"):
            raise TrainingError("cannot be used in this draw")
        return whole(packed, seed, key)

    monkeypatch.setattr(made.preparer, "prepare", prepare)
    assert first not in keys(made, 0).values()
    (again,) = [step for step in range(6, 12) if first in made.keys(step)]
    assert first in keys(made, again).values()
    assert [report.key for report in made.reports] == [first]


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_records(feed, monkeypatch, tmp_path):
    from anyref.training import cache

    def full(path, writer):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_atomically", full)
    made = feed()
    made.preparer.cache = ContentCache(tmp_path)
    with pytest.raises(TrainingError, match=r"data.cache.*No space left.*make room"):
        made.examples(0)
    assert not made.reports
