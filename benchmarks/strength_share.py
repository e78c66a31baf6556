"""How much of its attention a subject's place gives to its own reference, by block and strength.

    python benchmarks/strength_share.py [--clips 3]

True held-out clips with noise; one pass of the network, no sampling. Means over the subject's own
tokens: the share that goes to its reference, to the other subjects' references, and what tokens
elsewhere give to the reference. Strength acts by the uniform map. Writes
benchmarks/strength_share.json.

Axes: T frames, Y X pixels, N tokens, K references, H heads, D channels of a head.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from lab_videos import Laboratory
from torch import Tensor
from torch.nn import functional as F

from anyref.lab.catalog import load_catalog
from anyref.lab.world import Clip
from anyref.media import write_atomically
from anyref.models.passes import AttentionPass
from anyref.models.reuse import attending
from anyref.models.strength import KeyBias, StrengthOfVideo, _joined
from anyref.pipelines.conditioning import Conditioning
from anyref.pipelines.sampling import predict_velocity
from anyref.request import PixelShape

NOISE = (0.95, 0.8, 0.5)
STRENGTHS = (1.0, 2.0, 8.0)
FAMILIES = ("kaleido", "magref")
HERE = Path(__file__).parent


class ReadsEveryBlock(KeyBias):
    """A bias whose shares of attention are read in all blocks."""

    shares: dict[int, Tensor]  # (N, K) by block, mean over heads

    def acts(self, _: int) -> bool:
        """Always, so that there is something to read."""
        self.seen = True
        return True

    def widen(
        self, query: Tensor, key: Tensor, value: Tensor, _: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `KeyBias`, with channels on every block's values."""
        count, scale = self.keys.shape[2], math.sqrt(query.shape[3])
        gains = None if self.gains is None else self.gains * scale
        return (
            _joined(query, gains, count),
            _joined(key, self.keys, count),
            _joined(value, self.keys, count),
        )

    def narrow(self, attended: Tensor, width: int, block: int) -> Tensor:
        """As `KeyBias`, keeping what was read of the block."""
        self.shares[block] = attended[..., width : width + self.keys.shape[2]].mean(2)[0]
        return attended[..., :width]


def conditions(pipe: Any, clip: Clip) -> tuple[Conditioning, Tensor, Tensor]:
    """Conditioning with every reference marked, the clip's latents, and its text."""
    lead = pipe.config.lead_frames
    frames = np.concatenate([np.repeat(clip.frames[:1], lead, axis=0), clip.frames])
    size = frames.shape[1]
    marked = [r.model_copy(update={"strength": 2.0}) for r in clip.references]
    made = pipe.condition(marked, PixelShape(len(frames), size, size), seed=0)
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    text = pipe._encode_text(clip.prompt, clip.references, None, True, (None, None), None)[0]
    return made, pipe.encode_video(pixels), text


@torch.no_grad()
def shares(laboratory: Laboratory, index: int) -> list[dict[str, Any]]:
    """Rows of one clip: noise, strength, and three shares by block."""
    pipe = laboratory.pipe
    clip, _, _ = laboratory.clip("strength", index)
    made, latents, text = conditions(pipe, clip)
    assert made.strength is not None
    grid = [n // p for n, p in zip(latents.shape[2:], pipe.rules.patch, strict=True)]
    leading, blocks = made.strength.leading, len(pipe.transformer.blocks)
    keys = StrengthOfVideo(made.strength, math.prod(grid) + leading, blocks).keys
    masks = torch.from_numpy(np.asarray(clip.actors[0].masks)).float()[None, None]
    own = F.interpolate(masks, size=grid, mode="trilinear").flatten() > 0.5  # (N,)
    rows = []
    for noise in NOISE:
        drawn = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
        for strength in STRENGTHS:
            gains = torch.zeros_like(keys)
            gains[:, leading:, 0] = math.log(strength)
            bias = ReadsEveryBlock(keys=keys, gains=gains, reads=None)
            bias.shares = {}
            with attending(pipe.transformer, AttentionPass(bias)):
                predict_velocity(
                    pipe.transformer,
                    (1 - noise) * latents + noise * drawn,
                    torch.tensor([1000 * noise]),
                    text,
                    made,
                )
            read = [bias.shares[block][leading:] for block in range(blocks)]
            count = len(clip.actors)
            rows.append(
                {
                    "noise": noise,
                    "strength": strength,
                    "own": [float(x[own, 0].mean()) for x in read],
                    "others": [float(x[own, 1:count].sum(1).mean()) for x in read],
                    "elsewhere": [float(x[~own, 0].mean()) for x in read],
                }
            )
    return rows


def main() -> None:
    """Measure both models and write the means over clips."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=3)
    clips = parser.parse_args().clips
    diffusers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    catalog, summary = load_catalog(), {"clips": clips}
    for family in FAMILIES:
        laboratory = Laboratory(family, catalog)
        every = [shares(laboratory, index) for index in range(clips)]
        summary[family] = [
            {
                name: np.mean([row[name] for row in rows], axis=0).round(4).tolist()
                for name in rows[0]
            }
            for rows in zip(*every, strict=True)
        ]
    text = json.dumps(summary, indent=1).encode()
    write_atomically(HERE / "strength_share.json", lambda out: out.write(text))


if __name__ == "__main__":
    main()
