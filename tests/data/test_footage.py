from __future__ import annotations

import os
import struct

import av
import fsspec
import numpy as np
import pytest

from anyref.data.footage import BadFilmError, Clock, FilmLimits, open_film
from anyref.data.sources import Source
from reels import scene, write_film

LIMITS = FilmLimits()


def fault(place, limits=LIMITS):
    """The reason for which a film is refused; reads one frame if it is not."""
    with pytest.raises(BadFilmError) as caught, open_film(Source.of(place), limits) as film:
        film.geometry(next(film.frames()))
    rejection = caught.value.rejection("shots")
    assert rejection.stage == "shots"
    return rejection.reason


@pytest.fixture(scope="module")
def reel(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("reel") / "reel.mp4", scene(40, 12))


def test_a_film_gives_its_frames_upright_in_rgb(reel):
    with open_film(Source.of(reel), LIMITS) as film:
        frames = list(film.frames())
        geometry = film.geometry(frames[0])
        picture = film.picture(frames[0], geometry, geometry.width, geometry.height)
    assert (len(frames), film.rate, film.damage) == (12, 16, None)
    assert picture.shape == (48, 64, 3)
    assert abs(int(picture[0, 40, 0]) - 40) < 6


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"not a film at all" * 50, "not a readable video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "not a readable video"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not a readable video"),
    ],
)
def test_what_is_no_film_is_refused_with_a_reason(tmp_path, content, reason):
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    assert fault(path) == reason


def test_a_cut_off_mp4_is_refused(tmp_path, reel):
    path = tmp_path / "cut.mp4"
    path.write_bytes(reel.read_bytes()[:600])
    assert fault(path) == "not a readable video"


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    assert fault(tmp_path / "pipe.mp4") == "not a regular file"
    assert fault(tmp_path) == "not a regular file"
    assert fault(tmp_path / "gone.mp4") == "file not found"


def test_sound_without_pictures_is_refused(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    assert fault(path) == "no video stream"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (FilmLimits(max_bytes=100), "file too large"),
        (FilmLimits(max_pixels=64 * 48 - 1), "frame too large"),
        (FilmLimits(max_film_seconds=0.5), "film too long"),
    ],
)
def test_a_film_over_a_limit_is_refused(reel, limits, reason):
    assert fault(reel, limits) == reason


def test_a_tiny_film_is_refused(tmp_path):
    assert fault(write_film(tmp_path / "a.mp4", scene(0, 2, (64, 16)))) == "frame too small"


def test_a_hostile_name_is_only_a_name(tmp_path, reel):
    for name in ("concat:a|b.mp4", "http:x.mp4", "-i %d\n*.mp4", b"\xff\xfe.mp4"):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes(reel.read_bytes())
        with open_film(Source.of(path), LIMITS) as film:
            assert len(list(film.frames())) == 12


def test_a_url_is_read_through_its_file_system(reel):
    with fsspec.open("memory://reels/a.mp4", "wb") as file:
        file.write(reel.read_bytes())
    with open_film(Source.of("memory://reels/a.mp4"), LIMITS) as film:
        assert len(list(film.frames())) == 12
    assert fault("memory://reels/b.mp4") == "URL cannot be opened"
    assert fault("nosuch://reels/b.mp4") == "URL cannot be opened"


def rotated(data, a, b, c, d):
    """An MP4 whose track is shown through another matrix."""
    at = data.index(b"tkhd") + 4 + 40
    one = 0x10000
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 0x40000000)
    return data[:at] + matrix + data[at + 36 :]


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [((0, 1, -1, 0), (0, -1)), ((-1, 0, 0, -1), (-1, -1)), ((0, -1, 1, 0), (-1, 0))],
)
def test_rotation_is_applied(tmp_path, matrix, corner):
    frames = np.zeros((2, 48, 64, 3), np.uint8)
    frames[:, :24, :32] = 255  # the top left
    path = write_film(tmp_path / "a.mp4", frames)
    path.write_bytes(rotated(path.read_bytes(), *matrix))
    with open_film(Source.of(path), LIMITS) as film:
        frame = next(film.frames())
        geometry = film.geometry(frame)
        picture = film.picture(frame, geometry, geometry.width, geometry.height)
    assert picture.shape == ((48, 64, 3) if matrix[0] else (64, 48, 3))
    assert picture[corner].min() > 200
    assert (picture > 128).mean() == pytest.approx(0.25, abs=0.02)


def test_pixels_that_are_not_square_are_stretched(tmp_path):
    path = write_film(tmp_path / "a.mp4", scene(0, 2), sample_aspect_ratio=2)
    with open_film(Source.of(path), LIMITS) as film:
        geometry = film.geometry(next(film.frames()))
    assert (geometry.width, geometry.height) == (128, 48)


def test_frames_end_where_their_size_changes(tmp_path):
    parts = [
        write_film(tmp_path / f"{n}.ts", scene(0, 6, size)).read_bytes()
        for n, size in enumerate([(64, 48), (96, 64)])
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    with open_film(Source.of(path), LIMITS) as film:
        frames = list(film.frames())
    assert film.damage == "frame size changes"
    assert {frame.width for frame in frames} == {64}


def test_a_clock_runs_on_over_gaps_steps_back_and_missing_times():
    clock = Clock(rate=10)
    for stamp in (5.0, 5.1, None, 5.3, 900.0, 900.2, 0.0, 0.0):
        clock.add(stamp)
    assert clock.joins == [4, 6]
    assert clock.edges() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.7, 0.8])
