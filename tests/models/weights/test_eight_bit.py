"""Weights in 8 bits: how near they stay, and layers that multiply with them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anyref.models.weights.eight_bit import FORMATS, ScaledLinear, quantise, store, widen


def error_of(name: str) -> float:
    weight = torch.randn(256, 1024, generator=torch.Generator().manual_seed(0))
    return float((widen(*quantise(weight, FORMATS[name]), torch.float32) - weight).std())


def test_whole_numbers_stay_nearer_to_normal_weights_than_floats_of_8_bits():
    assert 0.007 < error_of("int8") < 0.010
    assert 0.024 < error_of("fp8") < 0.028


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_layer_multiplies_with_the_weight_that_its_numbers_stand_for(name):
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 8), torch.randn(3, 24)
    numbers, scale = quantise(layer.weight.detach(), FORMATS[name])
    weight, bias = widen(numbers, scale, torch.float32), layer.bias
    store(layer, numbers, scale)
    assert isinstance(layer, ScaledLinear)
    assert layer.weight.element_size() == 1
    with torch.no_grad():
        assert torch.allclose(layer(x), nn.functional.linear(x, weight, bias), atol=1e-6)
        again = layer(x)
    assert torch.equal(again, layer(x)), "the stored numbers must not change"
    assert layer(x.bfloat16()).dtype == torch.bfloat16


def test_rows_of_zeros_stay_zeros():
    numbers, scale = quantise(torch.zeros(4, 8), torch.int8)
    assert torch.equal(widen(numbers, scale, torch.float32), torch.zeros(4, 8))


def test_layers_that_were_widened_by_force_still_scale_a_copy():
    layer = nn.Linear(8, 4, bias=False)
    store(layer, *quantise(layer.weight.detach(), torch.float8_e4m3fn))
    x = torch.randn(2, 8)
    before = layer(x)
    layer.to(torch.float32)
    assert torch.allclose(layer(x), before)
    assert torch.allclose(layer(x), before)
