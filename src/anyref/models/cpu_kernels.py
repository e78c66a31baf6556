"""Linear layers and attention by oneDNN, where PyTorch's own BLAS holds a CPU back.

MKL, which PyTorch's CPU wheels call for float32, uses AVX-512 on Intel's processors only; oneDNN,
which they hold as well, uses it on AMD's too, at 2.1 to 2.4 times the speed (docs/speed.md). The
sums are added up in another order, so results differ in the last bits (about 1e-7 of a layer's
output). Everywhere else the functions here are PyTorch's own.

Axes: B batch, N queries, L keys, H heads, D channels of a head.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers.models.activations import GELU
from diffusers.models.attention import FeedForward
from diffusers.models.attention_dispatch import _templated_context_parallel_attention
from torch import Tensor, nn

MIN_VALUES = 2**16  # of a sequence, below which a call costs more than it saves
BLOCK_CELLS = 300_000  # of an attention matrix at a time, float32: about the cache of one core


@cache
def has_faster_kernels() -> bool:
    """True on an AMD processor with AVX-512 under a PyTorch that computes with MKL."""
    capable = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    if not (capable and torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    info = Path("/proc/cpuinfo")
    if platform.system() != "Linux" or not info.is_file():
        return False
    if "AuthenticAMD" not in info.read_text(encoding="ascii", errors="replace"):
        return False
    return hasattr(torch.ops.mkldnn, "_linear_pointwise")


def pays(num_tokens: int, width: int) -> bool:
    """True for a sequence long enough; decided on the whole one, so that any split computes alike.

    Args:
        num_tokens: of the sequence over all processes. width: channels of a token.
    """
    return num_tokens * width >= MIN_VALUES


def applies(x: Tensor) -> bool:
    """True when the kernels here can take x: float32 on the CPU, without gradients."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_grad_enabled()


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """What `layer` makes of x: by oneDNN for a plain linear layer, by itself for any other."""
    if not _is_plain(layer, x):
        return layer(x)
    plain: Any = layer
    return _pointwise(x, plain.weight, plain.bias, "none", "")


def _is_plain(layer: nn.Module, x: Tensor) -> bool:
    """True for a stock linear layer that nothing has been put before, behind or in place of."""
    hooks = layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
    return type(layer) is nn.Linear and not hooks and layer.weight.dtype == x.dtype


def feed_forward(module: FeedForward, x: Tensor) -> Tensor:
    """A block's feed-forward network; its first layer and GELU are one kernel."""
    first, rest = module.net[0], list(module.net)
    if type(first) is GELU and first.approximate == "tanh" and _is_plain(first.proj, x):
        x = _pointwise(x, first.proj.weight, first.proj.bias, "gelu", "tanh")
        rest = rest[1:]
    for layer in rest:
        x = linear(layer, x)
    return x


def attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """softmax(query key^T scale) value, a head and a block of queries at a time.

    Args:
        query: (B, N, H, D). key, value: (B, L, H, D).

    Returns:
        (B, N, H, D).
    """
    batch, count, heads, _ = query.shape
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    rows = max(32, BLOCK_CELLS // key.shape[1])
    for b in range(batch):
        for h in range(heads):
            own = query[b, :, h].contiguous()  # (N, D)
            keys = key[b, :, h] * scale  # (L, D)
            values = value[b, :, h].t().contiguous()  # (D, L)
            for first in range(0, count, rows):
                logits = _pointwise(own[first : first + rows], keys, None, "none", "")
                weights = torch.softmax(logits, dim=-1)  # (rows, L)
                out[b, first : first + rows, h] = _pointwise(weights, values, None, "none", "")
    return out


def split_attention(query: Tensor, key: Tensor, value: Tensor, scale: float, config: Any) -> Tensor:
    """`attention` of a sequence that Ulysses splits over processes: each has some of the heads.

    Args:
        query, key, value: (B, n, H, D), this process's tokens. config: diffusers' ParallelConfig.
    """
    return _templated_context_parallel_attention(
        query, key, value, scale=scale, forward_op=_whole_sequence, backward_op=None,
        _parallel_config=config,
    )  # fmt: skip


def _whole_sequence(
    _context: Any, query: Tensor, key: Tensor, value: Tensor, *options: Any, **_: Any
) -> Tensor:
    """Arguments as diffusers gives them: mask, dropout, causal and scale come first."""
    return attention(query, key, value, options[3])


def splits_by_heads(config: Any) -> bool:
    """True when a sequence is split the way that `split_attention` can follow."""
    return config.context_parallel_config.ring_degree == 1


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, what: str, how: str) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, what, [], how)
