from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
from metric_world import case_of, figure, footage_of, place, portrait, stand_ins, walk
from PIL import Image

from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, Score, Skipped, checked
from anyref.evaluation.metrics import metrics_of, small_metrics
from anyref.lab import sources as lab_sources
from anyref.lab.catalog import load_catalog
from anyref.lab.world import World, compose
from anyref.perception import sources
from anyref.request import Request

NEEDED = ("yunet", "dlib-face", "mobilefacenet", "ssd-mobilenet-v2", "isnet", "selfie")
ALSO = ("efficientnet-lite0", "brisque")


def whole_case():
    references = (portrait(figure(2)), portrait(figure(5), place(5)))
    return case_of(*references, (Image.fromarray(place(0)), "background"), prompt="a dog walks")


def test_names_differ_and_nothing_of_another_grade_is_there(tmp_path):
    specs = [metric.spec for metric in small_metrics(tmp_path)]
    assert len({spec.name for spec in specs}) == len(specs)
    assert {spec.grade for spec in specs} == {"small", "exact"}


def test_without_weights_metrics_are_unavailable_and_the_exact_ones_run(tmp_path):
    case = whole_case()
    for metric in small_metrics(tmp_path):
        why_not = metric.applies(case)
        if metric.spec.grade == "exact":
            assert why_not is None
        elif not metric.spec.name.startswith("face"):
            assert why_not.cause == "unavailable"
            assert why_not.reason


def test_metrics_are_sent_to_other_processes():
    again = pickle.loads(pickle.dumps(small_metrics()))
    assert [metric.spec for metric in again] == [metric.spec for metric in small_metrics()]


@pytest.mark.parametrize("frames", [walk(figure(2), figure(5)), [place(0)], walk(None)[:2]])
def test_every_outcome_keeps_the_contract(frames):
    case, footage = whole_case(), footage_of(frames, fps=0)
    before = footage.frames.copy()
    for metric in metrics_of(stand_ins()):
        if metric.applies(case) is None:
            outcome = checked(metric.spec, metric.score(case, footage))
            assert isinstance(outcome, Score) or outcome.reason
    assert (footage.frames == before).all()


def lab_clip(seed, num_subjects):
    """A clip of the cutout world with its case, or skip."""
    missing = [name for name in (*NEEDED, *ALSO) if not sources.is_fetched(name)]
    if missing:
        pytest.skip(f"not fetched: {', '.join(missing)}")
    world = World(size=96, num_frames=5, num_subjects=num_subjects, plain=0.0)
    clip = compose(random.Random(seed), load_catalog(), "train", world)
    return clip, Case(id="1", request=Request(prompt=clip.prompt, references=clip.references))


def scores(metrics, case, frames):
    footage = Footage(np.ascontiguousarray(frames), 8.0, "0")
    outcomes = {
        m.spec.name: m.applies(case) or checked(m.spec, m.score(case, footage)) for m in metrics
    }
    return {name: o for name, o in outcomes.items() if not isinstance(o, Skipped)}


@pytest.mark.slow
def test_the_real_models_tell_a_clip_of_the_cutout_world_from_another():
    clip, case = lab_clip(3, 2)
    other, _ = lab_clip(4, 2)
    metrics = small_metrics()
    right, wrong = (scores(metrics, case, c.frames) for c in (clip, other))
    for name in ("subject_similarity", "background_similarity"):
        assert right[name].value > wrong[name].value + 0.1
    assert right["entanglement"].value < wrong["entanglement"].value
    assert right["copy_paste"].value > wrong["copy_paste"].value  # cut-outs are pasted there
    assert {"imaging_quality", "edge_blur", "motion_smoothness"} <= set(right)


def photograph(name):
    folder = lab_sources.package_folder(lab_sources.SKIMAGE, lab_sources.default_cache())
    path = folder / "skimage/data" / f"{name}.png"
    if not path.is_file() or not all(map(sources.is_fetched, (*NEEDED, *ALSO))):
        pytest.skip("the models or the lab's pictures are not fetched")
    return Image.open(path).convert("RGB")


@pytest.mark.slow
def test_the_real_models_know_the_astronaut_again_mirrored_and_no_cat():
    woman = photograph("astronaut")
    mirrored = np.asarray(woman)[:, ::-1]
    pan = np.stack([mirrored[:, 20 * k : 20 * k + 400] for k in range(2)])
    case = case_of((woman, "human"), prompt="a woman smiles")
    wanted = ("face_similarity", "face_similarity_second", "text_relevance")
    metrics = [metric for metric in small_metrics() if metric.spec.name in wanted]
    found = scores(metrics, case, pan)
    assert found["face_similarity"].value > 0.55
    assert found["face_similarity_second"].value > 0.6
    assert found["text_relevance"].value > 0.6
    cat = np.asarray(photograph("chelsea"))
    faces = scores(metrics[:2], case, np.stack([cat] * 2))
    assert all(score.value < 0.4 for score in faces.values())
