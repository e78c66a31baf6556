"""The training loop: resume, average, rate, failure."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anyref.errors import TrainingError
from anyref.training.loop import Run, Settings, draw_curve, load_average, rate_at
from anyref.training.state import read_metrics


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([nn.Linear(4, 4)])
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(torch.tanh(self.blocks[0](x)))


def settings(**changes):
    defaults = {"steps": 12, "warmup": 2, "save_every": 4, "log_every": 1, "muon_rate": 1e-3}
    return Settings(**defaults | changes)


def loss_of(model):
    def loss(_, generator):
        x = torch.randn(8, 4, generator=generator)
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    return loss


def test_a_resumed_run_gives_the_losses_of_an_unbroken_one(tmp_path):
    whole = Toy()
    Run(whole, settings(), tmp_path / "whole").fit(loss_of(whole))
    first = Toy()
    run = Run(first, settings(), tmp_path / "broken")

    def killed_at_six(step, generator):
        if step == 6:
            raise KeyboardInterrupt
        return loss_of(first)(step, generator)

    with pytest.raises(KeyboardInterrupt):
        run.fit(killed_at_six)
    second = Toy()
    resumed = Run(second, settings(), tmp_path / "broken")
    assert resumed.step == 4
    resumed.fit(loss_of(second))
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    losses = {row["step"]: row["loss"] for row in read_metrics(tmp_path / "broken" / "loss.jsonl")}
    expected = {r["step"]: r["loss"] for r in read_metrics(tmp_path / "whole" / "loss.jsonl")}
    assert losses == expected


def test_saving_shows_the_average_and_training_goes_on_with_the_weights(tmp_path):
    model, seen = Toy(), []
    run = Run(model, settings(ema_decay=0.9), tmp_path)
    run.fit(loss_of(model), lambda state: seen.append(state.model.head.weight.clone()))
    assert not torch.equal(seen[-1], model.head.weight)
    assert torch.equal(seen[-1], run.average.shadow_params[2])
    assert (tmp_path / "loss.png").is_file()


def test_the_average_of_a_run_can_be_loaded_alone(tmp_path):
    run = Run(Toy(), settings(), tmp_path)
    run.fit(loss_of(run.model))
    model = Toy()
    assert load_average(model, tmp_path) == 12
    assert torch.equal(model.head.weight, run.average.shadow_params[2])
    with pytest.raises(TrainingError, match="no training state"):
        load_average(model, tmp_path / "none")


def test_a_loss_that_is_no_number_stops_the_run_and_says_where(tmp_path):
    model = Toy()
    run = Run(model, settings(), tmp_path)
    with pytest.raises(TrainingError, match="step 0 is nan"):
        run.fit(lambda *_: model.head.weight.sum() * float("nan"))


def test_a_damaged_state_is_refused(tmp_path):
    (tmp_path / "state.pt").write_bytes(b"half a file")
    with pytest.raises(TrainingError, match="cannot be read"):
        Run(Toy(), settings(), tmp_path)


def test_the_rate_rises_holds_and_falls_to_zero():
    values = [rate_at(step, settings(steps=100, warmup=10, cooldown=0.2)) for step in range(101)]
    assert values[0] == pytest.approx(0.1)
    assert values[50] == 1.0
    assert values[90] == pytest.approx(0.5)
    assert values[100] == 0.0


def test_minutes_end_a_run_early_and_save_it(tmp_path):
    model = Toy()
    Run(model, settings(minutes=0.0), tmp_path).fit(loss_of(model))
    assert Run(Toy(), settings(), tmp_path).step == 1


def test_a_curve_needs_two_points_and_then_shows_them():
    assert draw_curve([]).getcolors() == [(640 * 320, (255, 255, 255))]
    rows = [{"step": i, "loss": 1 / (i + 1)} for i in range(9)]
    assert (30, 90, 200) in {color for _, color in draw_curve(rows).getcolors(10**6)}
