"""What inputs do to a run that nobody promised to be films."""

from __future__ import annotations

import os
import struct
from collections import defaultdict

import av
import numpy as np
import pytest

import films
from anyref.data.clips import ClipSettings, clip_stages
from anyref.data.dataset import Dataset
from anyref.data.runners import run
from reels import RATE, jump_grade, scene, write_film

SETTINGS = ClipSettings(min_seconds=1, max_seconds=2, trim_seconds=0)
KEPT = ("accepted", None)
# of each input, by a part of its name, what every run must say of it
FATES = {
    "good": {KEPT},
    "zero bytes": {("rejected", "empty file")},
    "no index": {("rejected", "not a readable video")},
    "cut off": {KEPT},
    "flipped bits": {KEPT},
    "noise": {("rejected", "not a readable video")},
    "text": {("rejected", "not a readable video")},
    "8K": {("rejected", "frame too large")},
    "turned 90": {KEPT},
    "turned 45": {KEPT},
    "varying rate": {KEPT},
    "only sound": {("rejected", "no video stream")},
    "name": {KEPT},
}


def turned(data, a, b):
    """An MP4 whose track is shown turned: a is the cosine, b the sine of the angle."""
    at = data.index(b"tkhd") + 4 + 40
    numbers = (round(v * 0x10000) for v in (a, b, 0, -b, a, 0, 0, 0))
    return data[:at] + struct.pack(">9i", *numbers, 0x40000000) + data[at + 36 :]


def write_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())


@pytest.fixture
def inputs(tmp_path):
    """A folder of everything."""
    folder = tmp_path / "in"
    frames = scene(80, 48)
    good = write_film(folder / "good.mp4", frames).read_bytes()
    stream = write_film(tmp_path / "film.ts", frames).read_bytes()
    middle = len(stream) // 2
    for name, data in {
        "zero bytes.mp4": b"",
        "no index.mp4": good[: len(good) // 2],
        "cut off.ts": stream[: middle + 100],
        "flipped bits.ts": stream[:middle] + bytes(300) + stream[middle + 300 :],
        "noise.mkv": np.random.default_rng(0).bytes(20_000),
        "text.mp4": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "turned 90.mp4": turned(good, 0, 1),
        "turned 45.mp4": turned(good, 0.7071, 0.7071),
        "name concat:a|b.mp4": good,
        "name -i %d\n*.mp4": good,
        "name $(reboot) ;'\"\u202e.mp4": good,
    }.items():
        (folder / name).write_bytes(data)
    (folder / os.fsdecode(b"name \xff\xfe.mp4")).write_bytes(good)
    write_film(folder / "8K.mp4", [np.zeros((4320, 7680, 3), np.uint8)])
    times = [number / RATE + (0.02 if number % 2 else 0) for number in range(48)]
    write_film(folder / "varying rate.mp4", frames, times=times)
    write_sound(folder / "only sound.mp4")
    return folder


def fates(out):
    """By the part of the name in FATES, what became of the inputs."""
    found = defaultdict(set)
    for row in Dataset.open(out).rows():
        (key,) = (key for key in FATES if row.uri.rpartition("/")[2].startswith(key))
        found[key].add((row.status, row.reason))
    return found


def test_every_hostile_input_is_used_or_rejected_with_its_reason(inputs, tmp_path):
    run([inputs], clip_stages(SETTINGS, jump_grade), tmp_path / "out")
    found = fates(tmp_path / "out")
    for damaged in ("cut off", "flipped bits"):  # what follows the damage may be told as well
        found[damaged] = {fate for fate in found[damaged] if fate == KEPT}
    assert found == FATES
    uris = {row.uri for row in Dataset.open(tmp_path / "out").rows()}
    assert len(uris) == len(list(inputs.iterdir()))


def test_a_turned_film_comes_out_upright(inputs, tmp_path):
    run([inputs / "turned 90.mp4"], clip_stages(SETTINGS, jump_grade), tmp_path / "out")
    video = Dataset.open(tmp_path / "out")
    (row,) = video.rows("accepted")
    with av.open(str(video.folder / row.assets["clip"])) as clip:
        stream = clip.streams.video[0]
        assert (stream.width, stream.height) == (48, 64)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_says_the_same_of_hostile_inputs(inputs, tmp_path):
    stages = clip_stages(SETTINGS, jump_grade)
    run([inputs], stages, tmp_path / "local")
    run([inputs], stages, tmp_path / "ray", runner="ray", ray=films.RAY)
    assert films.tree(tmp_path / "ray") == films.tree(tmp_path / "local")
