"""Adapters that open elsewhere."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from anyref import load_pipeline
from anyref.errors import TrainingError
from anyref.training.trainer import Trainer, run

INPUT = {"hidden_states": (1, 16, 2, 4, 4), "encoder_hidden_states": (1, 8, 16)}


def output(transformer):
    given = {
        name: torch.randn(shape, generator=torch.Generator().manual_seed(1))
        for name, shape in INPUT.items()
    }
    with torch.no_grad():
        return transformer(timestep=torch.ones(1), return_dict=False, **given)[0]


@pytest.mark.parametrize("dora", [False, True])
def test_a_lora_opens_through_load_lora_weights(recipe, dora):
    made = recipe(steps=4, lora={"rank": 2, "dora": dora}, optim={"learning_rate": 1e-2})
    trainer = Trainer(made)
    trainer.fit()
    trainer.close()
    trainer.average.swap()
    expected = output(trainer.pipe.transformer.eval())
    plain = load_pipeline(made.model.base)
    before = output(plain.transformer)
    plain.load_lora_weights(str(made.run_folder / "lora"))
    found = output(plain.transformer)
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, before, atol=1e-4)


def test_only_the_adapter_learns_and_is_saved(recipe):
    made = recipe(steps=2, lora={"rank": 2})
    trainer = Trainer(made)
    names = [n for n, p in trainer.pipe.transformer.named_parameters() if p.requires_grad]
    trainer.fit()
    trainer.close()
    assert names
    assert all("lora_" in name for name in names)
    saved = load_file(made.run_folder / "lora" / "pytorch_lora_weights.safetensors")
    assert len(saved) == len(names)
    assert all(key.startswith("transformer.blocks.") for key in saved)
    notes = sum(f.stat().st_size for f in (made.run_folder / "checkpoints").rglob("*.distcp"))
    assert notes < 2**20


def test_comfyui_finds_the_official_names(recipe):
    made = recipe(steps=2, lora={"rank": 2})
    run(made)
    saved = load_file(made.run_folder / "lora" / "comfyui.safetensors")
    assert "diffusion_model.blocks.0.self_attn.q.lora_A.weight" in saved
    assert "diffusion_model.blocks.1.ffn.0.lora_B.weight" in saved
    assert "diffusion_model.blocks.0.cross_attn.o.lora_A.weight" in saved
    assert len(saved) == len(
        load_file(made.run_folder / "lora" / "pytorch_lora_weights.safetensors")
    )


def test_targets_that_name_no_layer_are_refused(recipe):
    with pytest.raises(TrainingError, match="name no layer"):
        Trainer(recipe(lora={"targets": ["to_nowhere"]}))


@pytest.mark.parametrize("dora", [False, True])
def test_a_lora_with_an_alpha_of_its_own_opens_at_the_same_strength(recipe, dora):
    lora = {"rank": 2, "alpha": 8.0, "dora": dora}
    made = recipe(steps=3, lora=lora, optim={"learning_rate": 1e-2, "ema": None})
    trainer = Trainer(made)
    trainer.fit()
    trainer.close()
    expected = output(trainer.pipe.transformer.eval())
    plain = load_pipeline(made.model.base)
    plain.load_lora_weights(str(made.run_folder / "lora"))
    assert torch.allclose(output(plain.transformer), expected, atol=1e-6)


def test_comfyui_finds_the_magnitudes_of_a_dora(recipe):
    made = recipe(steps=1, lora={"rank": 2, "dora": True})
    run(made)
    saved = load_file(made.run_folder / "lora" / "comfyui.safetensors")
    width = len(saved["diffusion_model.blocks.0.self_attn.q.lora_B.weight"])
    assert saved["diffusion_model.blocks.0.self_attn.q.dora_scale"].shape == (width, 1)
    assert not any("magnitude" in name for name in saved)


def test_a_lora_learns_with_muon(recipe):
    made = recipe(steps=2, lora={"rank": 2}, optim={"name": "muon", "muon_rate": 1e-2})
    run(made)
    saved = load_file(made.run_folder / "lora" / "pytorch_lora_weights.safetensors")
    assert any(tensor.any() for name, tensor in saved.items() if ".lora_B." in name)
