"""Attention of Wan's blocks with what one pass adds to it; the stock one where it adds nothing.

Processors are diffusers' way to change attention without touching a block. They keep the stock
ones' backend and context parallelism, and so `set_attention_backend` and `enable_parallelism` act
on them as before.

Axes: B batch, N tokens, L text tokens, H heads, D channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import (
    _templated_context_parallel_attention,
    dispatch_attention_fn,
)
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor

from anyref.models import cpu_kernels
from anyref.models.passes import AttentionPass, CurrentPass, Pair, running

FIXED_WIDTHS = ("_flash_3", "_native_cudnn", "sage")  # kernels for heads of some widths only
TEXT_TOKENS = 512  # with an image branch, the last tokens of the context (transformer_wan.py)


class _Processor(WanAttnProcessor):
    """What both processors share."""

    def __init__(self, current: CurrentPass, block: int) -> None:
        super().__init__()
        self.current, self.block = current, block

    def _attend(
        self, run: AttentionPass, heads: tuple[Tensor, Tensor, Tensor], scale: float, config: Any
    ) -> Tensor:
        """Attention (B, N, H, D) without a mask."""
        if (
            run.kernels
            and self._attention_backend in (None, "native")
            and cpu_kernels.applies(heads[0])
        ):
            if config is None:
                return cpu_kernels.attention(*heads, scale)
            if cpu_kernels.splits_by_heads(config):
                return cpu_kernels.split_attention(*heads, scale, config)
        if _goes_round(config, heads[0].device):
            return _ring_on_cpu(*heads, scale, config)
        backend = self._attention_backend
        if heads[0].shape[3] ** -0.5 != scale and backend in FIXED_WIDTHS:
            backend = "_native_flash"  # heads widened by a strength's channels
        return dispatch_attention_fn(*heads, scale=scale, backend=backend, parallel_config=config)


def _goes_round(config: Any, device: torch.device) -> bool:
    """True for ring attention on a CPU, whose stock kernel lacks what a ring needs."""
    on_cpu = device.type == "cpu" and config is not None
    return on_cpu and config.context_parallel_config.ring_degree > 1


def _ring_on_cpu(query: Tensor, key: Tensor, value: Tensor, scale: float, config: Any) -> Tensor:
    return _templated_context_parallel_attention(
        query,
        key,
        value,
        scale=scale,
        forward_op=_with_log_sum_exp,
        backward_op=None,
        _parallel_config=config,
    )


def _with_log_sum_exp(
    _context: Any, query: Tensor, key: Tensor, value: Tensor, *options: Any, **_: Any
) -> tuple[Tensor, Tensor]:
    """Attention (B, N, H, D) and the logarithm of its weights' sums (B, N, H).

    Arguments as diffusers gives them: mask, dropout, causal and scale come first.
    """
    heads = (x.transpose(1, 2) for x in (query, key, value))
    out, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*heads, scale=options[3])
    return out.transpose(1, 2), sums.transpose(1, 2)


class SelfAttention(_Processor):
    """Wan's self-attention, biased towards references where the pass says so."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """As the stock processor: (B, N, H * D) to (B, N, H * D)."""
        run, compute = running(self.current), super().__call__
        biased = run is not None and run.bias is not None and run.bias.acts(self.block)
        special = biased or (run is not None and run.kernels)
        special = special or _goes_round(self._parallel_config, hidden_states.device)

        def attended() -> Tensor:
            if run is None or not special:
                return compute(
                    attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb
                )
            return self._computed(run, attn, hidden_states, rotary_emb, biased)

        if run is None or run.memory is None or self.block != 0 or biased:
            return attended()
        with run.memory.turn:
            step, out = run.memory.first or (None, None)
            if out is None or step != run.step:
                out = attended()
                run.memory.first = (run.step, out)
        return out

    def _computed(
        self,
        run: AttentionPass,
        attn: Any,
        x: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        biased: bool,
    ) -> Tensor:
        query, key, value = _projected(run, attn, x)
        if rotary is not None:
            turn = turned if run.kernels and cpu_kernels.applies(query) else rotated
            query, key = turn(query, *rotary), turn(key, *rotary)
        width, heads = query.shape[3], (query, key, value)
        if biased and run.bias is not None:
            heads = run.bias.widen(*heads, self.block)
        out = self._attend(run, heads, width**-0.5, self._parallel_config)
        if biased and run.bias is not None:
            out = run.bias.narrow(out, width, self.block)
        return attn.to_out[1](_linear(run, attn.to_out[0], out.flatten(2, 3).type_as(query)))


class CrossAttention(_Processor):
    """Wan's cross-attention, whose keys and values are computed once per video."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """As the stock processor: (B, N, H * D) and (B, L, D_text) to (B, N, H * D)."""
        run, context = running(self.current), encoder_hidden_states
        if run is None or context is None or not (run.kernels or run.memory is not None):
            return super().__call__(
                attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb
            )
        query = attn.norm_q(_linear(run, attn.to_q, hidden_states)).unflatten(2, (attn.heads, -1))
        scale = query.shape[3] ** -0.5
        parts = [
            self._attend(run, (query, *pair), scale, None).flatten(2, 3).type_as(query)
            for pair in self._pairs(run, attn, context)
        ]
        out = parts[0] if len(parts) == 1 else parts[1] + parts[0]
        return attn.to_out[1](_linear(run, attn.to_out[0], out))

    def _pairs(self, run: AttentionPass, attn: Any, context: Tensor) -> tuple[Pair, ...]:
        key, known = (run.branch, self.block), None
        if run.memory is not None:
            known = run.memory.pairs.get(key)
        if known is None:
            known = _keys_and_values(run, attn, context)
            if run.memory is not None:
                run.memory.pairs[key] = known
        return known


def _keys_and_values(run: AttentionPass, attn: Any, context: Tensor) -> tuple[Pair, ...]:
    pairs = []
    if attn.add_k_proj is not None:
        image, context = context[:, :-TEXT_TOKENS], context[:, -TEXT_TOKENS:]
        if attn.fused_projections:
            key, value = _linear(run, attn.to_added_kv, image).chunk(2, dim=-1)
        else:
            key = _linear(run, attn.add_k_proj, image)
            value = _linear(run, attn.add_v_proj, image)
        pairs.append((attn.norm_added_k(key), value))
    if attn.fused_projections:
        key, value = _linear(run, attn.to_kv, context).chunk(2, dim=-1)
    else:
        key, value = _linear(run, attn.to_k, context), _linear(run, attn.to_v, context)
    pairs.append((attn.norm_k(key), value))
    return tuple(
        (key.unflatten(2, (attn.heads, -1)), value.unflatten(2, (attn.heads, -1)))
        for key, value in pairs
    )


def _projected(run: AttentionPass, attn: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised queries, keys and values (B, N, H, D) of self-attention."""
    if attn.fused_projections:
        query, key, value = _linear(run, attn.to_qkv, x).chunk(3, dim=-1)
    else:
        query, key, value = (_linear(run, layer, x) for layer in (attn.to_q, attn.to_k, attn.to_v))
    query, key = attn.norm_q(query), attn.norm_k(key)
    return tuple(y.unflatten(2, (attn.heads, -1)) for y in (query, key, value))


def _linear(run: AttentionPass, layer: Any, x: Tensor) -> Tensor:
    if run.kernels and cpu_kernels.applies(x):
        return cpu_kernels.linear(layer, x)
    return layer(x)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring channels of x (B, N, H, D) by cos and sin (1, N, 1, D), as Wan does."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    out = torch.empty_like(x)
    out[..., 0::2] = first * cos - second * sin
    out[..., 1::2] = first * sin + second * cos
    return out.type_as(x)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`rotated` as one product of complex numbers, to the last bits."""
    turns = torch.complex(cos[..., 0::2].to(x), sin[..., 1::2].to(x))  # (1, N, 1, D / 2)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns).flatten(-2)
