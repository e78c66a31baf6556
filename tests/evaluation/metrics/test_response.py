"""The main directions on clips of photographs and cut-outs, by the real models where they are here.

The whole table, on real footage too, is made by benchmarks/metric_response.py (docs/metrics.md).
"""

from __future__ import annotations

import io
import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from anyref.errors import LabError
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, Score
from anyref.evaluation.metrics.motion import (
    FirstFrameFlash,
    Flicker,
    FrozenFrames,
    MotionAmplitude,
    MotionSmoothness,
)
from anyref.evaluation.metrics.quality import EdgeBlur, ImagingQuality
from anyref.evaluation.metrics.subject import Entanglement, SubjectSimilarity
from anyref.lab.catalog import load_catalog
from anyref.lab.world import World, compose
from anyref.perception import sources
from anyref.perception.small import small_grade
from anyref.request import Request

CLIPS = 3


@pytest.fixture(scope="module")
def clips():
    """Clips in which a subject moves before a photograph, of one subject and of two."""
    try:
        catalog = load_catalog()
    except LabError:
        pytest.skip("the cutout world's packages are not fetched")
    found = []
    for seed in range(40):
        world = World(size=96, num_frames=9, num_subjects=2, plain=0.0, animate=0.0)
        clip = compose(random.Random(f"response/{seed}"), catalog, "test", world)
        if all(actor.motion.value != "stay" for actor in clip.actors):
            found.append(clip)
        if len(found) == CLIPS:
            return found
    raise AssertionError("no clips that move")


def values(metrics, clip, frames):
    """Scores by metric, of a clip with these frames in place of its own."""
    case = Case(id="1", request=Request(prompt=clip.prompt, references=clip.references))
    footage = Footage(np.ascontiguousarray(frames), 8.0, "0")
    outcomes = {metric.spec: metric.score(case, footage) for metric in metrics}
    return {
        spec.name: outcome.value * (1 if spec.direction == "higher" else -1)
        for spec, outcome in outcomes.items()
        if isinstance(outcome, Score)
    }


def is_seen(metric, clips, change):
    """Whether the best of the changed clips is worse than the worst as it is: an AUC of 1."""
    name = metric.spec.name
    before = [values([metric], clip, clip.frames)[name] for clip in clips]
    after = [values([metric], clip, change(clip.frames))[name] for clip in clips]
    return min(before) > max(after)


def each(change):
    return lambda frames: np.stack([np.asarray(change(Image.fromarray(f))) for f in frames])


def jpeg(picture):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=8)
    return Image.open(file)


def noisy(frames):
    grain = np.random.default_rng(0).normal(0, 20, frames.shape)
    return (frames + grain).clip(0, 255).astype(np.uint8)


def shuffled(frames):
    return frames[[4, 0, 7, 2, 8, 5, 1, 6, 3]]


def flickering(frames):
    gains = np.array([1, 0.9] * len(frames))[: len(frames), None, None, None]
    return (frames * gains).astype(np.uint8)


@pytest.mark.parametrize(
    ("metric", "change"),
    [
        (FrozenFrames(), lambda frames: np.repeat(frames[:1], len(frames), 0)),
        (MotionAmplitude(), lambda frames: np.repeat(frames[:1], len(frames), 0)),
        (FrozenFrames(), lambda frames: frames[np.arange(len(frames)) // 2 * 2]),
        (MotionSmoothness(), lambda frames: frames[np.arange(len(frames)) // 2 * 2]),
        (MotionSmoothness(), shuffled),
        (Flicker(), flickering),
    ],
    ids=["frozen", "frozen still", "stutter", "stutter smooth", "shuffled", "flicker"],
)
def test_faults_of_motion_are_seen(clips, metric, change):
    assert is_seen(metric, clips, change)


def test_a_flash_of_the_reference_is_seen(clips):
    for clip in clips:
        flash = np.full_like(clip.frames[:2], 200)
        picture = clip.references[0].images[0].convert("RGB").resize((72, 72))
        flash[:, 12:84, 12:84] = np.asarray(picture)
        flashed = np.concatenate([flash, clip.frames[2:]])
        metric = FirstFrameFlash()
        before, after = (
            values([metric], clip, frames)[metric.spec.name] for frames in (clip.frames, flashed)
        )
        assert before > -0.1 > -0.3 > after


@pytest.mark.parametrize(
    ("change", "metrics"),
    [
        (each(lambda picture: picture.filter(ImageFilter.GaussianBlur(2))), 2),
        (noisy, 1),
        (each(jpeg), 1),
    ],
    ids=["blurred", "noisy", "compressed"],
)
def test_faults_of_frames_are_seen(clips, change, metrics):
    if not sources.is_fetched("brisque"):
        pytest.skip("brisque is not fetched")
    for metric in (ImagingQuality(small_grade()), EdgeBlur())[:metrics]:
        assert is_seen(metric, [replace(clip, frames=clip.frames[:1]) for clip in clips], change)


@pytest.mark.slow
def test_other_subjects_and_blends_are_seen_by_the_real_models(clips):
    needed = ("yunet", "ssd-mobilenet-v2", "isnet", "selfie", "efficientnet-lite0")
    if not all(map(sources.is_fetched, needed)):
        pytest.skip("the models are not fetched")
    models = small_grade()
    metrics = (SubjectSimilarity(models), Entanglement(models))
    for clip, other in zip(clips, (*clips[1:], clips[0]), strict=True):
        frames = clip.frames[[0, -1]]
        upper, lower = np.split(frames, 2, axis=1)
        blend = ((upper.astype(np.int16) + lower) // 2).astype(np.uint8)
        right = values(metrics, clip, frames)
        wrong = values(metrics, clip, other.frames[[0, -1]])
        blended = values(metrics, clip, np.concatenate([blend, blend], axis=1))
        twice = values(metrics, clip, np.concatenate([upper, upper], axis=1))
        for worse in (wrong, blended, twice):
            assert right["subject_similarity"] > worse["subject_similarity"] + 0.08
            assert right["entanglement"] > worse["entanglement"] + 0.08
