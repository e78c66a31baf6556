"""Subject disentanglement: the words that name a subject, added where its picture lies.

In every layer, on the tokens of latent frame 0 (MAGREF paper sec. 3.2, equations 5 and 6):

    z0' = z0 + alpha * sum_k M_k v_k

M_k is 1 on the tokens that reference k covers, v_k is the layer's own value projection
(`attn2.to_v`) of the text tokens that name it. No parameter is new and no class is changed: hooks
on the stock blocks do it, and do nothing in a pass without regions. The regions travel beside the
rotary embedding, as an argument of every block, so that a block which gradient checkpointing runs
a second time sees what it saw the first time.

Axes: B batch, K references, L text tokens, N tokens of the sequence, N0 tokens of latent frame 0,
H W latent rows and columns, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyref.errors import RequestError
from anyref.models.sequence import SequencePlace, sequence_place

_INSTALLED = "_anyref_disentanglement"


@dataclass(frozen=True)
class Disentanglement:
    """How the values enter; the paper leaves all of it open, the defaults are ours.

    Args:
        alpha: strength, at least 0.
        pooling: of the values of a subject's tokens: "mean" or "sum".
        where: "after" or "before" the layer's cross-attention, which reads the change if before.
        output_projection: pass v_k through the cross-attention's output projection, bias included.
        unconditional: add the prompt's values in the unconditional pass of guidance, too.
    """

    alpha: float
    pooling: Literal["mean", "sum"] = "mean"
    where: Literal["after", "before"] = "after"
    output_projection: bool = False
    unconditional: bool = False

    def __post_init__(self) -> None:
        if not self.alpha >= 0.0:
            raise RequestError(f"disentanglement's alpha {self.alpha} is below 0; use 0 or more")
        for name, value, known in (
            ("pooling", self.pooling, ("mean", "sum")),
            ("where", self.where, ("after", "before")),
        ):
            if value not in known:
                raise RequestError(
                    f"disentanglement's {name} {value!r} is not known; use {' or '.join(known)}"
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class SubjectRegions:
    """Where each reference lies and which words name it, for a batch.

    Args:
        weights: (B, K, N0), 1 on the tokens of latent frame 0 that a reference covers, else 0.
        tokens: (B, K, L) pooling weights over the text's tokens; a row of zeros adds nothing.
        how: the remaining choices.
        text: (B, L, D_text) that `tokens` index, when the pass itself reads another text.
    """

    weights: Tensor
    tokens: Tensor
    how: Disentanglement
    text: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> SubjectRegions:
        """The same value with `change` applied to every tensor."""
        return replace(
            self,
            weights=change(self.weights),
            tokens=change(self.tokens),
            text=None if self.text is None else change(self.text),
        )


def token_regions(regions: Tensor, patch: Sequence[int]) -> Tensor:
    """Latent cells to tokens: a token belongs to a reference that covers any of its cells.

    Args:
        regions: (K, H, W) bool. patch: latent cells per token: frames, rows, columns.

    Returns:
        (K, N0) float, 0 or 1, row by row.
    """
    pooled = F.max_pool2d(regions[:, None].float(), tuple(patch[1:]))  # (K, 1, H / p, W / p)
    return pooled.flatten(1)


def pooling_weights(tokens: Sequence[Sequence[int]], length: int, pooling: str) -> Tensor:
    """Token indices of each reference to weights (K, L) over the text's tokens.

    Args:
        tokens: indices below `length` of each reference; none for one without words.
        pooling: "mean": each 1 over their number; "sum": each 1.
    """
    weights = torch.zeros(len(tokens), length)
    for row, indices in zip(weights, tokens, strict=True):
        row[list(indices)] = 1.0 / len(indices) if pooling == "mean" and indices else 1.0
    return weights


def stack_subjects(
    samples: Sequence[tuple[Tensor, Tensor]], how: Disentanglement
) -> SubjectRegions:
    """One batch of samples that may differ in their number of references.

    Args:
        samples: `token_regions` (K, N0) and `pooling_weights` (K, L) of each sample; N0 and L are
            the same for all, K is filled up with zeros, which add nothing.
    """
    most = max(len(weights) for weights, _ in samples)

    def stack(values: Sequence[Tensor]) -> Tensor:
        return torch.stack([F.pad(x, (0, 0, 0, most - len(x))) for x in values])

    return SubjectRegions(
        weights=stack([weights for weights, _ in samples]),
        tokens=stack([tokens for _, tokens in samples]),
        how=how,
    )


@contextmanager
def disentangled(
    transformer: Any, subjects: SubjectRegions, num_tokens: int | None = None
) -> Iterator[None]:
    """Passes of `transformer` inside this context add each subject's words to its region.

    A backward pass, and the passes that gradient checkpointing repeats in it, may come after the
    context has ended.

    Args:
        transformer: `WanTransformer3DModel`, or a module with its `rope`, `blocks` (each with
            `norm2` and `attn2`) and, for `subjects.text`, `condition_embedder.text_embedder`.
        num_tokens: of the sequence over all processes; needed where it does not divide over them.

    Raises:
        RequestError: when compiled code did not see the regions, see `prepare`.
    """
    prepare(transformer)
    entry: _Entry = vars(transformer)[_INSTALLED]
    embed = None if subjects.text is None else transformer.condition_embedder.text_embedder
    entry.pending = (subjects, embed, sequence_place(transformer), num_tokens)
    entry.seen = False
    try:
        yield
    finally:
        entry.pending = None
    if not entry.seen:
        raise RequestError(
            "the transformer was compiled before it knew of disentanglement, which would have no "
            "effect; call prepare(transformer) before compiling it"
        )


def prepare(transformer: Any) -> None:
    """Put the hooks on a transformer, once; they stay, and do nothing without regions.

    `disentangled` does it by itself. Call it before `torch.compile` of the whole transformer,
    whose compiled code does not notice hooks that come later.
    """
    if _INSTALLED in vars(transformer):
        return
    entry = _Entry()
    transformer.rope.register_forward_hook(entry.carry)
    for block in transformer.blocks:
        # the block itself, inside whatever wraps it
        inner = next(m for m in block.modules() if "attn2" in dict(m.named_children()))
        _Injection().install(inner)
    setattr(transformer, _INSTALLED, entry)


@dataclass(frozen=True, eq=False)
class _Carried:
    """What reaches every block behind the rotary cosines and sines.

    Args:
        words: (B, L, D) embedded text in place of the context's, if any.
        place: which part of the sequence this process holds. num_tokens: of the whole sequence.
    """

    subjects: SubjectRegions
    words: Tensor | None
    place: SequencePlace
    num_tokens: int | None


class _Entry:
    """The hook of the rotary embedding, where regions enter a pass."""

    def __init__(self) -> None:
        self.pending: tuple[SubjectRegions, Any, SequencePlace, int | None] | None = None
        self.seen = False

    def carry(self, _: nn.Module, __: Any, rotary: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.pending is None:
            return rotary
        subjects, embed, place, num_tokens = self.pending
        self.seen = True
        words = None if embed is None else embed(subjects.text)
        return (*rotary, _Carried(subjects, words, place, num_tokens))


class _Injection:
    """The hooks of one block: they share what one pass of it needs."""

    def __init__(self) -> None:
        self.carried: _Carried | None = None
        self.text: Tensor | None = None  # (B, L, D)
        self.attention: Any = None
        self.added: Tensor | None = None  # (B, N0, D), or this process's part of it

    def install(self, block: nn.Module) -> None:
        block.register_forward_pre_hook(self.enter)
        block.get_submodule("norm2").register_forward_pre_hook(self.before_attention)
        block.get_submodule("attn2").register_forward_hook(self.after_attention)

    def enter(self, block: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Take the regions off the block's rotary argument."""
        hidden, context, temb, rotary = args
        self.carried, self.added = None, None
        if not isinstance(rotary[-1], _Carried):
            return None
        carried = rotary[-1]
        self.carried, self.attention = carried, block.attn2
        length = carried.subjects.tokens.shape[2]
        # with an image branch the text's tokens come last
        self.text = context[:, -length:] if carried.words is None else carried.words
        return hidden, context, temb, tuple(rotary[:-1])

    def before_attention(self, _: nn.Module, args: tuple[Tensor]) -> tuple[Tensor] | None:
        """Compute what is added; where it comes before, cross-attention reads it here."""
        if self.carried is None or self.text is None:
            return None
        added = _added(self.attention, self.carried.subjects, self.text)  # (B, N0, D)
        count, place = args[0].shape[1], self.carried.place
        first = place.first(self.carried.num_tokens or count * place.count)
        self.added = added[:, first : first + count]
        if self.carried.subjects.how.where == "after":
            return None
        return (_onto_first_frame(args[0], self.added),)

    def after_attention(self, _: nn.Module, __: Any, output: Tensor) -> Tensor:
        """Put it on the residual stream, together with the cross-attention's own output."""
        if self.added is None:
            return output
        output = _onto_first_frame(output, self.added)
        self.carried = self.text = self.added = self.attention = None
        return output


def _added(attention: Any, subjects: SubjectRegions, text: Tensor) -> Tensor:
    values = attention.to_v(text)  # (B, L, D)
    tokens = subjects.tokens.to(values)
    pooled = tokens @ values  # (B, K, D)
    if subjects.how.output_projection:
        named = tokens.any(dim=2, keepdim=True).to(pooled)  # the bias is for named subjects only
        pooled = attention.to_out[0](pooled) * named
    return subjects.how.alpha * (subjects.weights.to(pooled).transpose(1, 2) @ pooled)


def _onto_first_frame(x: Tensor, added: Tensor) -> Tensor:
    """x (B, N, D) with `added` (B, n, D) on its first n tokens."""
    count = added.shape[1]
    return torch.cat([x[:, :count] + added.to(x), x[:, count:]], dim=1)
