"""Runs at toy size: resumed and broken ones."""

from __future__ import annotations

import json

import pytest
import torch

from anyref.errors import TrainingError
from anyref.media import read_video
from anyref.training import checkpoint
from anyref.training.checkpoint import sole_run
from anyref.training.monitor import Monitor, read_rows
from anyref.training.trainer import Trainer, run
from runs import curve

FAMILIES = ("magref", "kaleido")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_learns_and_leaves_a_pipeline_that_loads(recipe, family):
    from anyref import load_pipeline

    made = recipe(family, steps=40, optim={"learning_rate": 1e-2})
    run(made)
    losses = list(curve(made.run_folder).values())
    assert len(losses) == 40
    assert sum(losses[-8:]) < sum(losses[:8])
    trained = load_pipeline(made.run_folder / "model")
    base = load_pipeline(made.model.base)
    names = [name for name, _ in trained.transformer.named_parameters()]
    changed = [
        name
        for name in names
        if not torch.equal(
            trained.transformer.get_parameter(name), base.transformer.get_parameter(name)
        )
    ]
    assert len(changed) > 0.9 * len(names)
    assert all(
        torch.equal(a, b)
        for a, b in zip(trained.vae.parameters(), base.vae.parameters(), strict=True)
    )


@pytest.mark.parametrize("train", [["transformer"], ["transformer", "text_encoder"]])
def test_a_stopped_run_goes_on_to_the_bit(recipe, bases, tmp_path, train):
    text_encoder = json.loads((bases / "kaleido" / "text_encoder" / "config.json").read_text())
    assert text_encoder["dropout_rate"] > 0
    options = {"steps": 7, "model": {"train": train}}
    options["optim"] = {"warmup": 5, "cooldown": 0.3}
    whole = recipe(folder=str(tmp_path / "whole"), **options)
    run(whole)
    parts = recipe(folder=str(tmp_path / "parts"), **options)
    first = Trainer(parts)
    for _ in range(3):
        first._advance()
    first.save()
    first._advance()  # lost, as by a kill
    first.close()
    run(parts)
    resumed = curve(parts.run_folder)
    assert list(resumed) == [4, 5, 6, 7]
    expected = curve(whole.run_folder)
    assert {step: expected[step] for step in resumed} == resumed


def test_rows_past_the_checkpoint_are_written_anew(recipe):
    made = recipe(steps=3)
    run(made)
    metrics = made.run_folder / "metrics.jsonl"
    with metrics.open("a") as file:
        file.write(json.dumps({"step": 4, "loss": 99.0}) + '\n{"step": 5, "lo')
    longer = recipe(steps=5)
    run(longer)
    rows = curve(longer.run_folder)
    assert list(rows) == [1, 2, 3, 4, 5]
    assert rows[4] != 99.0


def test_the_run_folder_says_what_it_was(recipe):
    made = recipe(steps=2)
    run(made)
    about = json.loads((made.run_folder / "run.json").read_text())
    assert about["seed"] == made.seed
    assert about["samples"] == 24
    assert len(about["data_fingerprint"]) == 64
    assert {"anyref", "torch", "diffusers"} <= set(about)
    assert "learning_rate: 0.001" in (made.run_folder / "recipe.yaml").read_text()
    assert any((made.run_folder / "tensorboard").iterdir())


def test_other_shards_than_before_are_refused(recipe, make_sample, tmp_path):
    from anyref.data.shards import ShardWriter

    run(recipe(steps=2))
    with ShardWriter(tmp_path / "other") as writer:
        for index in range(8):
            writer.write(make_sample(index))
    with pytest.raises(TrainingError, match="other shards"):
        Trainer(recipe(steps=4, data={"shards": [str(tmp_path / "other")]}))


def test_a_loss_that_is_no_number_is_reported_with_its_records_and_skipped(recipe, monkeypatch):
    made = recipe(steps=4)
    trainer = Trainer(made)
    sound = trainer._losses

    def broken(step, batch, sigmas):
        losses = sound(step, batch, sigmas)
        return losses * float("nan") if step == 1 else losses

    monkeypatch.setattr(trainer, "_losses", broken)
    before = [p.detach().clone() for p in trainer.parameters]
    trainer.fit()
    trainer.close()
    (row,) = read_rows(made.run_folder / "skipped.jsonl")
    assert row["step"] == 1
    assert len(row["records"]) == 4
    assert all(name.startswith("clip") for name in row["records"])
    assert all(torch.isfinite(p).all() for p in trainer.parameters)
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.parameters, strict=True))


def test_a_run_stops_at_a_bad_step_when_told_to(recipe, monkeypatch):
    trainer = Trainer(recipe(steps=4, on_nonfinite="stop"))
    sound = trainer._losses
    monkeypatch.setattr(trainer, "_losses", lambda *given: sound(*given) * float("inf"))
    with pytest.raises(TrainingError, match=r"step 0: loss inf.*clip"):
        trainer.fit()
    trainer.close()


def test_a_spike_is_skipped(recipe, monkeypatch):
    made = recipe(steps=24, spike=50.0)
    trainer = Trainer(made)
    sound = trainer._losses
    monkeypatch.setattr(
        trainer,
        "_losses",
        lambda step, batch, sigmas: sound(step, batch, sigmas) * (1e4 if step == 22 else 1.0),
    )
    trainer.fit()
    trainer.close()
    (row,) = read_rows(made.run_folder / "skipped.jsonl")
    assert row["step"] == 22
    assert "gradient norm" in row["reason"]


def test_a_full_disk_is_an_error_and_the_last_checkpoint_stays(recipe, monkeypatch):
    made = recipe(steps=6)
    trainer = Trainer(made)
    whole = checkpoint.state_dict_saver.save

    def fails(*given, **options):
        if trainer.step > 3:
            raise OSError(28, "No space left on device")
        return whole(*given, **options)

    monkeypatch.setattr(checkpoint.state_dict_saver, "save", fails)
    with pytest.raises(TrainingError, match=r"No space left.*step-00000003"):
        trainer.fit()
    trainer.close()
    kept = sorted(path.name for path in (made.run_folder / "checkpoints").iterdir())
    assert kept == ["step-00000003"]
    monkeypatch.undo()
    run(made)
    assert list(curve(made.run_folder)) == [1, 2, 3, 4, 5, 6]


def test_accumulated_micro_steps_give_the_same_curve(recipe, tmp_path):
    run(recipe(steps=4, folder=str(tmp_path / "one")))
    run(recipe(steps=4, folder=str(tmp_path / "two"), engine={"accumulation": 2}))
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert one == pytest.approx(two, rel=1e-5)


def test_gradient_checkpointing_changes_no_loss(recipe, tmp_path):
    run(recipe(steps=3, folder=str(tmp_path / "one")))
    run(recipe(steps=3, folder=str(tmp_path / "two"), engine={"gradient_checkpointing": True}))
    assert curve(tmp_path / "one") == pytest.approx(curve(tmp_path / "two"), rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_validation_and_samples_are_written(recipe, shards, family):
    monitor = {
        "validate_every": 2,
        "sample_every": 4,
        "samples": 1,
        "validation_samples": 4,
        "validation_shards": [str(shards)],
    }
    made = recipe(family, steps=4, monitor=monitor)
    run(made)
    rows = [row for row in read_rows(made.run_folder / "metrics.jsonl") if "validation" in row]
    assert [row["step"] for row in rows] == [2, 4]
    assert (made.run_folder / "samples" / "step-00000004-0.mp4").stat().st_size > 0
    assert (made.run_folder / "samples" / "step-00000004-0.png").stat().st_size > 0


def test_disentanglement_changes_the_loss_of_magref_and_is_refused_for_kaleido(recipe, tmp_path):
    run(recipe("magref", steps=2, folder=str(tmp_path / "without")))
    with_it = {"objective": {"disentangle": {"alpha": 2.0}}}
    run(recipe("magref", steps=2, folder=str(tmp_path / "with"), **with_it))
    assert curve(tmp_path / "without")[1] != curve(tmp_path / "with")[1]
    with pytest.raises(TrainingError, match="no effect on a KaleidoPipeline"):
        Trainer(recipe("kaleido", **with_it))


def test_held_out_losses_are_those_of_the_objective_with_disentanglement(recipe, shards, tmp_path):
    monitor = {"validate_every": 1, "validation_shards": [str(shards)], "samples": 1}
    held_out = set()
    for alpha in (0.0, 2.0):
        made = recipe(
            "magref",
            steps=1,
            folder=str(tmp_path / str(alpha)),
            monitor=monitor | {"sample_every": 1},
            objective={"disentangle": {"alpha": alpha}},
            optim={"learning_rate": 1e-12},
        )
        run(made)
        rows = read_rows(made.run_folder / "metrics.jsonl")
        held_out |= {row["validation"] for row in rows if "validation" in row}
    assert len(held_out) == 2


def test_samples_have_the_size_that_is_trained_on(recipe, shards):
    monitor = {"validate_every": 0, "sample_every": 1, "samples": 1}
    data = {"height": 16, "width": 48, "num_frames": 5}
    made = recipe(steps=1, data=data, monitor=monitor | {"validation_shards": [str(shards)]})
    run(made)
    frames, _ = read_video(made.run_folder / "samples" / "step-00000001-0.mp4")
    assert frames.shape[:3] == (5, 16, 48)


def test_a_second_run_in_a_folder_at_work_is_refused(recipe):
    made = recipe(steps=1)
    with sole_run(made.run_folder), pytest.raises(TrainingError, match="another run is at work"):
        run(made)
    run(made)
    assert len(curve(made.run_folder)) == 1


def test_a_dropped_caption_names_nobody(recipe, tmp_path):
    options = {"steps": 1, "data": {"text_dropout": 1.0}}
    run(recipe("magref", folder=str(tmp_path / "without"), **options))
    with_it = {"disentangle": {"alpha": 2.0}}
    run(recipe("magref", folder=str(tmp_path / "with"), objective=with_it, **options))
    assert curve(tmp_path / "without") == curve(tmp_path / "with")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_reference_of_a_sample_changes_its_loss(recipe, make_sample, tmp_path, family):
    """What the released training code drops: references 2 to n."""
    from dataclasses import replace

    from anyref.data.shards import ShardWriter

    losses = set()
    for changed in (None, 0, 1, 2):
        sample = make_sample(0)
        pictures = list(sample.references)
        if changed is not None:
            pictures[changed] = make_sample(1).references[changed]
        folder = tmp_path / f"{changed}"
        with ShardWriter(folder / "data") as writer:
            writer.write(replace(sample, references=tuple(pictures)))
        data = {"shards": [str(folder / "data")], "shuffle": False, "text_dropout": 0.0}
        run(recipe(family, steps=1, batch=1, data=data, folder=str(folder / "run")))
        losses |= set(curve(folder / "run").values())
    assert len(losses) == 4


def test_runs_of_other_precisions_follow_each_other_in_one_process(recipe, tmp_path):
    run(recipe(steps=1, folder=str(tmp_path / "one")))
    run(recipe(steps=1, folder=str(tmp_path / "two"), engine={"precision": "bf16"}))
    one, two = curve(tmp_path / "one")[1], curve(tmp_path / "two")[1]
    assert one != two
    assert one == pytest.approx(two, rel=0.02)


def test_a_resumed_run_follows_the_recipe_s_optimiser_settings(recipe):
    run(recipe(steps=2))
    settings = {"learning_rate": 3e-4, "betas": [0.5, 0.6], "weight_decay": 0.2}
    trainer = Trainer(recipe(steps=4, optim=settings))
    assert trainer._advance() == 3e-4
    trainer.close()
    (group,) = trainer.optimisers[0].param_groups
    assert (group["lr"], tuple(group["betas"]), group["weight_decay"]) == (3e-4, (0.5, 0.6), 0.2)
    assert float(trainer.optimisers[0].state[trainer.parameters[0]]["step"]) == 3


def test_minutes_that_end_with_the_last_step_still_leave_the_weights(recipe):
    made = recipe(steps=1, minutes=1e-6)
    run(made)
    assert (made.run_folder / "model" / "model_index.json").is_file()


def test_dropped_references_have_no_region_to_disentangle(recipe, tmp_path):
    options = {"steps": 2, "data": {"reference_dropout": 1.0}}
    run(recipe("magref", folder=str(tmp_path / "without"), **options))
    with_it = {"disentangle": {"alpha": 2.0}}
    run(recipe("magref", folder=str(tmp_path / "with"), objective=with_it, **options))
    assert curve(tmp_path / "without") == curve(tmp_path / "with")


@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_half_precision_weights_train_without_mixed_precision(recipe, lora):
    made = recipe(steps=2, lora=lora, model={"dtype": "bf16"})
    run(made)
    assert len(curve(made.run_folder)) == 2


def test_a_damaged_held_out_sample_is_named_and_the_run_goes_on(recipe, make_sample, tmp_path):
    from anyref.data.shards import ShardWriter

    with ShardWriter(tmp_path / "held_out") as writer:
        for index, references in enumerate((3, 0, 2)):  # one reference is needed
            writer.write(make_sample(index, references=references))
    shards = {"validation_shards": [str(tmp_path / "held_out")]}
    made = recipe(steps=1, monitor={"sample_every": 0, "validate_every": 1, **shards})
    run(made)
    (row,) = read_rows(made.run_folder / "skipped.jsonl")
    assert row["record"] == "clip001"
    assert any("validation" in row for row in read_rows(made.run_folder / "metrics.jsonl"))


def test_samples_are_made_while_nothing_else_uses_the_encoders(recipe, shards, monkeypatch):
    from anyref.training import lookout

    trainer = Trainer(
        recipe(steps=1, monitor={"validate_every": 0, "validation_shards": [str(shards)]})
    )
    held, whole = [], lookout.generate

    def generate(pipe, request):
        held.append(pipe.encoders.locked())
        return whole(pipe, request)

    monkeypatch.setattr(lookout, "generate", generate)
    trainer.fit()
    trainer.close()
    assert held == [True] * 4


def test_a_log_that_cannot_be_written_is_a_clear_error(recipe):
    trainer = Trainer(recipe(steps=1))
    metrics = trainer.recipe.run_folder / "metrics.jsonl"
    metrics.unlink()
    metrics.mkdir()
    with pytest.raises(TrainingError, match=r"metrics.jsonl' cannot be written.*make room"):
        trainer.fit()
    trainer.close()


def test_every_process_names_its_own_damaged_records(recipe):
    made = recipe()
    other = Monitor(made, 0, is_main=False, about={})
    other.skipped(record="clip003", shard="a.tar", reason="damaged")
    other.skipped(step=2, reason="loss nan", records=[])  # all know it, the first writes it
    assert [row["record"] for row in read_rows(made.run_folder / "skipped.jsonl")] == ["clip003"]
