"""The denoising loop, and the one pass of the transformer that sampling and training share.

Axes: B batch, C channels, L text tokens, F latent frames, H W latent rows and columns, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from anyref.errors import RequestError
from anyref.models.disentanglement import disentangled
from anyref.models.passes import AttentionPass, Memory
from anyref.models.reuse import attending
from anyref.models.sequence import sequence_place
from anyref.models.strength import StrengthOfVideo, check_steps
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


class VideoPasses:
    """The passes of one video, and what they share.

    Args:
        like: the video's noise (B, C, F, H, W). num_steps: denoising steps in all.
        kernels: compute by `cpu_kernels` where they apply.
        remember: keep what stays the same between steps.

    Raises:
        RequestError: for references of a strength that too few steps could give.
    """

    def __init__(
        self,
        transformer: Any,
        conditioning: Conditioning,
        like: Tensor,
        num_steps: int,
        attention_kwargs: dict[str, Any] | None = None,
        *,
        kernels: bool = False,
        remember: bool = True,
    ) -> None:
        self.transformer, self.attention_kwargs = transformer, attention_kwargs
        self.num_steps, self.kernels = num_steps, kernels
        self.memory = Memory() if remember else None
        self.texts: dict[str, tuple[Tensor, int]] = {}
        self.latents: Tensor | None = None  # of the last pass
        self.place = sequence_place(transformer)
        self.strength = None
        if conditioning.strength is not None:
            check_steps(conditioning.strength, num_steps)
            tokens = math.prod(like.shape[2:]) // math.prod(transformer.config.patch_size)
            self.strength = StrengthOfVideo(
                conditioning.strength,
                tokens + conditioning.strength.leading,
                len(transformer.blocks),
            )

    def velocity(
        self, branch: str, step: int, timestep: Tensor, x: Tensor, text: Tensor, made: Conditioning
    ) -> Tensor:
        """One pass.

        Args:
            branch: "cond" or "uncond". step: counted from 0. timestep: (). x: (B, C, F, H, W).
            text: (B, L, D).

        Returns:
            (B, C, F, H, W) float32: guidance and the solver stay in it, as in Wan.
        """
        version = 0 if text.is_inference() else text._version  # it grows when text is written to
        known, seen = self.texts.get(branch, (None, 0))
        if self.memory is not None and (known is not text or seen != version):
            self.memory.forget(branch)
            self.texts[branch] = (text, version)
        if self.memory is not None and self.latents is not x:
            self.memory.first, self.latents = None, x
        run = AttentionPass(None, self.memory, branch, step, self.kernels)
        if self.strength is not None:
            run.bias = self.strength.bias(branch, step / self.num_steps, x, self.place[0])
        with self.transformer.cache_context(branch), attending(self.transformer, run):
            velocity = predict_velocity(
                self.transformer, x, timestep.expand(len(x)), text, made, self.attention_kwargs
            )
        if self.strength is not None and run.bias is not None:
            self.strength.learn(branch, run.bias, self.place[1])
        return velocity.float()


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
    kernels: bool = False,
) -> Tensor:
    """From noise to clean latents, over the timesteps that the scheduler was given.

    Guidance is on text only: conditional and unconditional passes share the references,
    v = v_neg + g (v_pos - v_neg). At g <= 1, or without negative text, one pass per step.

    Args:
        latents: (B, C, F, H, W) float32 noise.
        text: positive and negative embeddings, (B, L, D) each.
        callback: called after each step with its index, timestep and tensors; what it returns
            replaces them.
        kernels: compute by `models.cpu_kernels` where they apply.

    Returns:
        (B, C, F, H, W) float32.
    """
    positive, negative = text
    steps = scheduler.timesteps
    passes = VideoPasses(
        transformer, conditioning, latents, len(steps), attention_kwargs, kernels=kernels
    )
    for i, t in enumerate(steps):
        velocity = passes.velocity("cond", i, t, latents, positive, conditioning)
        if negative is not None and guidance_scale > 1.0:
            without = without_prompt(conditioning, positive)
            free = passes.velocity("uncond", i, t, latents, negative, without)
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
