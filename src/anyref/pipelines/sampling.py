"""The denoising loop, and the one pass of the transformer that sampling and training share.

Axes: B batch, C channels, L text tokens, F latent frames, H W latent rows and columns, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
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
from anyref.models.strength import StrengthOfVideo
from anyref.pipelines.conditioning import Conditioning
from anyref.pipelines.side_by_side import Together, fits, side_by_side
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
    """Which of a step's passes this process makes: every count-th from its rank on.

    Args:
        group: the processes that share the passes.
    """

    rank: int = 0
    count: int = 1
    group: Any = None

    def made(
        self, passes: Sequence[Callable[[], Tensor]], like: Tensor, together: Together[Tensor]
    ) -> list[Tensor]:
        """What all passes give, each (B, C, F, H, W) float32 as `like` is large."""
        if self.count == 1:
            return together(passes)
        mine = [i % self.count == self.rank for i in range(len(passes))]
        shared = [
            run().contiguous()
            if own
            else torch.empty(like.shape, dtype=torch.float32, device=like.device)
            for run, own in zip(passes, mine, strict=True)
        ]
        for i, tensor in enumerate(shared):
            dist.broadcast(tensor, group=self.group, group_src=i % self.count)
        return shared


BOTH = GuidancePlace()


class VideoPasses:
    """The passes of one video, and what they share.

    Args:
        like: the video's noise (B, C, F, H, W). num_steps: denoising steps in all.
        kernels: compute by `cpu_kernels` where they apply.
        remember: keep what stays the same between steps.
        sharing: which of guidance's passes this process makes. pace: when guidance acts.
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
        pace: Pace = EXACT,
    ) -> None:
        self.transformer, self.attention_kwargs = transformer, attention_kwargs
        self.num_steps, self.kernels, self.sharing, self.pace = num_steps, kernels, sharing, pace
        self.memory = Memory() if remember else None
        self.texts: dict[str, tuple[Tensor, int]] = {}
        self.place = sequence_place(transformer)
        self.strength = None
        if conditioning.strength is not None:
            tokens = math.prod(like.shape[2:]) // math.prod(transformer.config.patch_size)
            self.strength = StrengthOfVideo(
                conditioning.strength,
                tokens + conditioning.strength.leading,
                len(transformer.blocks),
            )

    def velocity(
        self,
        branch: str,
        step: int,
        timestep: Tensor,
        x: Tensor,
        text: Tensor,
        made: Conditioning,
        without: int | None = None,
    ) -> Tensor:
        """One pass.

        Args:
            branch: "cond" or "uncond". step: counted from 0. timestep: (). x: (B, C, F, H, W).
            text: (B, L, D). without: number of a reference with a strength that is hidden.

        Returns:
            (B, C, F, H, W) float32: guidance and the solver stay in it, as in Wan.
        """
        run = AttentionPass(None, self.memory, branch, step, self.kernels, without)
        if self.strength is not None:
            progress = step / self.num_steps
            run.bias = self.strength.bias(branch, progress, x, self.place, without)
        place = {"step_index": step, "num_inference_steps": self.num_steps}
        context = branch if without is None else f"{branch} without {without}"
        with (
            self.transformer.cache_context(context, **place),
            attending(self.transformer, run),
        ):
            velocity = predict_velocity(
                self.transformer, x, timestep.expand(len(x)), text, made, self.attention_kwargs
            )
        if self.strength is not None and run.bias is not None:
            self.strength.learn(branch, run.bias)
        return velocity.float()

    def _forget_what_changed(self, texts: dict[str, Tensor]) -> None:
        """Drop what was kept of the step before, and of texts that a callback has replaced.

        Args:
            texts: by branch. Passes that run at once find nothing to drop.
        """
        if self.memory is None:
            return
        for branch, text in texts.items():
            version = 0 if text.is_inference() else text._version  # it grows with every writing
            known, seen = self.texts.get(branch, (None, 0))
            if known is not text or seen != version:
                self.memory.forget(branch)
                self.texts[branch] = (text, version)
        self.memory.first = None

    def guided(
        self,
        step: int,
        timestep: Tensor,
        x: Tensor,
        texts: tuple[Tensor, Tensor | None],
        made: Conditioning,
        scale: float,
        together: Together[Tensor],
    ) -> Tensor:
        """Velocity of a step with guidance on text, and on references of the map "guidance".

        v + g (v_pos - v) + sum_k (gamma_k - 1) (v - v_k), where v is that of the negative text and
        v_k the same without reference k. Without a negative text, or at g <= 1, v is v_pos; in
        steps without guidance there is v_pos alone.

        Args:
            texts: positive and negative, (B, L, D) each. scale: g. together: runs the passes.
                The others as in `velocity`.
        """
        positive, negative = texts
        at, guides = (step, timestep, x), self.pace.guides(step, self.num_steps)
        passes, read = [partial(self.velocity, "cond", *at, positive, made)], {"cond": positive}
        if guides and negative is not None and scale > 1.0:
            free, read["uncond"] = without_prompt(made, positive), negative
            passes.append(partial(self.velocity, "uncond", *at, negative, free))
        self._forget_what_changed(read)
        last = len(passes) - 1
        contrasts = self.strength.contrasts if guides and self.strength is not None else []
        passes += [partial(passes[last], without=k) for k, _ in contrasts]
        velocities = self.sharing.made(passes, x, together)
        velocity = full = velocities[last]
        if last == 1:
            velocity = full + scale * (velocities[0] - full)
        for (_, weight), hidden in zip(contrasts, velocities[last + 1 :], strict=True):
            velocity = velocity + weight * (full - hidden)
        return velocity

    def independent(self, x: Tensor, made: Conditioning) -> bool:
        """Whether the passes of a step know nothing of each other, and gain by running at once."""
        alone = self.sharing.count == 1 and self.place == WHOLE and not self.attention_kwargs
        biased = self.strength is not None and self.strength.strength.map != "guidance"
        return alone and not biased and made.subjects is None and fits(self.transformer, x)


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
    remember: bool = True,
    pace: Pace = EXACT,
    sharing: GuidancePlace = BOTH,
) -> Tensor:
    """From noise to clean latents, over the timesteps that the scheduler was given.

    Conditional and unconditional passes share the references; what a step consists of:
    `VideoPasses.guided`.

    Args:
        latents: (B, C, F, H, W) float32 noise.
        text: positive and negative embeddings, (B, L, D) each.
        callback: called after each step with its index, timestep and tensors; what it returns
            replaces them.
        kernels: compute by `models.cpu_kernels` where they apply.
        remember: keep what stays the same between steps.
        pace: what may be left out. sharing: which of the passes this process makes.

    Returns:
        (B, C, F, H, W) float32.
    """
    steps = scheduler.timesteps
    passes = VideoPasses(
        transformer,
        conditioning,
        latents,
        len(steps),
        attention_kwargs,
        kernels=kernels,
        remember=remember,
        sharing=sharing,
        pace=pace,
    )
    if passes.strength is not None:
        passes.strength.check(len(steps))
    with (
        skipping(transformer, pace.step_cache, len(steps)),
        side_by_side(at_once=passes.independent(latents, conditioning)) as together,
    ):
        for i, t in enumerate(steps):
            velocity = passes.guided(i, t, latents, text, conditioning, guidance_scale, together)
            latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
            if callback is not None:
                latents, positive, negative = _after(callback, i, t, (latents, *text))
                text = (positive, negative)
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
