from __future__ import annotations

import struct
import tracemalloc

import av
import numpy as np
import pytest

from anyref.data.stills import stills
from anyref.errors import MediaError
from anyref.evaluation.decoding import FootageLimits, read_footage
from anyref.media import read_video, write_video

MIB = 2**20


@pytest.fixture
def moving(tmp_path):
    """40 frames of 64 x 48 that all differ."""
    frames = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "moving.mp4", frames, 12)
    return tmp_path / "moving.mp4"


def test_footage_has_the_frames_that_generation_reads_back(moving):
    footage = read_footage(moving, "ab", FootageLimits())
    frames, fps = read_video(moving)
    assert (footage.frames == frames).all() and footage.fps == fps == 12
    assert footage.sha256 == "ab"


def test_a_file_that_does_not_say_how_many_frames_it_has_is_read_whole(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for level in range(150):
            picture = np.full((32, 32, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.streams.video[0].frames == 0
    footage = read_footage(tmp_path / "a.mkv", "", FootageLimits())
    assert footage.frames.shape == (150, 32, 32, 3)
    assert np.abs(footage.frames[::30, 16, 16, 0].astype(int) - [0, 30, 60, 90, 120]).max() < 6


@pytest.mark.parametrize("limits", [{"max_frames": 39}, {"max_bytes": 39 * 64 * 48 * 3}])
def test_a_video_over_a_limit_is_refused_with_both_numbers(moving, limits):
    with pytest.raises(MediaError, match=r"over 39 frames of 64x48.*GiB.*decoded"):
        read_footage(moving, "", FootageLimits(**limits))
    over = {name: value * 40 // 39 + 40 for name, value in limits.items()}
    assert len(read_footage(moving, "", FootageLimits(**over)).frames) == 40


def test_memory_is_that_of_the_frames_and_bounded_by_bytes(tmp_path):
    frames = np.zeros((30, 256, 256, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames, 8)
    for limits, most in ((FootageLimits(), 1.3 * frames.nbytes), (
        FootageLimits(max_bytes=MIB), 1.5 * MIB
    )):  # fmt: skip
        tracemalloc.start()
        try:
            read_footage(tmp_path / "a.mp4", "", limits)
        except MediaError:
            assert limits.max_bytes == MIB
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most


@pytest.mark.parametrize("content", [b"", b"no video" * 50, b"\0\0\0\x20ftypisom" + b"\0" * 40])
def test_what_is_no_video_is_said(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.mp4.*not a readable video|a\.mp4.*no frames"):
        read_footage(tmp_path / "a.mp4", "", FootageLimits())


def turned(path, *matrix):
    """The file with another matrix in its track's header, which says how it is shown."""
    data = bytearray(path.read_bytes())
    start = data.find(b"tkhd") + 4
    start += 4 + (20 if data[start] == 0 else 32) + 16
    data[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)


def test_a_video_is_turned_upright(tmp_path):
    frames = np.zeros((3, 32, 64, 3), np.uint8)
    frames[:, :, :16] = 255  # its left
    write_video(tmp_path / "a.mp4", frames, 8)
    one = 0x10000
    turned(tmp_path / "a.mp4", 0, one, 0, -one, 0, 0, 32 * one, 0, 0x40000000)
    found = read_footage(tmp_path / "a.mp4", "", FootageLimits()).frames
    assert found.shape == (3, 64, 32, 3)
    assert found[0, :12].min() > 200 and found[0, 20:].max() < 60  # clockwise: left is up
    (still,) = stills((tmp_path / "a.mp4").read_bytes(), [0]).values()
    assert np.abs(np.asarray(still).astype(int) - found[0]).max() < 8


def test_what_is_no_video_is_said_without_its_folder(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 50)
    with pytest.raises(MediaError) as raised:
        read_footage(tmp_path / "a.mp4", "", FootageLimits())
    assert str(tmp_path) not in str(raised.value)
