"""Held-out losses and sample videos along the way.

Axes: B batch.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from anyref.data.index import ShardIndex
from anyref.data.record import Video
from anyref.errors import AnyRefError, TrainingError
from anyref.media import open_picture
from anyref.models.disentanglement import Disentanglement
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.generation import generate
from anyref.request import Request
from anyref.training.cache import CacheError
from anyref.training.draws import Draw, draw
from anyref.training.engine import ENCODERS, Engine, at_work
from anyref.training.examples import (
    Example,
    Preparer,
    clip_shape,
    collate,
    sample_key,
    subject_regions,
)
from anyref.training.monitor import Monitor
from anyref.training.objective import flow_matching_loss
from anyref.training.recipe import Recipe
from anyref.training.texts import Texts

SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)
GROUP = 8  # held-out clips per pass


class Lookout:
    """Looks at a model on held-out shards; does nothing where the recipe names none."""

    def __init__(
        self,
        recipe: Recipe,
        pipe: AnyRefPipeline,
        preparer: Preparer,
        engine: Engine,
        monitor: Monitor,
        disentangle: Disentanglement | None,
    ) -> None:
        self.recipe, self.pipe, self.preparer = recipe, pipe, preparer
        self.engine, self.monitor, self.disentangle = engine, monitor, disentangle
        shards = recipe.monitor.validation_shards
        self.index = ShardIndex.open(shards) if shards else None
        self._examples: list[Example] | None = None

    def due(self, step: int, ended: bool) -> bool:
        """Whether there is anything to look at after this step."""
        options = self.recipe.monitor
        if self.index is None:
            return False
        periods = (options.validate_every, options.sample_every)
        return any(every and (ended or step % every == 0) for every in periods)

    @torch.no_grad()
    def look(self, step: int, ended: bool, texts: Texts) -> None:
        """Validation loss at fixed noise levels, and sample videos, as often as each is due."""
        options = self.recipe.monitor
        with torch.compiler.set_stance("force_eager"):
            if options.validate_every and (ended or step % options.validate_every == 0):
                self.monitor.validation(step, self._validate(step, texts))
            if options.sample_every and (ended or step % options.sample_every == 0):
                self._sample(step)

    def _validate(self, step: int, texts: Texts) -> dict[float, float]:
        examples = self._held_out()
        device, dtype = self.engine.device, self.engine.input_dtype(self.pipe.transformer)
        sums = torch.zeros(len(SIGMAS), device=device)
        count = torch.zeros((), device=device)
        frames = self.recipe.frames_at(max(0, step - 1))
        for first in range(0, len(examples), GROUP):
            numbered = list(enumerate(examples[first : first + GROUP], start=first))
            for batch in collate(numbered, frames):
                latents = batch.latents.to(device)
                noise = torch.stack(
                    [
                        torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(p))
                        for p in batch.positions
                    ]
                ).to(latents)
                conditioning = batch.conditioning
                if self.disentangle is not None:
                    how = self.disentangle
                    subjects = subject_regions(batch, batch.words, texts.length, how)
                    conditioning = replace(conditioning, subjects=subjects)
                conditioning = conditioning.map(lambda x: x.to(device, dtype))
                with self.engine.autocast():
                    text = texts.encode(batch.texts).to(dtype=dtype)
                    for k, sigma in enumerate(SIGMAS):
                        losses = flow_matching_loss(
                            self.pipe.transformer,
                            latents,
                            conditioning,
                            text,
                            torch.full((len(latents),), sigma, device=device),
                            noise,
                        )
                        sums[k] += losses.sum()
                count += len(latents)
        means = self.engine.sum(sums) / self.engine.sum(count)
        return dict(zip(SIGMAS, means.tolist(), strict=True))

    def _held_out(self) -> list[Example]:
        """Every process holds all held-out clips: sharded passes must be equally many.

        Raises:
            TrainingError: when none of them can be used.
        """
        if self._examples is None:
            wanted = range(self._count(self.recipe.monitor.validation_samples))
            made = [self._held_out_example(i) for i in wanted]
            self._examples = [example for example in made if example is not None]
            if not self._examples:
                raise TrainingError(
                    f"none of {len(made)} samples of monitor.validation_shards can be used, see "
                    f"skipped.jsonl in {self.recipe.run_folder}; name other shards or none"
                )
        return self._examples

    def _held_out_example(self, i: int) -> Example | None:
        """None, on all processes, for one that cannot be used on any."""
        entry, seed = self.index.entries[i], f"held out/{i}"  # type: ignore[union-attr]
        made, reason = None, "another process cannot use it"
        try:
            packed = self.index.read(i)  # type: ignore[union-attr]
            key = self.preparer.key(sample_key(packed), seed)
            made = self.preparer.cached(key) or self.preparer.prepare(packed, seed, key)
        except CacheError:
            raise
        except AnyRefError as error:
            reason = str(error)
        if not self.engine.most(int(made is None)):
            return made
        if self.engine.is_main:
            self.monitor.skipped(record=entry.key, shard=entry.shard, reason=reason)
        return None

    def _count(self, wanted: int) -> int:
        return min(wanted, len(self.index or ()))

    def _sample(self, step: int) -> None:
        for i in range(self._count(self.recipe.monitor.samples)):
            packed = self.index.read(i)  # type: ignore[union-attr]
            drawn = draw(packed, self.recipe.data, f"sample/{i}")
            encoders = [getattr(self.pipe, name, None) for name in ENCODERS]
            try:
                request = self._request(drawn, packed.record.video, step, i)
                # the next step's samples are being encoded meanwhile, with the same VAE
                with self.pipe.encoders, at_work(self.pipe.transformer.device, *encoders):
                    made = generate(self.pipe, request)
            except AnyRefError as error:
                raise TrainingError(f"sample {packed.record.id!r}: {error}") from error
            pictures = [open_picture(p) for r in drawn.references for p in r.images]
            self.monitor.sample(step, i, made.frames, made.fps, pictures, drawn.prompt)

    def _request(self, drawn: Draw, video: Video, step: int, seed: int) -> Request:
        """A held-out clip's request, at the size and length that this step trained on.

        Disentanglement acts at the recipe's strength, with the default choices.
        """
        shape = clip_shape(self.recipe.data, (video.num_frames, video.height, video.width))
        rules, latent = self.pipe.rules, self.recipe.frames_at(max(0, step - 1))
        frames = shape.num_frames
        if latent is not None:
            frames = min(frames, (latent - 1) * rules.temporal + 1)
        named = any(reference.name for reference in drawn.references)
        return Request(
            prompt=drawn.prompt,
            references=drawn.references,
            height=shape.height,
            width=shape.width,
            num_frames=max(1, frames - rules.lead_frames),
            disentangle=self.disentangle.alpha if self.disentangle and named else None,
            seed=seed,
        )
