from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2")

from anyref.errors import LabError
from anyref.lab.captions import Motion
from anyref.lab.pictures import fit
from anyref.lab.scoring import (
    CANDIDATES,
    Examiner,
    background_similarity,
    change_displacement,
    is_moving,
    poses_like,
)
from anyref.lab.world import World, compose


def examined(catalog, number, wanted=lambda clip: True, **config):
    """An examiner and the first clip that is as wanted."""
    world = World(size=48, num_frames=9, num_subjects=number, **{"plain": 0.0} | config)
    examiner = Examiner(catalog, "test", world)
    rng = random.Random(1)
    clip = next(c for c in (compose(rng, catalog, "test", world) for _ in range(200)) if wanted(c))
    return examiner, clip, examiner.draw_candidates(random.Random(0), clip)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_true_frames_are_right_in_everything(held_out, number):
    scores = Examiner.score(*_with_frames(examined(held_out, number, animate=0.0)))
    assert (scores.identity, scores.both, scores.direction, scores.change) == (1, 1, 1, 1)
    assert scores.background == pytest.approx(1)
    assert scores.swapped == scores.merged == (None if number == 1 else 0)


def _with_frames(asked):
    examiner, clip, candidates = asked
    return examiner, clip.frames, clip, candidates


def test_another_clips_video_is_wrong(held_out):
    examiner, clip, candidates = examined(held_out, 2, animate=0.0)
    other = examined(held_out, 2, lambda c: c.actors[0].key not in candidates[:2], animate=0.0)[1]
    scores = examiner.score(other.frames, clip, candidates)
    assert scores.identity < 1
    assert scores.both == 0


def test_exchanged_lanes_are_swapped_and_a_doubled_lane_is_merged(held_out):
    examiner, clip, candidates = examined(held_out, 2, animate=0.0)
    scores = examiner.score(np.roll(clip.frames, 24, axis=1), clip, candidates)
    assert (scores.identity, scores.both, scores.swapped, scores.merged) == (0, 0, 1, 0)
    doubled = clip.frames.copy()
    doubled[:, 24:] = doubled[:, :24]
    scores = examiner.score(doubled, clip, candidates)
    assert (scores.identity, scores.both, scores.swapped, scores.merged) == (0.5, 0, 0, 1)


def test_a_video_played_backwards_goes_the_wrong_way(held_out):
    def goes(clip):
        return clip.actors[0].motion is Motion.LEFT

    examiner, clip, candidates = examined(held_out, 1, goes, animate=0.0)
    scores = examiner.score(clip.frames[::-1], clip, candidates)
    assert (scores.identity, scores.direction, scores.change) == (1, 0, 0)


def test_candidates_are_twenty_and_hold_the_clips_subjects(held_out):
    _, clip, candidates = examined(held_out, 3)
    assert len(set(candidates)) == CANDIDATES
    assert {actor.key for actor in clip.actors} <= set(candidates)
    few = type(held_out)(held_out.cache, held_out.all_subjects[:8], held_out.all_backgrounds)
    with pytest.raises(LabError, match="has 8 identities, 20 are compared"):
        examined(few, 1)


def test_videos_of_another_size_are_refused(held_out):
    examiner, clip, candidates = examined(held_out, 1)
    with pytest.raises(LabError, match="use one size for both"):
        examiner.score(clip.frames[:, :32], clip, candidates)


def test_the_scene_is_compared_away_from_the_subjects(held_out):
    _, clip, _ = examined(held_out, 1)
    hidden = clip.frames.copy()
    hidden[clip.actors[0].masks] = 0
    assert background_similarity(hidden, clip) > 0.97
    assert background_similarity(255 - clip.frames, clip) < -0.97
    plain = examined(held_out, 1, plain=1.0)[1]
    assert background_similarity(plain.frames, plain) is None


def test_the_references_own_pose_is_noticed_when_it_comes_back(held_out):
    def animated(clip):
        return clip.actors[0].key == "drawn/0" and is_moving(clip, clip.actors[0])

    examiner, clip, candidates = examined(held_out, 1, animated, animate=1.0)
    true = examiner.score(clip.frames, clip, candidates)
    assert true.pose == 0  # the reference shows a pose that the clip does not
    cycle = examiner._cycle("drawn/0")
    (shown,) = np.flatnonzero(poses_like(clip.references[0], cycle))
    assert true.pose_chance == pytest.approx(1 / len(cycle))
    pasted = _pasted(clip, cycle[shown])
    assert examiner.score(pasted, clip, candidates).pose == 1


def _pasted(clip, pose):
    pose, frames = fit(pose, 24), []
    for box in clip.actors[0].boxes.astype(int):
        frame = Image.new("RGB", (48, 48), (90, 120, 150))
        frame.paste(pose, (int(box[0]), int(box[1])), pose)
        frames.append(np.asarray(frame))
    return np.stack(frames)


def test_stills_have_no_pose_to_copy(held_out):
    examiner, clip, candidates = examined(held_out, 1, animate=0.0)
    assert examiner.score(clip.frames, clip, candidates).pose is None


def test_a_still_video_does_not_move():
    assert change_displacement(np.full((9, 48, 48, 3), 7, np.uint8)) == (0.0, 0.0)
