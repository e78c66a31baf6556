"""Model folders: found, described, loaded whole or refused."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

import tiny
from anyref import Reference, Request, generate, load_pipeline
from anyref.errors import ModelError, PromptError, RequestError
from anyref.pipelines.generation import check_request
from anyref.pipelines.loading import SHIPPED, describe_model, model_hash


@pytest.fixture(scope="module", params=["magref", "kaleido"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "model"
    getattr(tiny, request.param)().save_pretrained(path)
    return path


def latents_of(pipe, **options):
    options = {"references": [tiny.picture()], "output_type": "latent"} | options
    return pipe("a fox", generator=torch.Generator().manual_seed(0), **options).frames


def test_a_saved_pipeline_loads_by_every_door_and_gives_the_same(folder):
    pipe = load_pipeline(folder)
    also = DiffusionPipeline.from_pretrained(folder)
    assert type(also) is type(pipe)
    assert torch.equal(latents_of(pipe), latents_of(also))


def test_a_missing_weight_is_refused_by_name(folder, tmp_path):
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    path = broken / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights.pop("blocks.0.attn1.to_q.weight")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"blocks\.0\.attn1\.to_q\.weight"):
        load_pipeline(broken)
    assert model_hash(broken) != model_hash(folder)


def test_a_stored_dtype_is_kept_and_latents_stay_in_float32(folder, tmp_path):
    pipe = load_pipeline(folder, dtype=torch.bfloat16)
    pipe.save_pretrained(tmp_path / "half")
    half = load_pipeline(tmp_path / "half")
    assert half.transformer.dtype == torch.bfloat16
    found, exact = latents_of(half), latents_of(load_pipeline(folder))
    assert found.dtype == torch.float32
    assert (found - exact).norm() / exact.norm() < 0.05


def test_what_a_folder_lacks_is_told_before_loading(folder, tmp_path):
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    index = json.loads((bare / "model_index.json").read_text())
    index["text_encoder"] = [None, None]
    (bare / "model_index.json").write_text(json.dumps(index))
    request = Request(prompt="a @fox", references=(Reference([tiny.picture()], "fox"),))
    with pytest.raises(ModelError, match="no text encoder"):
        check_request(describe_model(bare), request)


def test_unknown_models_name_the_known_ones(tmp_path):
    with pytest.raises(ModelError, match="tiny-magref"):
        load_pipeline("tiny-magre")
    with pytest.raises(ModelError, match="anyref convert"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize("name", list(SHIPPED))
def test_a_shipped_model_makes_a_video_of_its_size(name):
    info = describe_model(name)
    request = Request(
        prompt="a @fox walks to the right",
        references=(Reference([tiny.picture()], "fox"),),
        num_inference_steps=2,
    )
    check_request(info, request)
    frames = generate(load_pipeline(name), request).frames
    assert frames.shape == (17, 96, 96, 3)
    assert info.folder.joinpath("README.md").is_file()


def test_options_without_effect_are_refused():
    request = tiny.request(shuffle=False)
    with pytest.raises(RequestError, match="shuffle"):
        generate(tiny.kaleido(), request)
    with pytest.raises(RequestError, match="layout"):
        generate(tiny.kaleido(), tiny.request(layout="grid"))
    with pytest.raises(RequestError, match="reference_offset"):
        generate(tiny.magref(), tiny.request(reference_offset=80))


def test_positions_past_the_rotary_table_are_refused_before_loading(tmp_path):
    tiny.tiny_kaleido_folder(tmp_path / "k")
    with pytest.raises(RequestError, match="table holds 128"):
        check_request(describe_model(tmp_path / "k"), tiny.request(reference_offset=125))


def test_an_image_branch_needs_its_tokens():
    pipe = tiny.magref(clip=True)
    pipe.image_encoder = None
    with pytest.raises(RequestError, match="no image encoder"):
        latents_of(pipe)
    with pytest.raises(PromptError, match="pad to 512"):
        pipe(prompt_embeds=torch.zeros(1, 64, 16), references=[tiny.picture()])
    with pytest.raises(RequestError, match="without an image branch"):
        latents_of(tiny.magref(), image_embeds=torch.zeros(1, 257, 16))


def test_texts_and_embeddings_exclude_each_other():
    pipe = tiny.kaleido()
    with pytest.raises(PromptError, match="not both"):
        latents_of(pipe, negative_prompt="x", negative_prompt_embeds=torch.zeros(1, 512, 16))
    with pytest.raises(PromptError, match="negative prompt mentions"):
        latents_of(pipe, negative_prompt="no @fox")
    with pytest.raises(PromptError, match="tokens long"):
        pipe("word " * 600, references=[tiny.picture()])


def test_output_type_and_steps_are_checked_first():
    pipe = tiny.kaleido()
    for wrong in ({"output_type": "gif"}, {"num_inference_steps": 0}):
        with pytest.raises(RequestError):
            latents_of(pipe, **wrong)
