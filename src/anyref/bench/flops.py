"""Operations of Wan's transformer by formula: the floor that no exact run can go below.

A product of matrices (a x b) (b x c) takes 2 a b c operations. Per block, with N tokens of the
video (and of references that are tokens), L of the text, S of the image, width D, feed-forward
width M:

    self-attention    8 N D^2 (four projections) + 4 N^2 D (scores, weighted sum)
    cross-attention   4 N D^2 (query, output) + 4 (L + S) D^2 (keys, values) + 4 N (L + S) D
    feed-forward      4 N D M

and once per pass 2 N D (inputs + outputs of a patch). Norms, rotations and modulation are left out:
under 1 % and bound by memory. The count is Kaplan et al. 2020 (arXiv:2001.08361, table 1), with the
terms of attention kept; for 32,760 tokens of the 14B shape it gives 1.68e15 per pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any


def pass_flops(
    config: Mapping[str, Any], tokens: int, text_tokens: int, image_tokens: int = 0
) -> float:
    """Operations of one pass of a transformer of this configuration, everything computed anew."""
    width = config["num_attention_heads"] * config["attention_head_dim"]
    context = text_tokens + image_tokens
    block = (
        12.0 * tokens * width**2
        + 4.0 * tokens**2 * width
        + 4.0 * context * width**2
        + 4.0 * tokens * context * width
        + 4.0 * tokens * width * config["ffn_dim"]
    )
    ends = config["in_channels"] + config["out_channels"]
    return config["num_layers"] * block + 2.0 * tokens * width * ends * prod(config["patch_size"])
