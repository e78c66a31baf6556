"""The denoising loop, and the one pass of the transformer that sampling and training share.

Axes: B batch, C channels, L text tokens, F latent frames, H W latent rows and columns, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from anyref.errors import RequestError
from anyref.models.disentanglement import disentangled
from anyref.models.passes import AttentionPass, Memory
from anyref.models.reuse import attending
from anyref.models.sequence import WHOLE, sequence_place
from anyref.models.step_cache import skipping
from anyref.models.strength import StrengthOfVideo, check_steps
from anyref.pipelines.conditioning import Conditioning
from anyref.pipelines.side_by_side import Pairs, fits, side_by_side
from anyref.pipelines.speed import EXACT, Pace

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
    tokens = None  # of the whole sequence, asked for only where it is split
    if sequence_place(transformer) != WHOLE:
        tokens = math.prod(x.shape[2:]) // math.prod(transformer.config.patch_size)
    with nullcontext() if subjects is None else disentangled(transformer, subjects, tokens):
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


@dataclass(frozen=True)
class GuidancePlace:
    """Which of guidance's passes this process makes: the one of its rank, or both when alone.

    Args:
        group: the processes that make one pass each, conditional first.
    """

    rank: int = 0
    count: int = 1
    group: Any = None

    def exchanged(self, own: Tensor) -> tuple[Tensor, Tensor]:
        """The conditional and the unconditional velocity; each process gives its own."""
        both = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(both, own.contiguous(), group=self.group)
        return both[0], both[1]

    def from_first(self, own: Tensor) -> Tensor:
        """The first process's tensor; the others give one of its shape."""
        shared = own.contiguous()
        if self.count > 1:
            dist.broadcast(shared, group=self.group, group_src=0)
        return shared


BOTH = GuidancePlace()


class VideoPasses:
    """The passes of one video, and what they share.

    Args:
        like: the video's noise (B, C, F, H, W). num_steps: denoising steps in all.
        kernels: compute by `cpu_kernels` where they apply.
        remember: keep what stays the same between steps.
        sharing: which of guidance's passes this process makes.

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
        sharing: GuidancePlace = BOTH,
    ) -> None:
        self.transformer, self.attention_kwargs = transformer, attention_kwargs
        self.num_steps, self.kernels, self.sharing = num_steps, kernels, sharing
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
            run.bias = self.strength.bias(branch, step / self.num_steps, x, self.place)
        place = {"step_index": step, "num_inference_steps": self.num_steps}
        with (
            self.transformer.cache_context(branch, **place),
            attending(self.transformer, run),
        ):
            velocity = predict_velocity(
                self.transformer, x, timestep.expand(len(x)), text, made, self.attention_kwargs
            )
        if self.strength is not None and run.bias is not None:
            self.strength.learn(branch, run.bias)
        return velocity.float()

    def guided(
        self,
        step: int,
        timestep: Tensor,
        x: Tensor,
        texts: tuple[Tensor, Tensor | None],
        made: Conditioning,
        scale: float,
        both: Pairs[Tensor],
    ) -> Tensor:
        """Velocity of one step: v_neg + g (v_pos - v_neg), or v_pos without a negative text.

        Args:
            texts: positive and negative, (B, L, D) each. scale: g. both: runs two passes.
                The others as in `velocity`.
        """
        positive, negative = texts
        alone, first = self.sharing.count == 1, self.sharing.rank == 0

        def prompted() -> Tensor:
            return self.velocity("cond", step, timestep, x, positive, made)

        def unprompted() -> Tensor:
            assert negative is not None
            free = without_prompt(made, positive)
            return self.velocity("uncond", step, timestep, x, negative, free)

        if negative is None:
            return self.sharing.from_first(prompted() if first else torch.empty_like(x))
        if alone:
            velocity, free = both(prompted, unprompted)
        else:
            velocity, free = self.sharing.exchanged(prompted() if first else unprompted())
        return free + scale * (velocity - free)

    def independent(self, x: Tensor, made: Conditioning) -> bool:
        """Whether the passes of a step know nothing of each other, and gain by running at once."""
        alone = self.sharing.count == 1 and self.place == WHOLE
        plain = self.strength is None and made.subjects is None
        return alone and plain and fits(self.transformer, x)


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
    pace: Pace = EXACT,
    sharing: GuidancePlace = BOTH,
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
        pace: what may be left out. sharing: which of the passes this process makes.

    Returns:
        (B, C, F, H, W) float32.
    """
    positive, negative = text
    steps = scheduler.timesteps
    passes = VideoPasses(
        transformer,
        conditioning,
        latents,
        len(steps),
        attention_kwargs,
        kernels=kernels,
        sharing=sharing,
    )
    with (
        skipping(transformer, pace.step_cache, len(steps)),
        side_by_side(at_once=passes.independent(latents, conditioning)) as both,
    ):
        for i, t in enumerate(steps):
            guided = guidance_scale > 1.0 and pace.guides(i, len(steps))
            texts = (positive, negative if guided else None)
            velocity = passes.guided(i, t, latents, texts, conditioning, guidance_scale, both)
            latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
            if callback is not None:
                latents, positive, negative = _after(callback, i, t, (latents, positive, negative))
    return latents


def _after(
    callback: StepCallback,
    step: int,
    timestep: Tensor,
    values: tuple[Tensor, Tensor, Tensor | None],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Latents and both texts as a callback leaves them."""
    names = ("latents", "prompt_embeds", "negative_prompt_embeds")
    tensors: dict[str, Tensor | None] = dict(zip(names, values, strict=True))
    changed: dict[str, Any] = tensors | callback(step, timestep, tensors)
    return changed[names[0]], changed[names[1]], changed[names[2]]
