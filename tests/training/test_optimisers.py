from __future__ import annotations

import pytest
import torch
from torch import nn

from anyref.errors import TrainingError
from anyref.training.optimisers import Schedule, WeightAverage, make_optimisers, rate_at
from anyref.training.recipe import OptimSection


def test_warm_up_rises_and_cool_down_falls_to_zero():
    options = OptimSection(warmup=10, cooldown=0.2)
    rates = [rate_at(step, 100, options) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.05)


def test_cosine_restarts_every_period():
    options = OptimSection(schedule="cosine_restarts", restart_every=10)
    rates = [rate_at(step, 100, options) for step in range(30)]
    assert rates[0] == rates[10] == rates[20] == 1.0
    assert rates[5] == pytest.approx(0.5)
    assert rates[9] < 0.05


def test_a_linear_schedule_ends_at_zero():
    options = OptimSection(schedule="linear")
    assert rate_at(50, 100, options) == pytest.approx(0.5)
    assert rate_at(100, 100, options) == 0.0


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4)])
        self.out = nn.Linear(4, 2)


def test_muon_takes_the_matrices_of_blocks_and_adamw_the_rest():
    toy = Toy()
    options = OptimSection(name="muon", muon_rate=0.02)
    adamw, muon = make_optimisers(toy.named_parameters(), options)
    assert [p.shape for p in muon.param_groups[0]["params"]] == [toy.blocks[0].weight.shape]
    assert len(adamw.param_groups[0]["params"]) == 3
    schedule = Schedule([adamw, muon], 10, OptimSection(warmup=2))
    schedule.set(0)
    assert adamw.param_groups[0]["lr"] == pytest.approx(0.5e-4)
    assert muon.param_groups[0]["lr"] == pytest.approx(0.01)


def test_frozen_weights_are_left_out():
    toy = Toy()
    toy.out.requires_grad_(False)
    (adamw,) = make_optimisers(toy.named_parameters(), OptimSection())
    assert len(adamw.param_groups[0]["params"]) == 2


def test_the_eight_bit_optimiser_says_what_it_needs(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(TrainingError, match="bitsandbytes"):
        make_optimisers(Toy().named_parameters(), OptimSection(name="adamw8bit"))


def test_the_average_follows_the_weights_and_swaps_both_ways():
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
    average = WeightAverage({"weight": layer.weight}, decay=0.5)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    average.update(100)
    assert average.values["weight"].eq(0.5).all()
    average.swap()
    assert layer.weight.eq(0.5).all()
    average.swap()
    assert layer.weight.eq(1.0).all()
    assert average.values["weight"].eq(0.5).all()


def test_the_schedule_still_acts_after_a_state_is_loaded():
    toy = Toy()
    options = OptimSection(learning_rate=1e-3, warmup=10)
    (adamw,) = make_optimisers(toy.named_parameters(), options)
    schedule = Schedule([adamw], 100, options)
    schedule.set(0)
    adamw.load_state_dict(adamw.state_dict())
    assert schedule.set(4) == adamw.param_groups[0]["lr"] == pytest.approx(5e-4)


def test_muon_alone_takes_all_where_everything_is_a_matrix_of_a_block():
    toy = Toy()
    toy.blocks[0].bias.requires_grad_(False)
    toy.out.requires_grad_(False)
    (muon,) = make_optimisers(toy.named_parameters(), OptimSection(name="muon", muon_rate=0.02))
    assert isinstance(muon, torch.optim.Muon)
