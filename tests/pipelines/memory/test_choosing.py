"""Which plan a budget gets: exact ones first, on the cards that people own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from anyref.bench.models import bench_sizes
from anyref.errors import ModelError
from anyref.pipelines.memory.choosing import Machine, candidates, choose, with_budget
from anyref.pipelines.memory.dry_run import Strengths
from anyref.pipelines.memory.predict import GIB, Costs, Work, predict
from anyref.request import PixelShape

WORK = Work(PixelShape(81, 480, 832), steps=40)
GPU = Machine("cuda", 141 * GIB, 128 * GIB)


@pytest.fixture(scope="module")
def magref():
    return Costs(bench_sizes("magref-14b"), WORK)


def chosen(costs, asked, machine=GPU):
    return choose(asked, costs, machine)


def test_cards_people_own_get_plans_that_fit_them(magref):
    expected = {"24GB": "blocks", "12GB": "blocks", "8GB": "blocks", "48GB": "parts"}
    for asked, name in expected.items():
        plan, prediction = chosen(magref, asked)
        assert plan.name == name
        assert prediction.peak <= float(asked[:-2]) * GIB
    assert chosen(magref, "auto")[0].name == "full"
    assert chosen(magref, "8GB")[0].exact


def test_what_is_kept_between_steps_is_given_up_before_tiles_and_only_where_it_helps(magref):
    assert chosen(magref, "12GB")[0].keeps
    plan, prediction = chosen(magref, "8GB")
    assert (plan.keeps, plan.tiled) == (False, True)
    kept = predict(magref, replace(plan, keeps=True), True)
    assert kept.peak > 8 * GIB > prediction.peak
    assert prediction.step.flops / kept.step.flops == pytest.approx(1.01, abs=0.005)


def test_a_reference_with_a_pass_of_its_own_costs_half_a_guided_step(magref):
    plan, prediction = chosen(magref, "24GB")
    acting = Strengths((1.0, 3.0), "guidance")
    more = predict(Costs(magref.sizes, replace(WORK, strengths=acting)), plan, True)
    assert more.step.flops == pytest.approx(1.5 * prediction.step.flops, rel=0.02)
    assert 0.1 * GIB < more.step.activations - prediction.step.activations < 0.5 * GIB
    assert more.step.moved == 1.5 * prediction.step.moved
    assert more.encode.flops == prediction.encode.flops


def test_the_released_sizes_of_both_models_fit_the_smallest_card():
    for model, shape in (
        ("magref-14b", PixelShape(81, 480, 832)),
        ("kaleido-14b", PixelShape(81, 512, 896)),
    ):
        plan, _ = chosen(Costs(bench_sizes(model), Work(shape, steps=40)), "8GB")
        assert plan.exact


def test_little_main_memory_means_8_bits_then_files(magref):
    assert chosen(magref, "24GB", replace(GPU, host=32 * GIB))[0].name == "parts-int8"
    assert chosen(magref, "12GB", replace(GPU, host=32 * GIB))[0].name == "blocks-int8"
    assert chosen(magref, "12GB", replace(GPU, host=8 * GIB))[0].name == "disk"


def test_a_plan_by_name_is_taken_whatever_it_needs(magref):
    plan, prediction = chosen(magref, "full", Machine("cuda", 8 * GIB, 8 * GIB))
    assert plan.name == "full"
    assert prediction.peak > 8 * GIB
    assert not plan.tiled
    assert chosen(magref, "blocks", Machine("cuda", 8.75 * GIB))[0].tiled


def test_what_cannot_fit_is_refused_with_the_least_it_needs(magref):
    with pytest.raises(ModelError, match=r"magref-14b does not fit: plan .* GB"):
        chosen(magref, "2GB")


def test_budgets_are_read_in_their_usual_spellings():
    for text in ("12GB", "12gb", "12 GiB", "12", "12.0G"):
        assert with_budget(GPU, text).memory == 12 * GIB
    for text in ("0GB", "-1", "big", ""):
        with pytest.raises(ModelError, match="is not known"):
            with_budget(GPU, text)


def test_float32_weights_that_do_not_fit_run_in_bfloat16_on_an_accelerator_only(magref):
    sizes = magref.sizes
    part = sizes.parts["transformer"]
    wide = tuple(replace(t, dtype=torch.float32, num_bytes=2 * t.num_bytes) for t in part.tensors)
    sizes = replace(sizes, parts={**sizes.parts, "transformer": replace(part, tensors=wide)})
    plans = list(candidates(sizes, GPU))
    assert plans[0].dtype is None
    assert all(plan.dtype is torch.bfloat16 for plan in plans[1:])
    assert all(plan.dtype is None for plan in candidates(sizes, Machine("cpu", 64 * GIB)))


def test_every_plan_that_holds_less_costs_main_memory_or_bits(magref):
    plans = [plan for plan in candidates(magref.sizes, GPU) if not plan.tiled]
    peaks = {plan.name: predict(magref, plan, True).peak for plan in plans}
    assert peaks["full"] > peaks["parts"] > peaks["blocks"] >= peaks["blocks-int8"]
    assert predict(magref, chosen(magref, "disk")[0], True).host < 2 * GIB
