"""Predictions against what the same code takes when it runs with numbers."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

import tiny
from anyref import load_pipeline
from anyref.bench.flops import pass_flops
from anyref.models.kaleido_transformer import KaleidoTransformer3DModel
from anyref.pipelines.decoding import decoded_chunks
from anyref.pipelines.loading import describe_model
from anyref.pipelines.memory import dry_run
from anyref.pipelines.memory.meter import measure
from anyref.pipelines.memory.plan import Plan
from anyref.pipelines.memory.sizes import Form, sizes_of
from anyref.request import LatentShape

CELLS = LatentShape(5, 8, 12)
DEEP = {**tiny.TRANSFORMER, "num_layers": 4}


@pytest.mark.parametrize("keeps", [True, False])
def test_activations_of_a_deep_model_are_told_by_two_shallow_ones(keeps):
    references = ((8, 12), (4, 6))
    config = {**DEEP, "in_channels": 16}
    told = dry_run.steps(
        KaleidoTransformer3DModel,
        config,
        CELLS,
        dtype=torch.float32,
        text_length=512,
        references=references,
        keeps=keeps,
    )
    model = KaleidoTransformer3DModel(**config).eval()
    made = dry_run._conditioning(config, CELLS, torch.float32, 0, references)
    loop = dry_run._Loop(model, made, config, CELLS, torch.float32, 512, True, keeps)
    real = measure(loop, (*model.parameters(), *model.buffers()))
    assert told.peak == pytest.approx(real.peak, rel=0.05)
    assert told.flops == pytest.approx(real.flops / 2)


def test_operations_are_those_of_the_formula_but_for_what_is_not_done_twice():
    config = {**DEEP, "in_channels": 36, "image_dim": 16, "added_kv_proj_dim": 24}
    told = dry_run.steps(
        WanTransformer3DModel,
        config,
        CELLS,
        dtype=torch.float32,
        text_length=512,
        image_tokens=257,
        guided=False,
    )
    formula = pass_flops(config, 5 * 4 * 6, 512, 257)
    context = 769 * 24**2 * 4 * 4  # keys and values of the second step
    assert told.flops == pytest.approx(formula - context / 2, rel=0.05)


def test_the_formula_gives_the_known_count_of_the_14b_shape():
    config = {
        "num_attention_heads": 40,
        "attention_head_dim": 128,
        "ffn_dim": 13824,
        "num_layers": 40,
        "in_channels": 16,
        "out_channels": 16,
        "patch_size": (1, 2, 2),
    }
    assert pass_flops(config, 32_760, 512) == pytest.approx(1.68e15, rel=0.005)


def test_decoding_is_told_from_its_first_chunks():
    vae = tiny.vae()
    config = {k: v for k, v in vae.config.items() if not k.startswith("_")}
    cells = LatentShape(5, 8, 12)
    told = dry_run.decode(config, cells, torch.float32)
    latents = torch.randn(1, 16, 5, 8, 12)

    def run():
        for _ in decoded_chunks(vae, latents):
            pass

    real = measure(run, (*vae.parameters(), *vae.buffers()))
    assert told.peak == pytest.approx(real.peak, rel=0.02)
    assert told.flops == pytest.approx(real.flops, rel=0.2)
    assert isinstance(vae, AutoencoderKLWan)


def test_weights_are_counted_to_the_byte(tmp_path):
    tiny.tiny_magref_folder(tmp_path / "m")
    sizes = sizes_of(describe_model(tmp_path / "m"))
    for plan in (Plan(), Plan(eight_bit=True)):
        pipe = load_pipeline(tmp_path / "m", memory=plan, device="cpu")
        for part in ("transformer", "text_encoder", "vae"):
            module = getattr(pipe, part)
            held = sum(p.numel() * p.element_size() for p in module.parameters())
            assert sizes.parts[part].num_bytes(plan.form(part)) == held, (plan, part)
    transformer = sizes.parts["transformer"]
    assert transformer.largest_block(Form()) * 2 + transformer.outside(Form()) == (
        transformer.num_bytes(Form())
    )
