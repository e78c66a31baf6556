from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import tarfile
import zlib

import numpy as np
import pytest

from anyref.data.index import ShardIndex
from anyref.data.shards import PackedSample, ShardWriter, parse_sidecar, write_shard
from anyref.errors import TrainingError

KILLED_WRITER = """
import sys, time
from pathlib import Path
from anyref.data.record import Caption, Sample, Video
from anyref.data.shards import PackedSample, ShardWriter
with ShardWriter(sys.argv[1], max_samples=3) as writer:
    for i in range(100):
        video = Video(end=5, fps=8, num_frames=5, width=32, height=16)
        record = Sample(id=f"s{i}", video=video, captions=[Caption(text="nothing")])
        writer.write(PackedSample(record=record, video=bytes(100_000)))
        if i == 4:
            print("five written", flush=True)
            time.sleep(60)
"""


def test_a_sample_comes_back_as_it_was_written(tmp_path, sample):
    packed = sample("a", references=3, masks=(1,))
    with ShardWriter(tmp_path) as writer:
        writer.write(packed)
    (path,) = writer.finished
    assert path == tmp_path / "32x16x5/000000.tar"
    back = ShardIndex.open([str(path)]).read(0)
    assert (back.video, back.references, back.masks) == (
        packed.video,
        packed.references,
        packed.masks,
    )
    assert back.record.captions == packed.record.captions
    assert [r.track for r in back.record.references] == [r.track for r in packed.record.references]
    assert back.record.video.uri == "a.mp4"
    assert back.record.references[2].image.uri == "a.ref2.png"


def test_the_webdataset_library_reads_our_shards(shard):
    from webdataset.tariterators import group_by_keys, tar_file_expander

    with shard.open("rb") as file:
        members = tar_file_expander([{"url": "000000.tar", "stream": file}])
        read = list(group_by_keys(members))
    assert [entry["__key__"] for entry in read] == ["a", "b", "c"]
    assert read[0]["txt"] == b"see fox owl"
    assert read[0]["id"] == b"a"
    assert set(read[0]) >= {"mp4", "json", "ref0.png", "ref1.png"}


def test_the_sidecar_says_what_a_loader_chooses_by(shard):
    lines = [json.loads(x) for x in shard.with_suffix(".meta.jsonl").read_text().splitlines()]
    assert {k: lines[0][k] for k in lines[0] if k not in ("offset", "size")} == {
        "key": "a",
        "width": 32,
        "height": 16,
        "num_frames": 5,
        "fps": 8.0,
        "num_references": 2,
    }


def test_equal_samples_make_equal_bytes(tmp_path, sample):
    for folder in "xy":
        write_shard(tmp_path / folder / "0.tar", [sample("a"), sample("b")])
    for name in ("0.tar", "0.meta.jsonl"):
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_a_tar_holds_one_header_per_member_and_nothing_else(shard, sample):
    with tarfile.open(shard) as tar:
        members = tar.getmembers()
    blocks = sum(512 + -(-member.size // 512) * 512 for member in members)
    lines = parse_sidecar(shard.with_suffix(".meta.jsonl").read_bytes(), "0.tar")
    assert sum(line.size for line in lines) == blocks
    assert {member.mtime for member in members} == {0}


def test_samples_go_to_their_buckets_and_full_shards_are_closed(tmp_path, sample):
    wide = (48, 16, 5)
    with ShardWriter(tmp_path, max_samples=2) as writer:
        for i in range(5):
            writer.write(sample(f"n{i}"))
            writer.write(sample(f"w{i}", bucket=wide))
    names = sorted(str(p.relative_to(tmp_path)) for p in writer.finished)
    assert names == [f"{b}/00000{i}.tar" for b in ("32x16x5", "48x16x5") for i in range(3)]
    index = ShardIndex.open([str(tmp_path)])
    keys = {b: [index.entries[i].key for i in group] for b, group in index.buckets.items()}
    assert keys == {(32, 16, 5): [f"n{i}" for i in range(5)], wide: [f"w{i}" for i in range(5)]}


def test_a_shard_closes_before_it_is_over_its_bytes(tmp_path, sample):
    with ShardWriter(tmp_path, max_bytes=30_000) as writer:
        for i in range(8):
            writer.write(sample(f"s{i}"))
    assert len(writer.finished) > 1
    assert all(path.stat().st_size <= 30_000 + 10_240 for path in writer.finished)


def test_a_second_writer_goes_on_after_the_first(tmp_path, sample):
    for key in "ab":
        with ShardWriter(tmp_path) as writer:
            writer.write(sample(key))
    assert [p.name for p in sorted(tmp_path.rglob("*.tar"))] == ["000000.tar", "000001.tar"]
    assert [entry.key for entry in ShardIndex.open([str(tmp_path)]).entries] == ["a", "b"]


def test_an_exception_leaves_full_shards_only(tmp_path, sample):
    with pytest.raises(KeyError), ShardWriter(tmp_path, max_samples=2) as writer:
        for key in "abc":
            writer.write(sample(key))
        raise KeyError
    files = sorted(p.name for p in (tmp_path / "32x16x5").iterdir())
    assert files == ["000000.meta.jsonl", "000000.tar"]


def test_a_kill_leaves_full_shards_only(tmp_path, sample):
    command = [sys.executable, "-c", KILLED_WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "five written\n"
        process.send_signal(signal.SIGKILL)
    assert [p.name for p in tmp_path.rglob("*.tar")] == ["000000.tar"]
    index = ShardIndex.open([str(tmp_path)])
    assert [index.read(i).record.id for i in range(len(index))] == ["s0", "s1", "s2"]
    with ShardWriter(tmp_path) as writer:
        writer.write(sample("later"))
    assert len(ShardIndex.open([str(tmp_path)])) == 4


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, sample, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with ShardWriter(tmp_path) as writer:
        writer.write(sample("a"))
        with monkeypatch.context() as patch, pytest.raises(TrainingError, match="No space left"):
            patch.setattr(tarfile.TarFile, "addfile", full)
            writer.write(sample("b"))
        writer.write(sample("c"))
    assert [p.name for p in tmp_path.rglob("*.tar")] == ["000000.tar"]
    assert [entry.key for entry in ShardIndex.open([str(tmp_path)]).entries] == ["c"]
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainingError, match=r"cannot write .*No space left"):
        write_shard(tmp_path / "more/0.tar", [sample("a")])
    assert not list((tmp_path / "more").iterdir())


def test_a_key_is_written_once(tmp_path, sample):
    with pytest.raises(TrainingError, match="'a' is written twice"):
        write_shard(tmp_path / "0.tar", [sample("a"), sample("a")])
    assert not list(tmp_path.iterdir())


def test_pictures_and_references_must_match(tmp_path, sample):
    packed = sample("a")
    cases = [
        ({"references": packed.references[:1]}, "1 pictures for 2 references"),
        ({"masks": {2: packed.references[0]}}, "mask for reference 2"),
        ({"references": (b"GIF89a", packed.references[1])}, "a.ref0.png is not a readable PNG"),
    ]
    parts = {"record": packed.record, "video": packed.video, "references": packed.references}
    for change, words in cases:
        with pytest.raises(TrainingError, match=words):
            write_shard(tmp_path / "0.tar", [PackedSample(**(parts | change))])


def test_a_picture_over_64_megapixels_is_refused_by_its_header(tmp_path, sample):
    packed = sample("a")
    header = bytearray(packed.references[0])
    header[16:24] = (9000).to_bytes(4, "big") * 2  # width and height in IHDR
    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    huge = PackedSample(
        record=packed.record,
        video=packed.video,
        references=(bytes(header), packed.references[1]),
    )
    with pytest.raises(TrainingError, match="9000x9000, over 64 megapixels"):
        write_shard(tmp_path / "0.tar", [huge])


def test_the_video_decodes_to_the_record_s_size(sample):
    frames = sample("a").frames()
    assert frames.shape == (5, 16, 32, 3)
    assert frames.dtype == np.uint8
    assert np.abs(frames[4].astype(int) - 200).max() <= 4


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ((48, 16, 5), "video of 48x16x5, its record says 32x16x5"),
        ((32, 16, 4), "video of 32x16x4"),
        ((32, 16, 6), "over 5 frames"),
    ],
)
def test_a_video_of_another_size_is_refused(sample, other, words):
    packed = PackedSample(record=sample("a", 0).record, video=sample("b", 0, other).video)
    with pytest.raises(TrainingError, match=f"'a'.*{words}"):
        packed.frames()


def test_what_cannot_be_decoded_is_named(sample):
    packed = sample("a", masks=(0,))
    cut = PackedSample(
        record=packed.record,
        video=packed.video[:300],
        references=(packed.references[0][:50], packed.references[1]),
        masks={0: packed.masks[0][:50]},
    )
    for decode, words in (
        (cut.frames, "'a'.*not a readable video"),
        (lambda: cut.picture(0), "a.ref0.png"),
        (lambda: cut.mask(0), "a.ref0.mask.png"),
    ):
        with pytest.raises(TrainingError, match=words):
            decode()


def test_pictures_keep_their_alpha_and_masks_are_grey(sample):
    packed = sample("a", masks=(1,))
    assert packed.picture(0).getpixel((0, 0)) == (200, 30, 30)
    assert packed.mask(0) is None
    assert packed.mask(1).mode == "L"
    assert packed.mask(1).getextrema() == (255, 255)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{}", "line 1 .*key: Field required"),
        (b"not json", "line 1"),
        (b'{"key":"a","width":1,"height":1,"num_frames":1,"fps":8,"num_references":0}', "offset"),
    ],
)
def test_a_damaged_sidecar_is_named_by_line(text, words):
    with pytest.raises(TrainingError, match=words):
        parse_sidecar(text, "0.tar")
