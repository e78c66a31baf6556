"""Reference strength: how much a reference counts, by one of three maps.

"attention" and "uniform" add a bias to the self-attention logits from the video's tokens q to the
tokens j of reference k, in every block (the training-free half of arXiv 2609.11507, shown there on
Kaleido):

    M(q, j) = log(gamma_k) * S_k(q)        S_k(q) = s_k(q) / max s_k
    s_k(q)  = mean over heads of the attention that q gives reference k, in the step before

With the map "uniform" S is 1: tokens that count gamma times. M has one row per reference, so it is
folded into the dot product by one more channel each, log(gamma_k) S_k(q) sqrt(D) on the query and
1 on the reference's keys, and s_k is read off one more channel of the values that holds the same
ones. So the fused kernels, which take no bias of their own, and sequences split over processes
stay as they are.

"guidance" is classifier-free guidance on one reference (as InstructPix2Pix has it for its picture,
arXiv 2211.09800, equation 3): one more pass per reference in which it alone is hidden from the
video's tokens, v_k, and

    v + sum_k (gamma_k - 1) (v_full - v_k)

A reference of strength 0 is hidden in every pass, whatever the map: the bias is HIDDEN, also for
other references' tokens, which would carry it to the video.

Axes: B batch, K references with a strength, N tokens of the sequence, n of them on this process,
H heads, D channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from anyref.errors import RequestError
from anyref.models.sequence import WHOLE, SequencePlace

StrengthMap = Literal["attention", "uniform", "guidance"]
STRENGTH_MAPS: tuple[str, ...] = get_args(StrengthMap)
START = 0.2  # of the steps, before which the map is diffuse (arXiv 2609.11507)
HIDDEN = -100.0  # logits of a reference of strength 0
CHANNEL_STEP = 8  # fused kernels want head widths that are multiples of it


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceStrength:
    """Which tokens of the sequence are which reference's, and how often they count.

    Args:
        keys: (N0, K) 0 or 1, the leading tokens of the sequence; a token has one reference at most.
        gains: strength of each of the K references, 0 or more, none of them 1.
        leading: tokens in front of the video's, which are no queries (Kaleido's references).
        map: "attention" for S as above, "uniform" for S = 1, "guidance" for a pass without each.
        depth: share of the blocks after which attention is read, from 0 to 1.
    """

    keys: Tensor
    gains: tuple[float, ...]
    leading: int
    map: StrengthMap
    depth: float = 0.5


def strength_of_counts(
    counts: Sequence[int], strengths: Sequence[float], how: str, depth: float = 0.5
) -> ReferenceStrength | None:
    """Strength of references that are tokens in front of the video's (Kaleido).

    Args:
        counts: tokens of each reference, all its pictures. strengths: of each.

    Returns:
        None where all strengths are 1.

    Raises:
        RequestError: for a map that is not known.
    """
    keys = torch.zeros(sum(counts), len(counts))
    for k, count in enumerate(counts):
        first = sum(counts[:k])
        keys[first : first + count, k] = 1.0
    return _of_keys(keys, strengths, sum(counts), how, depth)


def strength_of_regions(
    regions: Tensor,
    patch: Sequence[int],
    strengths: Sequence[float],
    how: str,
    depth: float = 0.5,
) -> ReferenceStrength | None:
    """Strength of references that lie in latent frame 0 (MAGREF); every token is a query.

    Args:
        regions: (K, rows, columns) bool in latent cells. A token that several references touch is
            that one's which covers most of it.

    Returns:
        None where all strengths are 1.

    Raises:
        RequestError: for a map that is not known.
    """
    covered = F.avg_pool2d(regions[:, None].float(), tuple(patch[1:])).flatten(1)  # (K, N0)
    owner = F.one_hot(covered.argmax(0), len(regions)).float()  # (N0, K)
    return _of_keys(owner * (covered > 0).T, strengths, 0, how, depth)


def _of_keys(
    keys: Tensor, strengths: Sequence[float], leading: int, how: str, depth: float
) -> ReferenceStrength | None:
    if how not in STRENGTH_MAPS:
        raise RequestError(
            f"strength_map {how!r} is not known; use one of {', '.join(STRENGTH_MAPS)}"
        )
    acting = [k for k, strength in enumerate(strengths) if strength != 1.0]
    if not acting:
        return None
    bare = [k for k in acting if not keys[:, k].any()]
    if bare:
        raise RequestError(
            f"reference {bare[0]} (counted from 0) covers no token of its own, so its strength "
            f"{strengths[bare[0]]:g} would have no effect; give it a larger box, or leave strength "
            "out"
        )
    return ReferenceStrength(
        keys=keys[:, acting],
        gains=tuple(float(strengths[k]) for k in acting),
        leading=leading,
        map=how,  # type: ignore[arg-type]
        depth=depth,
    )


@dataclass(kw_only=True, eq=False)
class KeyBias:
    """The bias of one pass, as channels beside those of the heads.

    Args:
        keys: (1, N, K), ones on a reference's tokens.
        gains: (B or 1, N, K) logits that each query adds; None adds nothing.
        reads: number of the block whose attention to the references is read, if any.
        place: which part of the sequence this process holds.
        mass: (B, n, H, K) what was read.
        seen: attention has been given the bias.
    """

    keys: Tensor
    gains: Tensor | None
    reads: int | None
    place: SequencePlace = WHOLE
    mass: Tensor | None = None
    seen: bool = False

    def acts(self, block: int) -> bool:
        """True when a block's attention differs from the stock one's."""
        self.seen = True
        return self.gains is not None or block == self.reads

    def widen(
        self, query: Tensor, key: Tensor, value: Tensor, block: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, n, H, D) with the channels of the bias."""
        keys = self.place.own(self.keys)
        gains = None if self.gains is None else self.place.own(self.gains)
        scale = math.sqrt(query.shape[3])
        return (
            _joined(query, None if gains is None else gains * scale, keys.shape[2]),
            _joined(key, keys, keys.shape[2]),
            _joined(value, keys if block == self.reads else None, keys.shape[2]),
        )

    def narrow(self, attended: Tensor, width: int, block: int) -> Tensor:
        """The heads' own channels of what `widen` gave; what was read is kept."""
        if block == self.reads:
            self.mass = attended[..., width : width + self.keys.shape[2]]
        return attended[..., :width]


def _joined(x: Tensor, channels: Tensor | None, count: int) -> Tensor:
    """x (B, n, H, D) and channels (B or 1, n, K), up to a multiple of CHANNEL_STEP."""
    width = -(-(x.shape[3] + count) // CHANNEL_STEP) * CHANNEL_STEP
    wide = x.new_zeros(*x.shape[:3], width)
    wide[..., : x.shape[3]] = x
    if channels is not None:
        wide[..., x.shape[3] : x.shape[3] + count] = channels[:, :, None].to(x.dtype)
    return wide


class StrengthOfVideo:
    """Strength over the steps of one video: each branch of guidance has a map of its own."""

    def __init__(self, strength: ReferenceStrength, num_tokens: int, num_blocks: int) -> None:
        self.strength = strength
        self.keys = F.pad(strength.keys, (0, 0, 0, num_tokens - len(strength.keys)))[None]
        self.logits = torch.tensor([math.log(g) if g > 0 else HIDDEN for g in strength.gains])
        guided = strength.map == "guidance"
        # (number among those with a strength, weight) of each reference with a pass of its own
        self.contrasts = [(k, g - 1.0) for k, g in enumerate(strength.gains) if guided and g > 0]
        self.block = round(strength.depth * (num_blocks - 1))
        self.maps: dict[str, Tensor] = {}  # (B, N, K) by branch
        self.seen = False  # attention has been given a bias

    def check(self, num_steps: int) -> None:
        """Raise RequestError where a strength could not act in a video of so many steps."""
        if self.strength.map == "attention" and math.ceil(START * num_steps) >= num_steps:
            raise RequestError(
                "reference strength reads where the video looks in one step and acts in the next; "
                f"{num_steps} step is too few, use 2 or more, or strength_map='uniform'"
            )
        counts = self.keys[0].sum(0)
        hidden = counts[[k for k, gain in enumerate(self.strength.gains) if gain == 0.0]].sum()
        if max(counts.max(), hidden) >= self.keys.shape[1]:
            raise RequestError(
                "references with a strength other than 1 cover the whole video, so there is "
                "nothing to weigh them against; leave strength out, give smaller boxes or more "
                "frames"
            )

    def bias(
        self,
        branch: str,
        progress: float,
        like: Tensor,
        place: SequencePlace = WHOLE,
        without: int | None = None,
    ) -> KeyBias:
        """The bias of one pass.

        Args:
            progress: share of the steps that are done. like: a tensor of the pass.
            without: number of the reference that the pass shall not see.
        """
        gains = self._gains(branch, progress, without)
        return KeyBias(
            keys=self.keys.to(like.device),
            gains=None if gains is None else gains.to(like.device),
            reads=self.block if self.strength.map == "attention" else None,
            place=place,
        )

    def _gains(self, branch: str, progress: float, without: int | None) -> Tensor | None:
        """(B or 1, N, K) logits, None where all are 0."""
        absent = torch.tensor([gain == 0.0 for gain in self.strength.gains])
        gains = None
        if self.strength.map == "uniform":
            gains = self.logits.expand_as(self.keys).clone()
        elif self.strength.map == "attention" and branch in self.maps and progress >= START:
            gains = self.logits.to(self.maps[branch]) * self.maps[branch]
        elif without is not None or 0.0 in self.strength.gains:
            gains = torch.zeros_like(self.keys)
        if gains is None:
            return None
        if without is not None:
            gains[..., without] = HIDDEN
        gains[:, : self.strength.leading] = 0.0
        return gains.masked_fill(absent.to(gains.device), HIDDEN)

    def learn(self, branch: str, bias: KeyBias) -> None:
        """Keep the map that a pass has read; a pass that a step cache skipped has read none.

        Raises:
            RequestError: when no block was given the bias, so that it had no effect.
        """
        self.seen = self.seen or bias.seen
        if not self.seen:
            raise RequestError(
                "reference strength had no effect: the transformer is compiled, or its attention "
                "processors are not Wan's own; load the model anew or leave strength out"
            )
        if bias.mass is None:
            return
        mass = bias.place.whole(_without_bias(bias), bias.keys.shape[1])  # (B, N, K)
        others = mass.masked_fill(bias.keys.to(mass.device) > 0, 0.0)
        others[:, : self.strength.leading] = 0.0
        peak = others.amax(dim=1, keepdim=True).clamp(min=1e-12)
        self.maps[branch] = (mass / peak).clamp(max=1.0)


def _without_bias(bias: KeyBias) -> Tensor:
    """Attention (B, n, K) to each reference as it would be without the bias, mean over heads.

    The bias multiplies all of a reference's weights by e^g before they are normalised, so
    dividing by it and normalising anew takes it back.
    """
    assert bias.mass is not None
    mass = bias.mass.float()
    if bias.gains is not None:
        logits = bias.place.own(bias.gains)[:, :, None].clamp(min=-30.0)  # (B, n, 1, K)
        plain = mass * torch.exp(-logits)
        rest = (1.0 - mass.sum(-1, keepdim=True)).clamp(min=0.0)
        mass = plain / (rest + plain.sum(-1, keepdim=True)).clamp(min=1e-12)
    return mass.mean(dim=2)
