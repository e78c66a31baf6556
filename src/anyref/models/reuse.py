"""A transformer that does nothing twice in one video, and the scope in which it does not.

`attending` gives a pass its settings; `install` puts what reads them into the stock transformer:
attention processors (`attention`), and subclasses of four stock modules, swapped in place, that are
the stock ones outside a pass. Weights, state dict, hooks and copies stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.models.attention import FeedForward
from diffusers.models.embeddings import PixArtAlphaTextProjection
from diffusers.models.transformers.transformer_wan import (
    WanAttnProcessor,
    WanImageEmbedding,
    WanRotaryPosEmbed,
)
from torch import Tensor, nn

from anyref.models import cpu_kernels
from anyref.models.attention import CrossAttention, SelfAttention
from anyref.models.passes import AttentionPass, CurrentPass, running
from anyref.models.positions import ReferenceRotaryPosEmbed

_INSTALLED = "_anyref_current"


@contextmanager
def attending(transformer: Any, run: AttentionPass) -> Iterator[None]:
    """Passes of `transformer` by this thread, inside this context, run as `run` says."""
    current = install(transformer)
    current.run = run
    try:
        yield
    finally:
        current.run = None


def install(transformer: Any) -> CurrentPass:
    """Put processors and modules that know of passes into a transformer, once.

    Processors and modules of classes that are not stock stay, and what a pass asks for has no
    effect on them.
    """
    known = vars(transformer).get(_INSTALLED)
    if known is not None:
        return known
    current = CurrentPass()
    for number, block in enumerate(transformer.blocks):
        # the block itself, inside whatever wraps it
        inner = next(m for m in block.modules() if "attn2" in dict(m.named_children()))
        _replace(inner.attn1, SelfAttention(current, number))
        _replace(inner.attn2, CrossAttention(current, number))
        _swap(inner.ffn, current)
    embedder = transformer.condition_embedder
    for module in (embedder.text_embedder, embedder.image_embedder, transformer.rope):
        if module is not None:
            _swap(module, current)
    setattr(transformer, _INSTALLED, current)
    return current


def _replace(attention: Any, ours: Any) -> None:
    stock = attention.processor
    if type(stock) is WanAttnProcessor:
        ours._attention_backend = stock._attention_backend
        ours._parallel_config = stock._parallel_config
        attention.set_processor(ours)


def _swap(module: nn.Module, current: CurrentPass) -> None:
    kind = _SWAPS.get(type(module))
    if kind is not None:
        module.__class__ = kind
        setattr(module, _INSTALLED, current)


class FastFeedForward(FeedForward):
    """The feed-forward network, by `cpu_kernels` where the pass asks for them."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        run = running(vars(self)[_INSTALLED])
        if run is not None and run.kernels and cpu_kernels.applies(hidden_states):
            return cpu_kernels.feed_forward(self, hidden_states)
        return super().forward(hidden_states, *args, **kwargs)


def _remembered(module: nn.Module, key: Hashable, inputs: Any, compute: Callable[[], Any]) -> Any:
    """What `compute` gives, computed once per video for a key; the inputs are kept with it."""
    run = running(vars(module)[_INSTALLED])
    if run is None or run.memory is None:
        return compute()
    outputs, key = run.memory.outputs, (id(module), key)
    if key not in outputs:
        outputs[key] = (inputs, compute())
    return outputs[key][1]


def _identity(x: Tensor) -> Hashable:
    """A key that holds as long as the tensor is kept and not written to."""
    return id(x), 0 if x.is_inference() else x._version


class RememberedText(PixArtAlphaTextProjection):
    """The text's projection, once per text."""

    def forward(self, caption: Tensor) -> Tensor:
        """(B, L, D_text) to (B, L, D)."""
        stock = super().forward
        return _remembered(self, _identity(caption), caption, lambda: stock(caption))


class RememberedImage(WanImageEmbedding):
    """The image tokens' projection, once per image."""

    def forward(self, encoder_hidden_states_image: Tensor) -> Tensor:
        """(B, S, D_image) to (B, S, D)."""
        x, stock = encoder_hidden_states_image, super().forward
        return _remembered(self, _identity(x), x, lambda: stock(x))


class RememberedRope(WanRotaryPosEmbed):
    """The rotary tables, once per size."""

    def forward(self, hidden_states: Tensor) -> Any:
        """(B, C, F, H, W) to cosines and sines (1, N, 1, D)."""
        stock = super().forward
        return _remembered(self, _size(hidden_states), None, lambda: stock(hidden_states))


class RememberedReferenceRope(ReferenceRotaryPosEmbed):
    """The rotary tables with rows for references, once per sizes."""

    def forward(self, hidden_states: Tensor, grids: Any = (), offset: Any = 80) -> Any:
        """As `ReferenceRotaryPosEmbed`."""
        stock, key = super().forward, (_size(hidden_states), tuple(grids), offset)
        return _remembered(self, key, None, lambda: stock(hidden_states, grids, offset))


def _size(x: Tensor) -> Hashable:
    return tuple(x.shape), x.device


_SWAPS: dict[type[nn.Module], type[nn.Module]] = {
    FeedForward: FastFeedForward,
    PixArtAlphaTextProjection: RememberedText,
    WanImageEmbedding: RememberedImage,
    WanRotaryPosEmbed: RememberedRope,
    ReferenceRotaryPosEmbed: RememberedReferenceRope,
}
