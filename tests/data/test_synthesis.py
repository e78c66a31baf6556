from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from anyref.data.dataset import read_asset, write_asset
from anyref.data.record import Origin, SampleReference
from anyref.data.synthesis import Compositor, Job, Made, Synthesis, SynthesisSettings
from casts import cutout, ground, png

SETTINGS = SynthesisSettings(side=96)


def job(seed=1, picture=None, behind=True):
    return Job(
        cutout=cutout(3) if picture is None else picture,
        ground=ground(5) if behind else None,
        label="fox",
        seed=seed,
    )


@dataclass
class Counting:
    """An image model that paints by seed and counts its jobs."""

    name: str = "painter 1"
    jobs: list = field(default_factory=list)
    fails: bool = False

    def make(self, jobs):
        self.jobs += jobs
        if self.fails:
            return [None for _ in jobs]
        return [Made(picture=ground(one.seed), prompt=f"paint {one.label}") for one in jobs]


def reference(folder, ref_id="1-1", who=3):
    return SampleReference(
        ref_id=ref_id,
        kind="object",
        label="fox",
        entity_id="a-1",
        image=write_asset(folder, png(cutout(who)), "png"),
        origin=Origin(frame=4),
        caption_span=(0, 3),
    )


def test_the_same_job_gives_the_same_picture_and_another_seed_another():
    first, again, other = Compositor(SETTINGS).make([job(), job(), job(seed=2)])
    np.testing.assert_array_equal(first.picture, again.picture)
    assert first.prompt == again.prompt != other.prompt
    assert max(first.picture.shape) == 96


def test_the_subject_stands_on_the_other_ground_in_about_its_colours():
    red = cutout(3)
    red[..., :3] = (200, 30, 30)
    black = np.zeros((60, 60, 3), np.uint8)
    (made,) = Compositor(SETTINGS).make([Job(cutout=red, ground=black, label="fox", seed=4)])
    painted = made.picture[made.picture.max(-1) > 60]
    assert 0.1 < len(painted) / made.picture[..., 0].size < 0.9
    assert abs(np.median(painted[:, 0]) - 200) < 45
    assert np.median(painted[:, 1]) < 70
    assert made.prompt.startswith("fox on the background of another clip, ")


def test_without_a_background_the_ground_is_plain():
    (made,) = Compositor(SETTINGS).make([job(behind=False)])
    assert "on a plain ground" in made.prompt


def test_a_picture_without_transparency_keeps_its_ground():
    face = np.dstack([ground(8), np.full((36, 64), 255, np.uint8)])
    (made,) = Compositor(SETTINGS).make([job(picture=face)])
    assert made.picture.shape == (36, 64, 3)
    assert "ground" not in made.prompt


def test_a_cutout_of_next_to_nothing_gives_no_picture():
    empty = cutout(3) * np.array([1, 1, 1, 0], np.uint8)
    assert Compositor(SETTINGS).make([job(picture=empty)]) == [None]


def test_a_made_reference_says_what_made_it_and_belongs_to_its_subject(tmp_path):
    own = reference(tmp_path)
    behind = write_asset(tmp_path, png(ground(1)), "png")
    (made,) = Synthesis(tmp_path, SETTINGS, None, [("b", behind)]).made("a", [own])
    assert (made.pair_type, made.entity_id, made.label) == ("generated", "a-1", "fox")
    assert made.origin.generator == Compositor(SETTINGS).name
    assert "background of another clip" in made.origin.prompt
    with Image.open(io.BytesIO(read_asset(tmp_path, made.image))) as picture:
        assert max(picture.size) == 96


def test_the_ground_is_never_the_clips_own(tmp_path):
    own = reference(tmp_path)
    mine = write_asset(tmp_path, png(ground(1)), "png")
    (made,) = Synthesis(tmp_path, SETTINGS, None, [("a", mine)]).made("a", [own])
    assert "plain ground" in made.origin.prompt


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_made_or_failed_before_is_not_tried_again(tmp_path, fails):
    own = [reference(tmp_path), reference(tmp_path, "2-1", who=4)]
    first, second = Counting(fails=fails), Counting(fails=fails)
    stopped = Synthesis(tmp_path, SETTINGS, first, [])  # killed: never finished
    made = stopped.made("a", own)
    assert len(made) == (0 if fails else 2)
    assert Synthesis(tmp_path, SETTINGS, second, []).made("a", own) == made
    assert (len(first.jobs), len(second.jobs)) == (2, 0)


def test_a_picture_that_went_missing_is_made_again(tmp_path):
    own = [reference(tmp_path)]
    (made,) = Synthesis(tmp_path, SETTINGS, Counting(), []).made("a", own)
    (tmp_path / made.image.uri).unlink()
    assert Synthesis(tmp_path, SETTINGS, Counting(), []).made("a", own) == [made]
    assert (tmp_path / made.image.uri).exists()


def test_another_model_makes_its_own(tmp_path):
    own = [reference(tmp_path)]
    Synthesis(tmp_path, SETTINGS, Counting(), []).made("a", own)
    other = Counting("painter 2")
    (made,) = Synthesis(tmp_path, SETTINGS, other, []).made("a", own)
    assert len(other.jobs) == 1
    assert made.origin.generator == "painter 2"


def test_the_journal_survives_a_cut_line_and_keeps_only_what_is_in_use(tmp_path):
    synthesis = Synthesis(tmp_path, SETTINGS, Counting(), [])
    synthesis.made("a", [reference(tmp_path)])
    synthesis.made("b", [reference(tmp_path, "2-1")])
    journal = tmp_path / "synthesis.jsonl"
    with journal.open("a") as file:
        file.write('{"key": "ha')
    later = Counting()
    again = Synthesis(tmp_path, SETTINGS, later, [])
    again.made("a", [reference(tmp_path)])
    again.finish()
    assert later.jobs == []
    assert len(journal.read_text().splitlines()) == 1
