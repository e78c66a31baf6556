from __future__ import annotations

import numpy as np
import pytest

from anyref.evaluation.metric import MetricSpec, Score, Skipped
from anyref.evaluation.metrics.motion import FrozenFrames, MotionSmoothness
from anyref.evaluation.metrics.quality import EdgeBlur
from anyref.evaluation.profiles.strict import strict
from anyref.evaluation.profiles.vbench import vbench
from anyref.evaluation.results import Scorer, ScoreTable, score_results
from anyref.evaluation.run import Scored, make_evaluation
from anyref.evaluation.stillness import STILL, WHY, watched, without_stillness
from anyref.evaluation.videos import find_videos
from anyref.media import write_video

MOVES, STANDS, GONE = ("moves", 0), ("stands", 0), ("gone", 0)


@pytest.fixture
def table():
    """Smoothness, likeness and repeated frames of a video that moves and of one that does not."""
    gone = Skipped("there is no video", "missing")
    columns = {
        "motion_smoothness": {MOVES: Score(0.9), STANDS: Score(1.0), GONE: gone},
        "subject_similarity": {MOVES: Score(0.6), STANDS: Score(0.9), GONE: gone},
        "frozen_frames": {MOVES: Score(0.1), STANDS: Score(STILL), GONE: gone},
    }
    specs = {
        name: MetricSpec(
            name=name,
            about="",
            direction="lower" if name == "frozen_frames" else "higher",
            low=0,
            high=1,
            needs=frozenset({"video"}),
            grade="exact",
        )
        for name in columns
    }
    return ScoreTable(columns, specs)


def test_a_video_that_stands_still_has_no_smoothness_and_keeps_what_it_shows(table):
    moving = without_stillness(table)
    assert moving.outcomes("motion_smoothness")[STANDS] == WHY
    assert moving.outcomes("motion_smoothness")[MOVES] == Score(0.9)
    assert moving.outcomes("motion_smoothness")[GONE].cause == "missing"
    assert moving.outcomes("subject_similarity") == table.outcomes("subject_similarity")


def test_without_the_metric_that_tells_nothing_changes(table):
    columns = {n: c for n, c in table.columns.items() if n != "frozen_frames"}
    other = ScoreTable(columns, table.specs)
    assert without_stillness(other) is other


def test_our_own_profile_counts_it_as_the_worst_and_says_so_and_a_suite_does_not(table, benchmark):
    cases = benchmark("moves", "stands", "gone")
    ours = make_evaluation(cases, strict(table.specs.values()), Scored("m", table))
    assert ours.figures.summary.values["motion_smoothness"] == pytest.approx(0.3)
    assert any("stands still" in note for note in ours.figures.summary.notes)
    theirs = make_evaluation(cases, vbench(), Scored("m", table))
    assert not any("stands still" in note for note in theirs.figures.summary.notes)
    assert theirs.model.table is table


def test_what_tells_stillness_is_always_measured_where_it_counts(table, tmp_path, benchmark):
    asked = [MotionSmoothness()]
    assert [m.spec.name for m in watched(asked)] == ["motion_smoothness", "frozen_frames"]
    assert watched([EdgeBlur()])[0].spec.name == "edge_blur" and len(watched([EdgeBlur()])) == 1
    both = [FrozenFrames(), MotionSmoothness()]
    assert watched(both) == tuple(both)
    write_video(tmp_path / "a.mp4", np.full((5, 32, 32, 3), 90, np.uint8), 8)
    cases = benchmark("a")
    scores = score_results(cases, find_videos(cases, tmp_path), Scorer(watched(asked)))
    made = make_evaluation(cases, strict([m.spec for m in asked]), Scored("m", scores))
    assert made.figures.summary.values == {"motion_smoothness": 0.0}  # alone, and not the best
