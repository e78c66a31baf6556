"""The denoising loop, and the one pass of the transformer that sampling and training share.

Axes: B batch, C channels, L text tokens, F latent frames, H W latent rows and columns, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from anyref.errors import RequestError
from anyref.models.disentanglement import disentangled
from anyref.pipelines.conditioning import Conditioning

StepCallback = Callable[[int, Tensor, dict[str, Tensor | None]], dict[str, Any]]


def predict_velocity(
    transformer: Any,
    latents: Tensor,
    timestep: Tensor,
    text: Tensor,
    conditioning: Conditioning,
    attention_kwargs: dict[str, Any] | None = None,
) -> Tensor:
    """One pass of the transformer with its conditioning: the same in sampling and in training.

    Args:
        latents: (B, C, F, H, W) noisy. timestep: (B,), 0 to 1000. text: (B, L, D).

    Returns:
        (B, C, F, H, W) in the transformer's dtype.

    Raises:
        RequestError: for subjects' regions without the canvas they lie on.
    """
    x, subjects = latents, conditioning.subjects
    if subjects is not None and conditioning.channels is None:
        raise RequestError(
            "disentanglement needs the regions of MAGREF's canvas, and this conditioning has no "
            "canvas; leave subjects out"
        )
    if conditioning.channels is not None:
        x = torch.cat([latents, conditioning.channels.to(latents.dtype)], dim=1)
    with nullcontext() if subjects is None else disentangled(transformer, subjects):
        return transformer(
            hidden_states=x.to(transformer.dtype),
            timestep=timestep,
            encoder_hidden_states=text,
            encoder_hidden_states_image=conditioning.image_embeds,
            attention_kwargs=attention_kwargs,
            return_dict=False,
            **conditioning.transformer_kwargs,
        )[0]


def without_prompt(conditioning: Conditioning, prompt: Tensor) -> Conditioning:
    """The conditioning of guidance's unconditional pass.

    Args:
        prompt: (B, L, D), whose words still act if disentanglement asks for it.
    """
    subjects = conditioning.subjects
    if subjects is None:
        return conditioning
    kept = replace(subjects, text=prompt) if subjects.how.unconditional else None
    return replace(conditioning, subjects=kept)


@torch.no_grad()
def denoise(
    transformer: Any,
    scheduler: Any,
    latents: Tensor,
    conditioning: Conditioning,
    text: tuple[Tensor, Tensor | None],
    *,
    guidance_scale: float,
    attention_kwargs: dict[str, Any] | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """From noise to clean latents, over the timesteps that the scheduler was given.

    Guidance is on text only: conditional and unconditional passes share the references,
    v = v_neg + g (v_pos - v_neg). At g <= 1, or without negative text, one pass per step.

    Args:
        latents: (B, C, F, H, W) float32 noise.
        text: positive and negative embeddings, (B, L, D) each.
        callback: called after each step with its index, timestep and tensors; what it returns
            replaces them.

    Returns:
        (B, C, F, H, W) float32.
    """
    positive, negative = text
    for i, t in enumerate(scheduler.timesteps):

        def velocity_of(
            branch: str, words: Tensor, made: Conditioning, x: Tensor = latents, t: Tensor = t
        ) -> Tensor:
            with transformer.cache_context(branch):
                timestep = t.expand(x.shape[0])
                velocity = predict_velocity(transformer, x, timestep, words, made, attention_kwargs)
            return velocity.float()  # guidance and the solver stay in float32, as in Wan

        velocity = velocity_of("cond", positive, conditioning)
        if negative is not None and guidance_scale > 1.0:
            free = velocity_of("uncond", negative, without_prompt(conditioning, positive))
            velocity = free + guidance_scale * (velocity - free)
        latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
        if callback is not None:
            tensors: dict[str, Any] = {
                "latents": latents,
                "prompt_embeds": positive,
                "negative_prompt_embeds": negative,
            }
            changed = tensors | callback(i, t, tensors)
            latents, positive = changed["latents"], changed["prompt_embeds"]
            negative = changed["negative_prompt_embeds"]
    return latents
