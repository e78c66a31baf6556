from __future__ import annotations

import pickle
from dataclasses import fields
from functools import partial

from anyref.perception.large import LargeSources, large_grade
from anyref.perception.large_embeddings import ClipAesthetics
from anyref.perception.large_masks import Sam2
from anyref.perception.large_objects import GroundingDino
from anyref.perception.masks import IsNet
from anyref.perception.small import small_grade


def roles(grade):
    return {field.name: type(getattr(grade, field.name)).__name__ for field in fields(grade)}


def test_roles_without_a_large_model_keep_the_small_one(tmp_path):
    small, large = roles(small_grade(tmp_path)), roles(large_grade(cache=tmp_path))
    changed = {name for name in small if small[name] != large[name]}
    assert changed == {"objects", "masks", "captioner", "picture_texts"}
    embedders = large_grade(cache=tmp_path).picture_embedders
    assert [type(one).__name__ for one in embedders] == ["DinoV2", "ClipPictures"]


def test_a_grade_is_made_without_loading_and_its_maker_travels_to_workers(tmp_path):
    load = partial(large_grade, LargeSources(sam2=tmp_path / "absent"), tmp_path, device="cpu")
    grade = pickle.loads(pickle.dumps(load))()
    assert isinstance(grade.masks, Sam2)
    assert isinstance(grade.masks.whole, IsNet)
    assert isinstance(grade.objects, GroundingDino)
    assert "network" not in vars(grade.objects)


def test_sources_left_out_leave_the_small_grade(tmp_path):
    nothing = LargeSources(grounding_dino=None, sam2=None, clip=None, dinov2=None, qwen=None)
    assert roles(large_grade(nothing, tmp_path)) == roles(small_grade(tmp_path))


def test_an_aesthetic_head_takes_the_place_of_the_quality_model(tmp_path):
    grade = large_grade(LargeSources(aesthetics=tmp_path / "head.safetensors"), tmp_path)
    assert isinstance(grade.quality, ClipAesthetics)
    assert grade.quality.higher_is_better


def test_one_type_of_numbers_may_be_asked_of_all_models(tmp_path):
    own = large_grade(cache=tmp_path)
    assert (own.captioner.dtype, own.objects.dtype) == ("bfloat16", "float32")
    half = large_grade(cache=tmp_path, dtype="float16")
    models = (half.captioner, half.objects, half.masks, *half.picture_embedders)
    assert {model.dtype for model in models} == {"float16"}
