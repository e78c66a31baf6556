"""Synthesis with FLUX.1: Fill paints a new background, Redux renders the subject again.

Axes: L tokens, D features, Y X pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anyref.errors import PerceptionError
from anyref.perception.contracts import Mask, ModelCard, Picture, check_pairs
from anyref.perception.large_checkpoints import (
    BROKEN,
    FLUX_DEV,
    FLUX_FILL,
    FLUX_REDUX,
    Checkpoint,
    check_device,
    checkpoint,
    joined_digest,
    torch_dtype,
    unloadable,
)

FILL_GUIDANCE, GUIDANCE = 30.0, 2.5  # as the models' cards use them
MAX_TOKENS = 512  # of a prompt, for T5


class FluxImages:
    """FLUX.1 Fill, Redux and dev (Black Forest Labs 2024), each loaded when first needed.

    Args:
        fill, redux, base: checkpoints of diffusers, folders, or hub names that were fetched.
        base: the text-to-image model that renders what Redux saw.
        device, dtype: torch's names; all three take about 90 GB in bfloat16.
        steps: of denoising. max_side: pixels of the longer side that is rendered.
        strength: of the picture's tokens and the prompt's in `vary`; below 1 the pose is freer.
    """

    def __init__(
        self,
        fill: Checkpoint | str | Path = FLUX_FILL,
        redux: Checkpoint | str | Path = FLUX_REDUX,
        base: Checkpoint | str | Path = FLUX_DEV,
        *,
        device: str = "cuda",
        dtype: str = "bfloat16",
        steps: int = 30,
        max_side: int = 1024,
        strength: float = 1.0,
    ) -> None:
        self.fill, self.redux, self.base = checkpoint(fill), checkpoint(redux), checkpoint(base)
        self.device = device
        self.dtype = dtype
        self.steps = steps
        self.max_side = max_side
        self.strength = float(strength)

    @cached_property
    def card(self) -> ModelCard:
        """One card of the three models. Raises PerceptionError when one is not here."""
        cards = [part.card() for part in (self.fill, self.redux, self.base)]
        return ModelCard(
            name="+".join(card.name for card in cards),
            version="+".join(card.version for card in cards),
            sha256=joined_digest([card.sha256 for card in cards]),
            licence="; ".join(dict.fromkeys(card.licence for card in cards)),
            doubt="; ".join(dict.fromkeys(card.doubt for card in cards if card.doubt)),
        )

    @cached_property
    def painter(self) -> Any:
        """diffusers.FluxFillPipeline."""
        return self._load("FluxFillPipeline", self.fill)

    @cached_property
    def renderer(self) -> Any:
        """diffusers.FluxPipeline."""
        return self._load("FluxPipeline", self.base)

    @cached_property
    def prior(self) -> Any:
        """diffusers.FluxPriorReduxPipeline, with the renderer's text encoders."""
        texts = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        shared = {name: getattr(self.renderer, name) for name in texts}
        return self._load("FluxPriorReduxPipeline", self.redux, **shared)

    def inpaint(
        self,
        pictures: Sequence[Picture],
        masks: Sequence[Mask],
        prompts: Sequence[str],
        seeds: Sequence[int],
    ) -> list[Picture]:
        """Each picture painted anew where its mask is 1, mixed by it between, unchanged at 0.

        Raises:
            PerceptionError: for pictures of another form, lengths that differ, a mask of another
                size than its picture, or weights that are missing.
        """
        for others, what in ((masks, "masks"), (prompts, "prompts"), (seeds, "seeds")):
            check_pairs(pictures, others, what)
        for number, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
            if mask.shape != picture.shape[:2]:
                raise PerceptionError(
                    f"mask {number} has shape {mask.shape} and its picture {picture.shape[:2]}; "
                    "give masks of the pictures' sizes"
                )
        rows = zip(pictures, masks, prompts, seeds, strict=True)
        return [self._inpaint_one(*row) for row in rows]

    def vary(
        self, pictures: Sequence[Picture], prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[Picture]:
        """The subject of each picture rendered again, as the prompt says, at the same size.

        Raises:
            PerceptionError: for pictures of another form, lengths that differ, or weights that are
                missing.
        """
        check_pairs(pictures, prompts, "prompts")
        check_pairs(pictures, seeds, "seeds")
        return [self._vary_one(*row) for row in zip(pictures, prompts, seeds, strict=True)]

    def _inpaint_one(self, picture: Picture, mask: Mask, prompt: str, seed: int) -> Picture:
        width, height = self._size(picture, self.painter)
        soft = mask.clip(0, 1)
        region = Image.fromarray(np.uint8(np.where(soft > 0, 255, 0)))
        image = self.painter(
            prompt=prompt,
            image=Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS),
            mask_image=region.resize((width, height), Image.Resampling.NEAREST),
            width=width,
            height=height,
            num_inference_steps=self.steps,
            guidance_scale=FILL_GUIDANCE,
            generator=_generator(seed),
            max_sequence_length=MAX_TOKENS,
        ).images[0]
        painted = _as_large_as(picture, image)
        mixed = picture + soft[..., None] * (painted.astype(np.float32) - picture)
        return np.rint(mixed).astype(np.uint8)

    def _vary_one(self, picture: Picture, prompt: str, seed: int) -> Picture:
        width, height = self._size(picture, self.renderer)
        seen = self.prior(
            Image.fromarray(picture),
            prompt=prompt,
            prompt_embeds_scale=self.strength,
            pooled_prompt_embeds_scale=self.strength,
        )
        image = self.renderer(
            prompt_embeds=seen.prompt_embeds,  # (1, L, D)
            pooled_prompt_embeds=seen.pooled_prompt_embeds,  # (1, D)
            width=width,
            height=height,
            num_inference_steps=self.steps,
            guidance_scale=GUIDANCE,
            generator=_generator(seed),
        ).images[0]
        return _as_large_as(picture, image)

    def _size(self, picture: Picture, pipeline: Any) -> tuple[int, int]:
        """Width and height near the picture's, within `max_side`, that the pipeline can make."""
        height, width = picture.shape[:2]
        scale = min(1.0, self.max_side / max(height, width))
        step = 2 * int(pipeline.vae_scale_factor)
        across, down = (max(step, step * round(side * scale / step)) for side in (width, height))
        return across, down

    def _load(self, name: str, source: Checkpoint, **parts: Any) -> Any:
        """A pipeline of diffusers on the device.

        Raises:
            PerceptionError: when the folder has no safetensors or does not load.
        """
        import diffusers

        source.weights()
        folder = source.folder()
        try:
            pipeline = getattr(diffusers, name).from_pretrained(
                folder,
                dtype=torch_dtype(self.dtype),
                use_safetensors=True,
                local_files_only=True,
                **parts,
            )
        except BROKEN as error:
            raise unloadable(folder, name, error) from error
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(check_device(self.device))


def _generator(seed: int) -> Any:
    """A source of noise on the CPU, so that the device does not change it."""
    import torch

    return torch.Generator("cpu").manual_seed(seed)


def _as_large_as(picture: Picture, image: Image.Image) -> Picture:
    """The image at the picture's size."""
    height, width = picture.shape[:2]
    return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS))
