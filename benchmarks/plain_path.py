"""The plain path: a straightforward loop over the models' components, nothing kept, nothing shared.

What one would write with diffusers at hand: encode the text and the references of this request, one
pass with the prompt and one without for every step, decode, write. It is the baseline of
benchmarks/generation_speed.py and makes the same videos as `anyref.generate`.

Axes: B batch, C channels, F latent frames, H W latent rows and columns, L text tokens, D width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anyref import Request
from anyref.media import write_video
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.solvers import set_official_timesteps
from anyref.request import PixelShape


@torch.no_grad()
def plain_video(pipe: AnyRefPipeline, request: Request, path: Path) -> Tensor:
    """Make the video of a request with a pipeline's components; its latents (1, C, F, H, W).

    The sizes, steps and guidance are the model's own.
    """
    config, transformer = pipe.config, pipe.transformer
    shape = PixelShape(config.num_frames, config.height, config.width)
    prompt = encode_text(pipe, request.text)
    negative = encode_text(pipe, config.default_negative_prompt)
    channels, references = condition(pipe, request, shape)
    generator = torch.Generator().manual_seed(request.seed)
    cells = pipe.rules.latent(shape)
    latents = torch.randn(
        (1, pipe.latent_channels, cells.num_frames, cells.height, cells.width), generator=generator
    )
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    set_official_timesteps(scheduler, config.num_inference_steps, latents.device)
    for t in scheduler.timesteps:
        x = latents if channels is None else torch.cat([latents, channels], dim=1)
        with_prompt, without = (
            transformer(x, t.expand(1), text, return_dict=False, **references)[0]
            for text in (prompt, negative)
        )
        velocity = without + config.guidance_scale * (with_prompt - without)
        latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
    mean, std = statistics(pipe)
    video = pipe.vae.decode(latents * std + mean, return_dict=False)[0][:, :, config.lead_frames :]
    frames = pipe.video_processor.postprocess_video(video, output_type="np")[0]
    write_video(path, (frames * 255.0).round().astype(np.uint8), config.fps)
    return latents


def encode_text(pipe: AnyRefPipeline, text: str) -> Tensor:
    """Embeddings (1, L, D) with the rows of padding zeroed."""
    length = pipe.config.max_sequence_length
    tokens = pipe.tokenizer(
        text, max_length=length, padding="max_length", truncation=True, return_tensors="pt"
    )
    hidden = pipe.text_encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    return hidden * tokens.attention_mask[..., None]


def statistics(pipe: AnyRefPipeline) -> tuple[Tensor, Tensor]:
    """Mean and spread of the latents, (1, C, 1, 1, 1) each."""
    config = pipe.vae.config
    mean, std = (torch.tensor(x) for x in (config.latents_mean, config.latents_std))
    return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)


def condition(
    pipe: AnyRefPipeline, request: Request, shape: PixelShape
) -> tuple[Tensor | None, dict[str, Any]]:
    """Channels beside the noise (MAGREF), or arguments of the transformer (Kaleido)."""
    mean, std = statistics(pipe)
    if "layout" not in pipe.request_options:
        pictures = pipe._letterboxed(request.references, shape, None)
        frames = [pipe.video_processor.preprocess(picture)[:, :, None] for picture in pictures]
        latents = [
            (pipe.vae.encode(frame).latent_dist.mode() - mean) * (1.0 / std) for frame in frames
        ]
        offset = pipe.config.reference_offset
        return None, {"reference_hidden_states": latents, "reference_offset": offset}
    canvas, region = pipe.make_canvas(request.references, seed=request.seed)
    frame = pipe.video_processor.preprocess(canvas)
    video = torch.zeros(1, 3, shape.num_frames, shape.height, shape.width)
    video[:, :, 0] = frame
    latents = (pipe.vae.encode(video).latent_dist.mode() - mean) * (1.0 / std)
    mask = torch.zeros(1, pipe.rules.temporal, *latents.shape[2:])
    mask[:, :, 0] = region.float()
    return torch.cat([mask, latents], dim=1), {}
