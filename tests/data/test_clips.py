from __future__ import annotations

import numpy as np
import pytest

from anyref.data import footage
from anyref.data.clips import (
    CLIP_RULES,
    ClipSettings,
    clip_stages,
    cut_film,
    make_shots,
    plan,
    split_frames,
    target_size,
)
from anyref.data.dataset import Dataset
from anyref.data.footage import Geometry
from anyref.data.record import sample_id
from anyref.data.runners import run
from anyref.data.shots import Survey
from anyref.data.sources import Source
from anyref.data.stages import Item, Rejection
from anyref.errors import DataError
from anyref.media import read_video
from reels import RATE, jump_grade, scene, write_film

SETTINGS = ClipSettings(min_seconds=1, max_seconds=1.5, trim_seconds=0)


def surveyed(path, settings=SETTINGS):
    source = Source.of(path)
    return make_shots(settings, jump_grade)(Item(id=source.id, source=source))


def clips_of(path, settings=SETTINGS):
    item = surveyed(path, settings)
    return [item] if isinstance(item, Rejection) else list(cut_film(item, settings))


def survey_of(edges, *shots):
    size = Geometry(coded=(64, 48), width=64, height=48)
    return Survey(geometry=size, edges=np.asarray(edges), shots=shots, content=(0, 0, 64, 48))


@pytest.fixture(scope="module")
def reel(tmp_path_factory):
    """Three scenes: 20, 8 and 30 frames at 16 a second."""
    frames = [*scene(40, 20), *scene(120, 8), *scene(200, 30)]
    return write_film(tmp_path_factory.mktemp("reel") / "reel.mp4", frames)


def test_every_shot_becomes_clips_or_a_rejection(reel):
    first, short, second = clips_of(reel)
    uri = Source.of(reel).uri
    assert [first.id, second.id] == [sample_id(uri, 0, 20), sample_id(uri, 30, 55)]
    assert (short.reason, short.number, short.limit) == ("shot too short", 0.5, 1)
    assert short.item.id == sample_id(uri, 20, 28)
    assert "film" not in {**first.payload, **short.item.payload}


def test_a_clip_carries_what_the_next_stages_need(reel):
    item = clips_of(reel)[0]
    clip, video = item.payload["clip"], item.payload["video"]
    pictures, fps = read_video(clip.data)
    assert pictures.shape == (20, 48, 64, 3)
    assert (fps, clip.suffix) == (RATE, "mp4")
    assert (video.uri, video.sha256) == (clip.asset.uri, clip.asset.sha256)
    assert (video.start, video.end, video.num_frames) == (0, 20, 20)
    assert (video.fps, video.width, video.height, video.crop_xyxy) == (RATE, 64, 48, None)
    assert item.payload["frame_numbers"] == (0, 2, 5, 8, 10, 13, 16, 19)
    sampled = item.payload["frames"]
    assert (sampled.shape, sampled.dtype) == ((8, 48, 64, 3), np.uint8)
    assert np.abs(sampled.astype(int) - pictures[[0, 2, 5, 8, 10, 13, 16, 19]]).mean() < 3
    assert (item.payload["thumbs"].shape, item.payload["thumbs"].dtype) == (
        (20, 120, 160),
        np.uint8,
    )
    assert dict(item.measurements) == {
        "duration_s": 1.25,
        "source_fps": 16,
        "source_width": 64,
        "source_height": 48,
    }


def test_a_clip_shows_its_shot_only(reel):
    first, _, second = clips_of(reel)
    for item, level in ((first, 40), (second, 200)):
        assert np.abs(np.median(item.payload["thumbs"], axis=(1, 2)) - level).max() < 6


def test_transitions_are_trimmed(reel):
    settings = ClipSettings(min_seconds=1, max_seconds=2, trim_seconds=0.125)
    spans = [
        (item.payload["video"].start, item.payload["video"].end)
        for item in clips_of(reel, settings)
        if isinstance(item, Item)
    ]
    assert spans == [(2, 18), (30, 56)]


def test_cutting_again_gives_the_same_bytes(reel):
    first, second = (clips_of(reel)[0].payload["clip"].data for _ in range(2))
    assert first == second


def test_clips_are_made_as_they_are_asked_for(reel, monkeypatch):
    item, decoded = surveyed(reel), []
    frames = footage.Film.frames

    def counted(film):
        for frame in frames(film):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(footage.Film, "frames", counted)
    clips = cut_film(item, SETTINGS)
    next(clips)
    assert len(decoded) == 20
    clips.close()


@pytest.mark.parametrize(
    ("count", "clips"),
    [
        (19, []),
        (20, [(0, 20)]),
        (81, [(0, 81)]),
        (100, [(9, 81)]),
        (101, [(0, 81), (81, 20)]),
        (170, [(4, 81), (85, 81)]),
    ],
)
def test_a_long_shot_becomes_the_longest_clips_and_a_rest_that_is_long_enough(count, clips):
    assert split_frames(count, 20, 81) == clips


def test_the_default_clip_has_at_most_81_frames():
    assert (ClipSettings().min_frames, ClipSettings().max_frames) == (32, 81)


@pytest.mark.parametrize(
    ("rate", "picks"),
    [(16, [0, 1, 2, 3, 4, 5]), (32, [1, 3, 5, 7, 9, 11]), (24, [0, 2, 3, 5, 6, 8])],
)
def test_frames_are_evenly_spaced_in_time_at_any_rate(rate, picks):
    found = survey_of(np.arange(2 * rate + 1) / rate, (0, 2 * rate))
    (cut,) = plan(found, ClipSettings(min_seconds=1, max_seconds=3, trim_seconds=0))
    assert cut.picks[:6].tolist() == picks
    assert len(cut.picks) == 32


def test_a_varying_frame_rate_keeps_its_speed(tmp_path):
    slow, fast = np.arange(0, 1, 1 / 8), np.arange(1, 2, 1 / 32)
    times = [*slow, *fast]
    frames = [np.full((48, 64, 3), int(20 + 100 * t), np.uint8) for t in times]
    path = write_film(tmp_path / "a.mp4", frames, times=times)
    (item,) = clips_of(path, ClipSettings(min_seconds=1, max_seconds=5, trim_seconds=0))
    levels = np.median(item.payload["thumbs"], axis=(1, 2))
    assert len(levels) == 32
    assert np.abs(levels - 20 - 100 * np.arange(32) / 16).max() < 16


def test_time_that_stops_for_long_ends_a_shot(tmp_path):
    frames = scene(60, 40)
    times = [n / RATE + (3600 if n >= 20 else 0) for n in range(40)]
    spans = [
        item.payload["video"].start
        for item in clips_of(write_film(tmp_path / "a.mp4", frames, times=times))
    ]
    assert spans == [0, 20]


@pytest.mark.parametrize(
    ("size", "content", "scaled", "box"),
    [
        ((1920, 1080), None, (854, 480), (0, 0, 854, 480)),
        ((1080, 1920), None, (480, 854), (0, 0, 480, 854)),
        ((321, 241), None, (321, 241), (0, 0, 320, 240)),
        ((1920, 1080), (0, 140, 1920, 940), (1152, 648), (0, 84, 1152, 564)),
        ((64, 48), None, (64, 48), (0, 0, 64, 48)),
    ],
)
def test_clips_are_even_and_never_larger_than_the_film(size, content, scaled, box):
    geometry = Geometry(coded=size, width=size[0], height=size[1])
    assert target_size(geometry, content or (0, 0, *size), 480) == (scaled, box)


def test_black_bars_are_cut_away(tmp_path):
    frames = np.zeros((20, 96, 128, 3), np.uint8)
    frames[:, 16:80] = scene(120, 20, (128, 64))
    path = write_film(tmp_path / "a.mp4", frames)
    (item,) = clips_of(path)
    video = item.payload["video"]
    assert video.crop_xyxy == (0, 16, 128, 80)
    assert (video.width, video.height) == (128, 64)
    assert item.payload["frames"].min() > 30
    assert item.id == sample_id(Source.of(path).uri, 0, 20, video.crop_xyxy)
    (whole,) = clips_of(path, SETTINGS.model_copy(update={"crop_bars": False}))
    assert whole.payload["video"].height == 96


def test_of_a_damaged_film_the_whole_clips_are_kept(tmp_path):
    path = write_film(tmp_path / "a.ts", [*scene(40, 20), *scene(200, 60)])
    other = write_film(tmp_path / "b.ts", scene(40, 6, (96, 64)))
    path.write_bytes(path.read_bytes() + other.read_bytes())
    *clips, rest = clips_of(path)
    assert clips[0].payload["video"].start == 0
    assert len(clips) >= 3
    assert rest.reason == "rest of film: frame size changes"


def test_settings_without_a_range_of_lengths_are_refused():
    with pytest.raises(ValueError, match="min_seconds 6 is over max_seconds 5"):
        ClipSettings(min_seconds=6)


def test_the_rules_ask_for_what_the_stages_measure():
    measured = {name for stage in clip_stages(SETTINGS, jump_grade) for name in stage.measures}
    assert {rule.measurement for rule in CLIP_RULES} <= measured


def test_bad_films_among_good_ones_are_rejections_of_a_run(tmp_path, reel):
    films = tmp_path / "films"
    films.mkdir()
    (films / "a good\nfilm.mp4").write_bytes(reel.read_bytes())
    (films / "empty.mp4").write_bytes(b"")
    (films / "noise.mkv").write_bytes(bytes(range(256)) * 40)
    (films / "still.mp4").write_bytes(write_film(tmp_path / "s.mp4", scene(9, 1)).read_bytes())
    missing = Source.of("nosuch://place/film.mp4")
    run([films, missing], clip_stages(SETTINGS, jump_grade), tmp_path / "out")
    rows = list(Dataset.open(tmp_path / "out").rows())
    assert sorted((row.status, row.stage, row.reason) for row in rows if row.stage) == [
        ("rejected", "clips", "shot too short"),
        ("rejected", "clips", "shot too short"),
        ("rejected", "shots", "URL cannot be opened"),
        ("rejected", "shots", "empty file"),
        ("rejected", "shots", "not a readable video"),
    ]
    kept = [row for row in rows if row.status == "accepted"]
    assert len(kept) == 2
    assert all(set(row.assets) == {"clip"} for row in kept)
    assert issubclass(footage.BadFilmError, DataError)
