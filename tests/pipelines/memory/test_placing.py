"""Plans carried out: the same video from anywhere, a near one from 8-bit weights."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import tiny
from anyref import Reference, load_pipeline
from anyref.errors import ModelError
from anyref.lora import Lora
from anyref.models.reuse import install
from anyref.models.weights.eight_bit import ScaledLinear
from anyref.pipelines.memory.placing import place
from anyref.pipelines.memory.plan import Plan


@pytest.fixture(scope="module", params=["magref", "kaleido"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "model"
    options = {"clip": True} if request.param == "magref" else {}
    getattr(tiny, request.param)(**options).save_pretrained(path)
    return path


def latents_of(pipe):
    return pipe(
        "a fox",
        references=[tiny.picture()],
        output_type="latent",
        generator=torch.Generator().manual_seed(0),
    ).frames


def distance(found, exact) -> float:
    return float((found - exact).norm() / exact.norm())


@pytest.fixture(scope="module")
def exact(folder):
    return latents_of(load_pipeline(folder))


def held(folder, placement, eight_bit=False, **options):
    plan = Plan(placement=placement, eight_bit=eight_bit)
    return load_pipeline(folder, memory=plan, device="cpu", **options)


@pytest.mark.parametrize("placement", ["device", "parts", "blocks", "disk"])
def test_exact_plans_give_the_same_latents_again_and_again(folder, exact, placement):
    pipe = held(folder, placement)
    assert distance(latents_of(pipe), exact) < 1e-6
    assert distance(latents_of(pipe), exact) < 1e-6


@pytest.mark.parametrize("family", ["magref", "kaleido"])
def test_a_plan_that_keeps_nothing_between_steps_gives_the_same_latents(family):
    pipe, other = (getattr(tiny, family)() for _ in range(2))
    place(other, Plan(keeps=False), "cpu")
    kept = []
    current = install(other.transformer)
    other.transformer.register_forward_hook(lambda *_: kept.append(current.run.memory))
    assert torch.equal(latents_of(other), latents_of(pipe))
    assert set(kept) == {None}


@pytest.mark.parametrize("cache", ["taylorseer:2", "first-block:0.3"])
def test_step_caches_and_strength_act_under_offloading_as_without(folder, cache):
    def made(pipe):
        return pipe(
            "a",
            references=[Reference([tiny.picture()], strength=2.0)],
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
            num_inference_steps=10,
            strength_map="guidance",
            step_cache=cache,
        ).frames

    assert distance(made(held(folder, "disk")), made(load_pipeline(folder))) < 1e-6


@pytest.mark.parametrize("placement", ["device", "blocks", "disk"])
def test_plans_with_8_bit_weights_stay_near(folder, exact, placement):
    pipe = held(folder, placement, eight_bit=True)
    assert 0 < distance(latents_of(pipe), exact) < 0.01
    assert isinstance(pipe.transformer.blocks[0].attn1.to_q, ScaledLinear)


def test_weights_on_disk_leave_memory_and_their_files_go_with_the_pipeline(folder, monkeypatch):
    made = []
    import tempfile

    mkdtemp = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **k: made.append(mkdtemp(**k)) or made[-1])
    pipe = held(folder, "disk")
    files = list(Path(made[0]).rglob("*.safetensors"))
    assert len(files) > len(pipe.transformer.blocks)
    latents_of(pipe)
    del pipe
    gc.collect()
    assert not Path(made[0]).exists()


def test_tiles_change_a_picture_that_is_larger_than_one_only():
    pipe = tiny.kaleido()
    place(pipe, Plan(tiled=True), "cpu")
    assert pipe.vae.use_tiling


def test_a_transformer_in_place_of_the_folders_is_used(folder, tmp_path):
    other = load_pipeline(folder)
    with torch.no_grad():
        other.transformer.proj_out.bias += 1.0
    state = {n: t.contiguous() for n, t in other.transformer.state_dict().items()}
    save_file(state, tmp_path / "other.safetensors")
    pipe = load_pipeline(folder, transformer=tmp_path / "other.safetensors")
    assert distance(latents_of(pipe), latents_of(other)) < 1e-6


def test_a_lora_acts_on_8_bit_weights_as_on_plain_ones(tmp_path):
    folder = tiny.tiny_kaleido_folder(tmp_path / "k")
    generator = torch.Generator().manual_seed(3)
    file, key = tmp_path / "lora.safetensors", "transformer.blocks.0.attn1.to_q"
    save_file(
        {
            f"{key}.lora_A.weight": torch.randn(2, 24, generator=generator),
            f"{key}.lora_B.weight": torch.randn(24, 2, generator=generator),
        },
        file,
    )
    loras, exact = [Lora(file)], latents_of(load_pipeline(folder))
    expected = latents_of(held(folder, "blocks", loras=loras)) - exact
    narrow = latents_of(held(folder, "device", eight_bit=True))
    found = latents_of(held(folder, "blocks", eight_bit=True, loras=loras)) - narrow
    assert expected.norm() > 0
    assert distance(found, expected) < 0.05


def test_what_does_not_fit_says_what_it_would_need(tmp_path):
    folder = tiny.tiny_kaleido_folder(tmp_path / "k")
    with pytest.raises(ModelError, match=r"plan disk.* needs .* GB on cpu"):
        load_pipeline(folder, memory="0.01GB", device="cpu")
