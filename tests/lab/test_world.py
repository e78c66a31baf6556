from __future__ import annotations

import random

import numpy as np
import pytest

from anyref.errors import LabError
from anyref.lab.captions import Motion
from anyref.lab.catalog import slug
from anyref.lab.world import LANE_MOTIONS, World, compose, sheet, trajectory
from anyref.request import MENTION_PATTERN


def clips(catalog, count, split="train", **config):
    rng = random.Random(0)
    return [compose(rng, catalog, split, World(**config)) for _ in range(count)]


@pytest.mark.parametrize(
    ("motion", "first", "last"),
    [
        (Motion.RIGHT, (0, 24), (32, 24)),
        (Motion.LEFT, (32, 24), (0, 24)),
        (Motion.UP, (16, 32), (16, 0)),
        (Motion.DOWN, (16, 0), (16, 32)),
        (Motion.STAY, (16, 24), (16, 24)),
    ],
)
def test_motions_go_in_steps_of_four_pixels(motion, first, last):
    corners = trajectory(motion, World())
    assert tuple(corners[0]) == first
    assert tuple(corners[-1]) == last
    steps = np.abs(np.diff(corners, axis=0)).max(axis=1)
    assert set(steps) == {0 if motion is Motion.STAY else 4}


def test_two_subjects_keep_to_their_lanes(catalog):
    for clip in clips(catalog, 20, num_subjects=2):
        upper, lower = clip.actors
        assert upper.boxes[:, 3].max() <= 32 <= lower.boxes[:, 1].min()
        assert {upper.motion, lower.motion} <= set(LANE_MOTIONS)
    with pytest.raises(LabError, match="cannot go up"):
        trajectory(Motion.UP, World(), lane=0)


def test_three_subjects_share_the_frame_in_thirds(catalog):
    for clip in clips(catalog, 10, num_subjects=3, size=96, num_frames=17):
        for lane, actor in enumerate(clip.actors):
            assert 32 * lane <= actor.boxes[:, 1].min()
            assert actor.boxes[:, 3].max() <= 32 * (lane + 1)
        assert [r.name for r in clip.references][:3] == [actor.name for actor in clip.actors]


def test_the_same_seed_gives_the_same_clip(catalog):
    one, two = (compose(random.Random(5), catalog, "train") for _ in range(2))
    assert one.prompt == two.prompt
    assert np.array_equal(one.frames, two.frames)
    assert one.references[0].images[0].tobytes() == two.references[0].images[0].tobytes()


def test_prompt_and_references_name_the_same_things_background_last(catalog):
    for clip in clips(catalog, 40, num_subjects=2):
        names = [reference.name for reference in clip.references]
        assert sorted(MENTION_PATTERN.findall(clip.prompt)) == sorted(names)
        assert names[:2] == [actor.name for actor in clip.actors]
        kinds = [reference.kind for reference in clip.references]
        assert kinds == ["object", "object", *(["background"] if clip.background else [])]


def test_boxes_and_masks_are_where_the_subject_is_drawn(catalog):
    for clip in clips(catalog, 20):
        (actor,) = clip.actors
        outside = np.ones(clip.frames.shape[:3], bool)
        for index, box in enumerate(actor.boxes.astype(int)):
            x0, y0, x1, y1 = box
            assert max(x1 - x0, y1 - y0) == 32
            outside[index, y0:y1, x0:x1] = False
        assert actor.masks.any(axis=(1, 2)).all()
        assert not (actor.masks & outside).any()
        # The scene is still: a pixel that no box covers has one colour wherever that holds.
        never = outside.all(axis=0)
        assert (clip.frames[:, never] == clip.frames[0][never]).all()


def test_subjects_are_whole(catalog):
    for clip in clips(catalog, 30, num_subjects=2):
        for actor in clip.actors:
            assert actor.boxes.min() >= 0
            assert actor.boxes.max() <= 64


def test_references_are_not_the_clips_pixels(catalog):
    for clip in clips(catalog, 20, plain=0.0):
        subject, background = (np.asarray(r.images[0]) for r in clip.references)
        assert subject.shape == (64, 64, 4)
        assert background.shape == (64, 64, 3)
        assert not np.array_equal(background, clip.frames[0])
        visible = (subject[..., 3] > 127).nonzero()
        assert 0.8 * 64 <= max(np.ptp(axis) + 1 for axis in visible) <= 64


def test_an_animated_subject_changes_its_pose_but_not_its_frame(catalog):
    moving = next(s for s in catalog.all_subjects if s.animation is not None)
    only = type(catalog)(catalog.cache, (moving,), catalog.all_backgrounds)
    rng = random.Random(0)
    clip = compose(rng, only, moving.split, World(animate=1.0, plain=1.0))
    (actor,) = clip.actors
    sizes = actor.boxes[:, 2:] - actor.boxes[:, :2]
    assert (sizes == sizes[0]).all()
    poses = {
        actor.masks[i][int(b[1]) : int(b[3]), int(b[0]) : int(b[2])].tobytes()
        for i, b in enumerate(actor.boxes)
    }
    assert len(poses) > 1


def test_plain_backgrounds_have_no_reference(catalog):
    (clip,) = clips(catalog, 1, plain=1.0)
    assert clip.background is None
    assert len(clip.references) == 1
    assert clip.frames[0, 0, 0].min() >= 200


def test_splits_do_not_mix(catalog):
    allowed = {s.key for s in catalog.subjects("test")} | {
        b.key for b in catalog.backgrounds("test")
    }
    for clip in clips(catalog, 30, split="test"):
        used = {actor.key for actor in clip.actors} | ({clip.background} - {None})
        assert used <= allowed


def test_other_sizes_keep_the_layout(catalog):
    (clip,) = clips(catalog, 1, size=96, num_frames=5)
    assert clip.frames.shape == (5, 96, 96, 3)
    assert max(clip.actors[0].boxes[0, 2:] - clip.actors[0].boxes[0, :2]) == 48


def test_a_sheet_shows_references_and_frames(catalog):
    (clip,) = clips(catalog, 1, plain=0.0)
    assert sheet(clip).size == (11 * 132, 128)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"size": 70}, "multiple of 16, got 70"),
        ({"num_frames": 1}, "at least 2, got 1"),
        ({"num_subjects": 4}, "1, 2 or 3, got 4"),
    ],
)
def test_worlds_that_cannot_be_drawn_are_refused(config, message):
    with pytest.raises(LabError, match=message):
        World(**config)


def test_too_few_different_subjects_are_an_error(catalog):
    one = type(catalog)(catalog.cache, catalog.all_subjects[:1], catalog.all_backgrounds)
    with pytest.raises(LabError, match="fewer than 2 different subjects"):
        compose(
            random.Random(0), one, catalog.all_subjects[0].split, World(num_subjects=2, plain=1.0)
        )


def test_only_the_cast_appears(catalog):
    subject = catalog.subjects("train")[3]
    for names in ((subject.key,), (slug(subject.name),)):
        made = clips(catalog, 5, cast=names)
        assert {clip.actors[0].key for clip in made} == {subject.key}
    with pytest.raises(LabError, match="0 subjects among nobody"):
        clips(catalog, 1, cast=("nobody",))
