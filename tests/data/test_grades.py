from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest

import stage_models
import tiny_large
from anyref.data import engine, grades
from anyref.data.engine import EngineRecipe, engine_stages, load_recipe
from anyref.data.flow import Chain, start
from anyref.data.grades import GradeSettings, check_models, grade_loader, with_gpus
from anyref.data.record import Video
from anyref.data.sources import Source
from anyref.data.stages import Item, Stage
from anyref.data.subjects import SubjectSettings, subject_stages
from anyref.data.thresholds import Judge
from anyref.errors import DataError
from anyref.perception.contracts import Box, Detection
from anyref.perception.large_captions import QwenCaptioner
from anyref.perception.large_objects import GroundingDino


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The large grade with models of random weights, on the CPU."""
    folder = tmp_path_factory.mktemp("large")
    return GradeSettings(
        name="large",
        qwen=str(tiny_large.save_qwen(folder / "qwen")),
        grounding_dino=str(tiny_large.save_grounding_dino(folder / "dino")),
        sam2=str(tiny_large.save_sam2(folder / "sam2")),
        dinov2=str(tiny_large.save_dinov2(folder / "dinov2")),
        device="cpu",
        dtype="float32",
    )


@pytest.fixture
def fetched(monkeypatch):
    """As if the small models were there."""
    monkeypatch.setattr(grades, "is_fetched", lambda name, cache: True)


def test_the_name_alone_chooses_a_grade():
    assert load_recipe(changes=["grade=large"]).grade == GradeSettings(name="large")
    recipe = load_recipe(changes=["grade=large", "grade.device=cpu", "grade.sam2=/models/sam2"])
    assert recipe.grade == GradeSettings(name="large", device="cpu", sam2="/models/sam2")
    assert EngineRecipe().grade.name == "small"


def test_a_file_may_say_the_name_or_all_of_a_grade(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("grade: large\n")
    assert load_recipe(file, ["grade.gpus=0.5"]).grade == GradeSettings(name="large", gpus=0.5)
    file.write_text("grade: {name: large, qwen: /models/qwen}\n")
    recipe = load_recipe(file)
    assert recipe.grade == GradeSettings(name="large", qwen="/models/qwen")
    file.write_text(recipe.to_yaml())
    assert load_recipe(file) == recipe


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["grade=huge"], r"grade.name: .*'small' or 'large'"),
        (["grade.qwen=null"], "give both or neither"),
        (["grade.aesthetics=head.safetensors"], "stands on clip"),
        (["grade.dtype=int8"], "float32, bfloat16 or float16"),
        (["grade.gpu=1"], "did you mean gpus"),
        (
            ["grade=large", "grade.clip=a", "grade.aesthetics=h"],
            "rules.naturalness.at_most 75 is for the small model",
        ),
    ],
)
def test_a_faulty_grade_is_told_before_anything_is_done(changes, said):
    with pytest.raises(DataError, match=said):
        load_recipe(changes=changes)


def test_stages_with_large_models_ask_for_gpus():
    stages = [Stage(name=name, function=str) for name in ("text", "naturalness", "subjects")]

    def gpus(**given):
        return [stage.gpus for stage in with_gpus(stages, GradeSettings(**given))]

    assert gpus() == gpus(name="large", device="cpu") == [0, 0, 0]
    assert gpus(name="large", gpus=0.5) == [0, 0, 0.5]
    assert gpus(name="large", clip="a", aesthetics="b") == [0, 1, 1]


def test_missing_weights_are_named_with_their_setting_and_the_remedy(fetched, large, tmp_path):
    missing = large.model_copy(update={"sam2": str(tmp_path / "nowhere")})
    (tmp_path / "empty").mkdir()
    missing = missing.model_copy(update={"qwen": str(tmp_path / "empty")})
    with pytest.raises(DataError) as caught:
        check_models(missing)
    said = str(caught.value)
    assert "grade.sam2: model" in said and "nowhere" in said
    assert "grade.qwen" in said and "has no .safetensors" in said
    assert "anyref data fetch --large" in said and "grade.sam2=FOLDER" in said
    assert "grade.dinov2" not in said


def test_a_gpu_that_is_not_there_is_told_unless_others_run_the_stages(fetched, large, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    wants = large.model_copy(update={"device": "cuda"})
    with pytest.raises(DataError, match=r"'cuda' is not available.*grade=small"):
        engine.check_ready(grade=wants)
    engine.check_ready(grade=wants, here=False)
    engine.check_ready(grade=large)


def test_a_grade_needs_only_the_small_models_it_has_left():
    assert "ssd-mobilenet-v2" in grades.needed_models()
    left = grades.needed_models(GradeSettings(name="large"))
    assert "ssd-mobilenet-v2" not in left and "efficientnet-lite0" not in left
    assert {"isnet", "yunet"} <= set(left)


def test_the_engine_hands_the_grade_to_its_stages(monkeypatch):
    given = []
    for name in ("clip_stages", "quality_stages", "subject_stages"):
        monkeypatch.setattr(engine, name, lambda settings, load: given.append(load) or [])
    engine_stages(load_recipe(changes=["grade=large", "grade.device=cuda:1"]))
    made = [pickle.loads(pickle.dumps(load))() for load in given]
    assert [type(grade.objects) for grade in made] == [GroundingDino] * 3
    assert {grade.captioner.device for grade in made} == {"cuda:1"}


def test_a_clip_becomes_a_record_with_large_models(large, monkeypatch, tmp_path):
    """All networks run; what random weights cannot say is said for two of them."""
    answer = json.dumps({"caption": "The red dog walks on.", "subjects": ["the red dog"]})
    boxes = GroundingDino._read

    def read(model, question, scores, places, height, width):
        boxes(model, question, scores, places, height, width)
        box = Box(0, 20, width, height - 20)
        return [Detection(box=box, label=phrase, score=0.9) for phrase in question.phrases]

    monkeypatch.setattr(QwenCaptioner, "answer", asked(answer))
    monkeypatch.setattr(GroundingDino, "_read", read)
    stages = subject_stages(SubjectSettings(), lambda: with_small_faces(large))
    frames = stage_models.walking()
    video = Video(end=24, fps=16, num_frames=24, width=200, height=120)
    source = Source.of("film.mp4")
    held = {"frames": frames, "frame_numbers": tuple(range(0, 24, 4)), "video": video}
    bundle = start(source)
    (entry,) = bundle.entries
    item = Item(id="clip-1", source=source, payload=held)
    bundle = replace(bundle, entries=(replace(entry, item=item),))
    (done,) = Chain(stages, Judge((), ()), tmp_path).advance([bundle])
    (entry,) = done.entries
    assert entry.rejection is None
    sample = entry.item.record
    assert sample.captions[0].text == "The red dog walks on."
    assert sample.captions[0].model == "qwen/local"
    assert len(sample.captions[0].sha) == 64
    assert entry.item.payload["clip-features"].path.stat().st_size == 128 + 16 * 4


def asked(answer):
    """The captioner's network runs as ever, its random words are thrown away."""
    real = QwenCaptioner.answer

    def say(model, talks, clips):
        model.max_tokens = 2
        assert len(real(model, talks, clips)) == len(clips)
        return [answer] * len(clips)

    return say


def with_small_faces(settings):
    return replace(
        grade_loader(None, settings)(),
        faces=stage_models.Faces(),
        face_embedders=(stage_models.FaceEmbedder(),),
    )
