"""Linear layers whose weights are 8-bit numbers with scales, and how weights become such numbers.

Only storage shrinks: a layer widens its weight to its input's dtype for the moment of its product.
A row is scaled so that its largest number is the format's largest. Whole numbers are then nearer to
the weights than floats of as many bits: a row of normally distributed weights keeps its values to
0.9 % of their spread in int8 and to 2.6 % in float8 (e4m3), measured in the tests.

Axes: O rows (outputs), I columns (inputs).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FORMATS: Mapping[str, torch.dtype] = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
EIGHT_BIT = frozenset({torch.int8, torch.float8_e4m3fn, torch.float8_e5m2})


class ScaledLinear(nn.Linear):
    """`nn.Linear` with an 8-bit `weight` (O, I) and a float32 `weight_scale` (O, 1) or (1, 1)."""

    weight_scale: nn.Parameter

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear calls it so
        """(..., I) to (..., O), in the input's dtype."""
        weight = self.weight.to(input.dtype, copy=True).mul_(self.weight_scale.to(input.dtype))
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(input, weight, bias)


def store(layer: nn.Module, weight: Tensor, scale: Tensor) -> None:
    """Make a linear layer a `ScaledLinear` of these numbers; its bias stays.

    Args:
        weight: (O, I) of an 8-bit dtype. scale: (O, 1) or (1, 1).
    """
    layer.__class__ = ScaledLinear
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.weight_scale = nn.Parameter(scale.float(), requires_grad=False)


def quantise(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """8-bit numbers (O, I) and scales (O, 1) whose product is near a weight (O, I)."""
    whole = dtype is torch.int8
    largest = 127.0 if whole else torch.finfo(dtype).max
    weight = weight.float()
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / largest
    scaled = weight / scale
    return (scaled.round() if whole else scaled).to(dtype), scale


def widen(weight: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The weight that 8-bit numbers and their scale stand for.

    Args:
        weight: of any shape. scale: (O, 1), (1, 1), or None where the numbers stand for themselves.
    """
    if scale is None:
        return weight.to(dtype)
    rows = scale.float().reshape(-1, *([1] * (weight.ndim - 1)))
    return (weight.float() * rows).to(dtype)
