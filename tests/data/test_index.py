from __future__ import annotations

import io
import pickle
import random
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import fsspec
import pytest

from anyref.data.index import BatchOrder, ShardIndex
from anyref.data.shards import ShardWriter, write_shard
from anyref.errors import TrainingError


def keys(*patterns):
    return [entry.key for entry in ShardIndex.open(patterns).entries]


def test_any_sample_is_read_at_random(shard, sample):
    index = ShardIndex.open([str(shard)])
    assert len(index) == 3
    for i in (2, 0, 1, 2):
        packed = index.read(i)
        assert packed.record.id == "abc"[i]
        assert packed.references == sample("abc"[i]).references


def test_a_read_takes_no_more_bytes_than_the_sample_has(shard, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    index = ShardIndex.open([str(shard)])
    asked = []
    original = LocalFileSystem.cat_file

    def counted(self, path, start=None, end=None, **kwargs):
        asked.append(end - start)
        return original(self, path, start, end, **kwargs)

    monkeypatch.setattr(LocalFileSystem, "cat_file", counted)
    index.read(1)
    assert asked == [index.entries[1].size]


def test_shards_are_found_by_path_folder_glob_and_url(shard):
    folder = shard.parent
    for pattern in (
        shard,
        folder,
        folder.parent,
        folder / "*.tar",
        folder.parent / "**/*.tar",
        f"file://{shard}",
    ):
        assert keys(str(pattern)) == ["a", "b", "c"]
    assert keys(str(shard), str(folder)) == ["a", "b", "c"]


def test_shards_are_read_over_an_fsspec_url(shard, tmp_path):
    memory = fsspec.filesystem("memory")
    for file in shard.parent.iterdir():
        memory.pipe_file(f"/bucket/train/{file.name}", file.read_bytes())
    try:
        cached = "simplecache::memory://bucket/train/*.tar"
        for pattern in ("memory://bucket", "memory://bucket/train/*.tar", cached):
            index = ShardIndex.open([pattern])
            assert index.read(2).record.id == "c"
        assert index.entries[0].shard.endswith("memory:///bucket/train/000000.tar")
    finally:
        memory.rm("/bucket", recursive=True)


def test_the_order_does_not_depend_on_the_order_of_the_patterns(tmp_path, sample):
    for folder, key in (("x", "p"), ("y", "q"), ("z", "r")):
        write_shard(tmp_path / folder / "0.tar", [sample(key)])
    one = ShardIndex.open([str(tmp_path / f) for f in "zxy"])
    two = ShardIndex.open([str(tmp_path)])
    assert one == two
    assert [entry.key for entry in one.entries] == ["p", "q", "r"]


def test_the_fingerprint_follows_the_data_and_not_its_place(shard, tmp_path, sample):
    before = ShardIndex.open([str(shard)]).fingerprint
    moved = shutil.copytree(shard.parent, tmp_path / "elsewhere" / shard.parent.name)
    assert ShardIndex.open([str(moved)]).fingerprint == before
    write_shard(moved / "000001.tar", [sample("d")])
    assert ShardIndex.open([str(moved)]).fingerprint != before


def test_an_index_can_be_sent_to_a_worker(shard):
    index = ShardIndex.open([str(shard)])
    sent = pickle.loads(pickle.dumps(index))
    assert sent == index
    assert sent.read(1).record.id == "b"


def test_patterns_without_shards_are_errors(tmp_path):
    for pattern in (tmp_path, tmp_path / "none.tar", tmp_path / "*.tar"):
        with pytest.raises(TrainingError, match="names 0 shards"):
            ShardIndex.open([str(pattern)])
    with pytest.raises(TrainingError, match="cannot be listed"):
        ShardIndex.open(["nosuchprotocol://bucket/x.tar"])
    with pytest.raises(TrainingError, match="0 shard patterns"):
        ShardIndex.open([])


def test_a_shard_without_its_sidecar_is_an_error(shard):
    shard.with_suffix(".meta.jsonl").unlink()
    with pytest.raises(TrainingError, match=r"000000.tar' has no .meta.jsonl"):
        ShardIndex.open([str(shard)])


def test_one_key_in_two_shards_is_an_error(tmp_path, sample):
    for name in ("0.tar", "1.tar"):
        write_shard(tmp_path / name, [sample("a")])
    with pytest.raises(TrainingError, match=r"key 'a' is in .*0.tar' and in .*1.tar'"):
        ShardIndex.open([str(tmp_path)])


# Damage


def damaged(shard: Path, change) -> ShardIndex:
    """The index of a shard whose bytes `change` edited in place."""
    index = ShardIndex.open([str(shard)])
    data = bytearray(shard.read_bytes())
    change(data, index.entries[1])
    shard.write_bytes(data)
    return index


def check_only_b_is_lost(index, words):
    with pytest.raises(TrainingError, match=rf"shard '.*000000\.tar', key 'b': .*{words}"):
        index.read(1)
    assert index.read(0).record.id == "a"


def position(data, entry, name):
    """Where a member's header lies, and its content."""
    start = data.index(name.encode() + b"\0", entry.offset)
    return start, start + 512


def test_a_truncated_shard_keeps_the_samples_before_the_cut(shard):
    def cut(data, entry):
        del data[entry.offset + 700 :]

    index = damaged(shard, cut)
    check_only_b_is_lost(index, "ends after 700 of")
    with pytest.raises(TrainingError, match="key 'c': the shard ends after 0"):
        index.read(2)


def test_a_missing_shard_is_named(shard):
    index = ShardIndex.open([str(shard)])
    shard.unlink()
    with pytest.raises(TrainingError, match=r"shard '.*000000\.tar', key 'a'"):
        index.read(0)


@pytest.mark.parametrize(
    ("member", "offset", "value", "words"),
    [
        ("b.json", 0, b"[", "not JSON|JSON object"),
        ("b.json", 0, b'{"schema":"anyref.sample/9"', "schema is|not JSON"),
        ("b.json", 30, b"\xff\xfe", "not JSON"),
        ("b.mp4", 40, b"wrong", r"member \.mp4 does not match its sha256"),
        ("b.ref1.png", 45, b"wrong", r"member \.ref1\.png does not match its sha256"),
    ],
)
def test_a_member_with_wrong_bytes_is_named(shard, member, offset, value, words):
    def overwrite(data, entry):
        _, content = position(data, entry, member)
        data[content + offset : content + offset + len(value)] = value

    check_only_b_is_lost(damaged(shard, overwrite), words)


def test_a_missing_member_is_named(shard):
    def rename(data, entry):
        header, _ = position(data, entry, "b.ref1.png")
        info = tarfile.TarInfo.frombuf(bytes(data[header : header + 512]), "ascii", "strict")
        info.name = "b.other.png"
        data[header : header + 512] = info.tobuf(tarfile.USTAR_FORMAT)

    check_only_b_is_lost(damaged(shard, rename), r"member \.ref1\.png is missing")


def test_a_broken_tar_header_is_an_error(shard):
    def spoil(data, entry):
        data[entry.offset : entry.offset + 512] = bytes([7]) * 512

    check_only_b_is_lost(damaged(shard, spoil), "")


def rewrite_record(shard, change):
    """A shard whose records `change` edits, lengths of the texts kept."""

    def edit(data, entry):
        _, content = position(data, entry, "b.json")
        end = data.index(b"\0", content)
        text = bytes(data[content:end])
        data[content:end] = change(text)
        assert len(change(text)) == len(text)

    return damaged(shard, edit)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"anyref.sample/1", b"anyref.sample/2", "schema is 'anyref.sample/2'"),
        (b'"id":"b"', b'"id":"z"', "its record is that of 'z'"),
        (b'"width":32', b'"width":33', "says 33x16x5, the sidecar 32x16x5"),
        (b'"kind":"object"', b'"kind":"spaces"', "kind: Input should be"),
    ],
)
def test_a_record_that_does_not_fit_is_named(shard, old, new, words):
    check_only_b_is_lost(rewrite_record(shard, lambda text: text.replace(old, new)), words)


def test_a_sample_over_two_gib_is_refused_before_it_is_read(shard):
    sidecar = shard.with_suffix(".meta.jsonl")
    first, second, third = sidecar.read_text().splitlines()
    second = second[: second.index('"size":')] + f'"size":{2**31 + 1}}}'
    sidecar.write_text("\n".join([first, second, third]))
    check_only_b_is_lost(ShardIndex.open([str(shard)]), "over 2 GiB")


def test_members_of_other_kinds_are_never_opened(shard, tmp_path):
    """A pickle beside a record does no harm: it is skipped like any other foreign member."""
    index = ShardIndex.open([str(shard)])
    entry = index.entries[0]
    data = shard.read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("a.pyd", "a.pickle", "a.extra.npy"):
            info = tarfile.TarInfo(name)
            info.size = 9
            tar.addfile(info, io.BytesIO(b"\x80\x04not ok."))
        link = tarfile.TarInfo("a.ref0.mask.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        size = tar.offset
    shard.write_bytes(buffer.getvalue()[:size] + data[: entry.size])
    line = shard.with_suffix(".meta.jsonl").read_text().splitlines()[0]
    new = line.replace(f'"size":{entry.size}', f'"size":{entry.size + size}')
    shard.with_suffix(".meta.jsonl").write_text(new)
    packed = ShardIndex.open([str(shard)]).read(0)
    assert packed.masks == {}
    assert len(packed.references) == 2


def test_random_damage_is_an_error_or_harmless(shard):
    whole = shard.read_bytes()
    index = ShardIndex.open([str(shard)])
    good = [index.read(i) for i in range(3)]
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 3, 50))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        shard.write_bytes(data)
        for i in range(3):
            try:
                packed = index.read(i)
            except TrainingError:
                refused += 1
            else:
                assert packed.video == good[i].video
                assert packed.references == good[i].references
    assert refused > 100


# Order


def batches(order, first, last):
    return [order.batch(n) for n in range(first, last)]


def test_an_epoch_shows_every_sample_once_up_to_each_bucket_s_remainder():
    buckets = [range(10), range(10, 13), range(13, 30)]
    order = BatchOrder(buckets, 4, seed=0)
    assert order.batches_per_epoch == 2 + 0 + 4
    assert order.num_unreachable == 3
    for epoch in range(3):
        made = batches(order, 6 * epoch, 6 * epoch + 6)
        counts = Counter(i for batch in made for i in batch)
        assert set(counts.values()) == {1}
        assert sum(i < 10 for i in counts) == 8
        assert sum(i >= 13 for i in counts) == 16
        for batch in made:
            assert len(batch) == 4
            assert any(set(batch) <= set(bucket) for bucket in buckets)
        assert {order.epoch(n) for n in range(6 * epoch, 6 * epoch + 6)} == {epoch}


def test_a_batch_follows_from_seed_and_number_alone():
    one, two = (BatchOrder([range(50), range(50, 90)], 8, seed=3) for _ in range(2))
    forward = batches(one, 0, 33)
    backward = [two.batch(n) for n in reversed(range(33))]
    assert forward == backward[::-1]
    assert batches(BatchOrder([range(50), range(50, 90)], 8, seed=4), 0, 33) != forward


def test_epochs_differ_and_every_sample_comes_up_in_time():
    order = BatchOrder([range(10)], 4, seed=0)
    assert batches(order, 0, 2) != batches(order, 2, 4)
    assert {i for batch in batches(order, 0, 20) for i in batch} == set(range(10))


def test_the_order_of_a_seed_never_changes():
    order = BatchOrder([range(6), range(6, 9)], 3, seed=7)
    assert batches(order, 0, 4) == [(3, 4, 0), (2, 5, 1), (7, 8, 6), (8, 7, 6)]


def test_buckets_too_small_for_a_batch_are_an_error():
    with pytest.raises(
        TrainingError, match="largest bucket has 3 samples, fewer than a batch of 4"
    ):
        BatchOrder([range(3), range(3, 5)], 4, seed=0)
    with pytest.raises(TrainingError, match="largest bucket has 0"):
        BatchOrder([], 4, seed=0)
    with pytest.raises(TrainingError, match="batch is 0"):
        BatchOrder([range(3)], 0, seed=0)


def test_the_index_s_buckets_make_an_order(tmp_path, sample):
    with ShardWriter(tmp_path) as writer:
        for i in range(4):
            writer.write(sample(f"n{i}"))
            writer.write(sample(f"w{i}", bucket=(48, 16, 5)))
    index = ShardIndex.open([str(tmp_path)])
    order = BatchOrder(list(index.buckets.values()), 2, seed=0)
    for n in range(8):
        assert len({index.entries[i].bucket for i in order.batch(n)}) == 1
