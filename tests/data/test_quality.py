from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anyref.data.dataset import StageEntry
from anyref.data.duplicates import LAYOUT
from anyref.data.quality import (
    QUALITY_RULES,
    QualitySettings,
    covered,
    make_naturalness,
    make_safety,
    make_text,
    measure_motion,
    measure_pixels,
    quality_of,
    quality_stages,
    spread_pictures,
)
from anyref.data.record import Video
from anyref.data.sources import Source
from anyref.data.stages import Item, check_stages
from anyref.data.thresholds import Judge
from anyref.perception.contracts import Box, ModelCard, TextLine
from anyref.perception.small import small_grade

pytest.importorskip("cv2")
SETTINGS = QualitySettings()


class Answers:
    """A model that says what it was told to, by a picture's first pixel, and counts its calls."""

    card = ModelCard(name="answers", version="2", sha256="", licence="")
    higher_is_better = False

    def __init__(self, answer=float):
        self.answer, self.calls = answer, []

    def score(self, pictures):
        self.calls.append(len(pictures))
        return [self.answer(picture[0, 0, 0]) for picture in pictures]

    read = score


def line(left, top, right, bottom, text="word", score=0.9):
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    return TextLine(text=text, corners=corners, score=score)


def clip(*levels, size=(40, 80)):
    """An item whose frames have these greys."""
    frames = np.stack([np.full((*size, 3), level, np.uint8) for level in levels])
    rng = np.random.default_rng(0)
    return Item(
        id=f"clip-{levels[0]}",
        source=Source.of("film.mp4"),
        payload={
            "frames": frames,
            "thumbs": rng.integers(0, 255, (6, 90, 160)).astype(np.uint8),
            "video": Video(end=6, fps=16, num_frames=6, width=80, height=40),
        },
    )


def grade(model):
    return lambda: replace(small_grade(), safety=model, quality=model, reader=model)


def test_each_model_has_a_stage_after_the_cheap_ones():
    stages = quality_stages(SETTINGS, grade(Answers()))
    check_stages(stages)
    names = [stage.name for stage in stages]
    assert names == ["pixels", "motion", "safety", "naturalness", "text"]
    assert [(s.tool, s.version, s.batch_size) for s in stages[2:]] == [("answers", "2", 8)] * 3


def test_every_measurement_has_a_rule_and_every_rule_a_measurement():
    stages = quality_stages(SETTINGS, grade(Answers()))
    Judge(QUALITY_RULES, [StageEntry(name=s.name, measures=s.measures) for s in stages])
    ruled = {rule.measurement for rule in QUALITY_RULES}
    assert ruled == {name for stage in stages for name in stage.measures}


def test_cheap_stages_measure_what_they_declare_and_drop_the_thumbs():
    stages = {stage.name: stage for stage in quality_stages(SETTINGS, grade(Answers()))}
    measured = measure_pixels(clip(10, 20, 30))
    assert set(measured.measurements) == set(stages["pixels"].measures)
    moved = measure_motion(measured)
    expected = {*stages["pixels"].measures, *stages["motion"].measures}
    assert set(moved.measurements) == expected
    assert set(moved.payload) == {"frames", "video", LAYOUT}


def test_the_worst_frame_decides_on_safety_in_one_call_for_all_clips():
    model = Answers(lambda level: level / 100)
    items = make_safety(QualitySettings(safety_frames=2), grade(model))(
        [clip(1, 90, 2, 3), clip(4, 5, 6, 7), clip(8)]
    )
    assert [item.measurements["nsfw"] for item in items] == [0.9, 0.07, 0.08]
    assert model.calls == [5]


def test_naturalness_is_the_mean_of_its_frames():
    (item,) = make_naturalness(QualitySettings(natural_frames=2), grade(Answers()))([clip(10, 30)])
    assert item.measurements["naturalness"] == 20


def test_text_that_stays_is_a_watermark_and_text_that_moves_is_not():
    pages = {
        1: (line(0, 0, 40, 20), line(40, 20, 60, 30)),
        2: (line(1, 0, 40, 20),),
        3: (line(0, 0, 40, 19), line(0, 20, 20, 30)),
    }
    model = Answers(lambda level: pages[int(level)])
    (item,) = make_text(SETTINGS, grade(model))([clip(1, 2, 3)])
    assert item.measurements["text_area"] == pytest.approx(0.25 + 200 / 3200, abs=0.01)
    assert item.measurements["watermark_text"] == pytest.approx(0.25, abs=0.01)


def test_one_frame_shows_no_watermark():
    model = Answers(lambda level: (line(0, 0, 40, 20),))
    (item,) = make_text(SETTINGS, grade(model))([clip(1)])
    assert item.measurements == {"text_area": 0.25, "watermark_text": 0}


def test_a_letter_or_two_are_no_text():
    model = Answers(lambda level: (line(0, 0, 40, 20, "C."),))
    (item,) = make_text(SETTINGS, grade(model))([clip(1, 1)])
    assert item.measurements == {"text_area": 0, "watermark_text": 0}


def test_what_is_hardly_read_is_no_text():
    model = Answers(lambda level: (line(0, 0, 40, 20, "PIV", 0.64),))
    (item,) = make_text(SETTINGS, grade(model))([clip(1, 1)])
    assert item.measurements == {"text_area": 0, "watermark_text": 0}


def test_boxes_that_overlap_cover_once():
    whole, half = Box(-5, 0, 90, 40), Box(0, 0, 40, 40)
    assert covered([whole, half], 80, 40) == 1
    assert covered([half, half], 80, 40) == 0.5
    assert covered([], 80, 40) == 0


@pytest.mark.parametrize(
    ("count", "levels"), [(1, [4]), (2, [2, 6]), (3, [1, 4, 6]), (9, range(8))]
)
def test_pictures_are_spread_over_the_clip(count, levels):
    frames = np.arange(8, dtype=np.uint8)[:, None, None, None]
    assert [int(p[0, 0, 0]) for p in spread_pictures(frames, count)] == list(levels)


def test_a_record_is_told_motion_length_and_the_larger_mark():
    quality = quality_of(
        {"motion_amplitude": 0.1, "duration_s": 3, "watermark_edges": 0.2, "watermark_text": 0}
    )
    assert (quality.motion, quality.duration_s, quality.watermark) == (0.1, 3, 0.2)
    assert quality_of({}).watermark is None
