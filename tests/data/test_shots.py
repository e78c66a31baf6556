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
