"""Runs at toy size on an NVIDIA GPU, as they are on the CPU."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from anyref.training.monitor import read_rows
from anyref.training.trainer import Trainer

pytestmark = pytest.mark.gpu
FAMILIES = ("magref", "kaleido")


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """accelerate keeps device and precision for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def losses(made):
    """Of every step."""
    trainer = Trainer(made)
    assert {p.device.type for p in trainer.parameters} == {"cuda"}
    trainer.fit()
    trainer.close()
    rows = read_rows(Path(made.run_folder) / "metrics.jsonl")
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_seed_gives_its_losses_again(recipe, tmp_path, family, compiled):
    def run(name, seed):
        engine = {"precision": "bf16", "compile": compiled}
        return losses(recipe(family, engine=engine, seed=seed, folder=str(tmp_path / name)))

    first, again, other = run("first", 0), run("again", 0), run("other", 1)
    assert len(first) == 6
    assert all(map(math.isfinite, first))
    assert again[0] == first[0]
    # atomic additions in backward passes come in any order
    assert again == pytest.approx(first, rel=1e-3)
    assert other != pytest.approx(first, rel=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_loss_is_that_of_the_cpu(recipe, tmp_path, monkeypatch, family):
    on_gpu = losses(recipe(family, steps=1, folder=str(tmp_path / "gpu")))
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    on_cpu = Trainer(recipe(family, steps=1, folder=str(tmp_path / "cpu")))
    on_cpu.fit()
    on_cpu.close()
    rows = read_rows(tmp_path / "cpu" / "metrics.jsonl")
    assert on_gpu[0] == pytest.approx(rows[0]["loss"], rel=2e-3)


def test_a_run_stopped_on_the_gpu_goes_on(recipe, tmp_path):
    engine = {"precision": "bf16"}
    whole = losses(recipe(engine=engine, folder=str(tmp_path / "whole")))
    losses(recipe(engine=engine, folder=str(tmp_path / "parts"), steps=3))
    parts = losses(recipe(engine=engine, folder=str(tmp_path / "parts")))
    assert parts == pytest.approx(whole, rel=1e-3)


def test_a_lora_on_a_base_in_four_bits_learns(recipe, shards):
    pytest.importorskip("bitsandbytes")
    made = recipe(
        model={"dtype": "bf16"},
        engine={"precision": "bf16", "quantize_base": "nf4"},
        lora={"rank": 4},
        optim={"learning_rate": 1e-2, "ema": None},
        steps=40,
        monitor={
            "validate_every": 10,
            "sample_every": 0,
            "validation_shards": [str(shards)],
            "validation_samples": 16,
        },
    )
    trainer = Trainer(made)
    kinds = {type(part).__name__ for part in trainer.pipe.transformer.modules()}
    assert "Linear4bit" in kinds
    assert all("lora_" in n for n, p in trainer.learning.named_parameters() if p.requires_grad)
    trainer.fit()
    trainer.close()
    rows = read_rows(made.run_folder / "metrics.jsonl")
    validation = [row["validation"] for row in rows if "validation" in row]
    assert len(validation) == 4
    assert validation[-1] < validation[0]
    assert (made.run_folder / "lora" / "pytorch_lora_weights.safetensors").is_file()
