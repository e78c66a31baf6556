from __future__ import annotations

import numpy as np
import pytest

from anyref.data.footage import BadFilmError, FilmLimits, open_film
from anyref.data.shots import bar_lines, bright_lines, survey
from anyref.data.sources import Source
from reels import JumpShots, scene, write_film


def surveyed(path, max_seconds=100.0):
    with open_film(Source.of(path), FilmLimits(), draft=True) as film:
        return survey(film, JumpShots(), max_seconds)


def test_a_survey_knows_shots_and_times(tmp_path):
    path = write_film(tmp_path / "a.mp4", [*scene(40, 10), *scene(160, 14)])
    found = surveyed(path)
    assert found.shots == ((0, 10), (10, 24))
    assert found.edges == pytest.approx(np.arange(25) / 16)
    assert found.content == (0, 0, 64, 48)
    assert found.damage is None


def test_a_film_longer_than_it_says_is_refused(tmp_path):
    path = write_film(tmp_path / "a.mp4", scene(40, 10))
    with pytest.raises(BadFilmError, match="film too long"):
        surveyed(path, max_seconds=0.3)


@pytest.mark.parametrize(
    ("top", "bottom", "bars"),
    [(5, 5, 5), (5, 6, 6), (5, 9, 0), (0, 5, 0), (1, 1, 1), (28, 28, 0), (30, 30, 0)],
)
def test_bars_come_in_pairs_and_leave_something(top, bottom, bars):
    grey = np.full((60, 80), 90, np.uint8)
    grey[:top] = grey[60 - bottom :] = 4
    assert bar_lines(bright_lines(grey)) == bars


def test_a_small_mark_in_a_bar_does_not_keep_the_bar():
    grey = np.full((60, 400), 90, np.uint8)
    grey[:5] = grey[-5:] = 4
    grey[1:4, 5:10] = 255
    assert bar_lines(bright_lines(grey)) == 5


def marked(frames):
    for frame in frames:
        frame[6:14, 40:56] = 255
    return frames


def test_a_mark_stays_through_the_cuts_of_a_film(tmp_path):
    shots = [scene(level, 10) for level in (40, 160, 60, 200, 90)]
    film = [frame for shot in shots for frame in marked([f.copy() for f in shot])]
    stays = surveyed(write_film(tmp_path / "a.mp4", film)).stays
    rows, columns = stays.shape
    y, x = np.flatnonzero(stays.any(1)) / rows * 48, np.flatnonzero(stays.any(0)) / columns * 64
    assert 2 < y.min() < 7 and 13 < y.max() < 18
    assert 36 < x.min() < 41 and 55 < x.max() < 60


def test_what_one_shot_alone_shows_does_not_stay(tmp_path):
    shots = [scene(level, 10) for level in (40, 160, 60, 200, 90)]
    film = [*marked([f.copy() for f in shots[0]]), *(f for shot in shots[1:] for f in shot)]
    assert not surveyed(write_film(tmp_path / "a.mp4", film)).stays.any()


def test_few_shots_say_nothing_of_what_stays(tmp_path):
    film = [frame for level in (40, 160, 60) for frame in scene(level, 10)]
    assert surveyed(write_film(tmp_path / "a.mp4", film)).stays is None
