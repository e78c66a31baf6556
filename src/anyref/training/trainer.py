"""One training run, from a recipe to weights: both families, full or LoRA, one process or many.

Everything drawn in a step follows from (seed, step, position in the global batch), so a resumed run
draws what an unbroken one would have drawn, and N processes what one draws.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint import state_dict as states

from anyref.data.index import ShardIndex
from anyref.errors import TrainingError
from anyref.models.disentanglement import Disentanglement
from anyref.pipelines import parallel
from anyref.pipelines.base import AnyRefPipeline
from anyref.training import checkpoint, export
from anyref.training.cache import ContentCache
from anyref.training.engine import Engine
from anyref.training.examples import Batch, Example, Preparer, collate, subject_regions
from anyref.training.feed import Feed, Skipped
from anyref.training.lookout import Lookout
from anyref.training.monitor import Monitor
from anyref.training.objective import flow_matching_loss, sample_sigmas
from anyref.training.optimisers import Schedule, WeightAverage, make_optimisers
from anyref.training.recipe import ObjectiveSection, Recipe
from anyref.training.texts import Texts

STEP_STRIDE, POSITION_STRIDE = 1_000_003, 65_537  # primes that keep the seeds of draws apart
NORMS_KEPT = 101  # gradient norms that the running median looks back on
CHECKPOINTS = "checkpoints"


def disentanglement(options: ObjectiveSection, pipe: AnyRefPipeline) -> Disentanglement | None:
    """What the recipe asks for, if anything.

    Raises:
        TrainingError: for a family without a canvas.
    """
    if options.disentangle is None:
        return None
    if "disentangle" not in pipe.request_options:
        raise TrainingError(
            f"objective.disentangle has no effect on a {type(pipe).__name__}, which has no canvas; "
            "set objective.disentangle=null"
        )
    return Disentanglement(**options.disentangle.model_dump())


def run(recipe: Recipe) -> None:
    """Train what the recipe says, or go on where the run folder stopped.

    Raises:
        TrainingError: or another AnyRefError, also when another run is at work in the folder.
    """
    with checkpoint.sole_run(recipe.run_folder):
        trainer = Trainer(recipe)
        try:
            trainer.fit()
        finally:
            trainer.close()


class Trainer:
    """A run: its pipeline, data, optimisers and place.

    Raises:
        TrainingError: or another AnyRefError, for whatever cannot work, before the first step.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.engine = Engine(recipe.engine)
        index = ShardIndex.open(recipe.data.shards)
        self.pipe = self.engine.load(recipe)
        self.learning = self.engine.set_up(self.pipe, recipe)
        named = dict(self.learning.named_parameters())
        self.optimisers = make_optimisers(named.items(), recipe.optim)
        self.schedule = Schedule(self.optimisers, recipe.steps, recipe.optim)
        self.average = None if recipe.optim.ema is None else WeightAverage(named, recipe.optim.ema)
        self.parameters = [p for p in named.values() if p.requires_grad]
        cache = ContentCache(recipe.data.cache)
        self.disentangle = disentanglement(recipe.objective, self.pipe)
        preparer = Preparer(
            self.pipe, recipe.data, cache, with_subjects=self.disentangle is not None
        )
        self.texts = Texts(self.pipe, cache, learning="text_encoder" in recipe.model.train)
        self.step, self._skipped_in_a_row = 0, 0
        self._norms: list[float] = []
        self._resume(index.fingerprint)
        self.monitor = Monitor(recipe, self.step, self.engine.is_main, self._about(index))
        self.feed = Feed(
            recipe,
            self.pipe,
            preparer,
            index,
            rank=self.engine.rank,
            world=self.engine.world,
            on_skip=self._left_out,
        )
        self.lookout = Lookout(
            recipe, self.pipe, preparer, self.engine, self.monitor, self.disentangle
        )

    def _about(self, index: ShardIndex) -> dict[str, Any]:
        return {
            "recipe": self.recipe.name,
            "base": self.recipe.model.base,
            "seed": self.recipe.seed,
            "processes": self.engine.world,
            "samples": len(index),
            "data_fingerprint": index.fingerprint,
            "learning_parameters": sum(p.numel() for p in self.parameters),
            "resumed_at": self.step,
        }

    def _left_out(self, skipped: Skipped) -> None:
        self.monitor.skipped(record=skipped.key, shard=skipped.shard, reason=skipped.reason)

    def fit(self) -> None:
        """Train until the steps or the minutes are over; save on the way and at the end."""
        start, recipe = time.monotonic(), self.recipe
        self.monitor.say(
            f"{recipe.name}: step {self.step} of {recipe.steps}, {len(self.feed.index)} samples, "
            f"{sum(p.numel() for p in self.parameters):,} learning parameters, "
            f"{self.engine.world} process(es), into {recipe.run_folder}"
        )
        if self.feed.unused:
            self.monitor.say(
                f"{self.feed.unused} samples lie in buckets smaller than a batch and are not used; "
                "lower batch, or add clips of their size and number of references"
            )
        saved = self.step
        while self.step < recipe.steps:
            rate = self._advance()
            late = recipe.minutes is not None and time.monotonic() - start > 60 * recipe.minutes
            late = bool(self.engine.most(int(late)))
            ended = late or self.step == recipe.steps
            if self.step % recipe.monitor.log_every == 0 or ended:
                self.monitor.log(self.step, rate, self._counts())
            if self.step % recipe.checkpoints.every == 0 or ended:
                self.save()
                saved = self.step
            self._look(ended)
            if late and self.step < recipe.steps:
                return
        if saved < self.step or self.step == recipe.steps:
            self._export()

    def _counts(self) -> dict[str, float]:
        """What was left out so far, on all processes."""
        counts = {
            "skipped_records": len(self.feed.skipped),
            "truncated_captions": self.texts.truncated,
        }
        sums = self.engine.sum(torch.tensor([*counts.values()], device=self.engine.device))
        return dict(zip(counts, sums.tolist(), strict=True))

    def _advance(self) -> float:
        """One step; its learning rate."""
        step = self.step
        rate = self.schedule.set(step)
        with self._timed("data"):
            examples = self.feed.examples(step)
        torch.manual_seed(self._seed(step, -self.engine.rank))  # for dropout inside the network
        with self._timed("model"):
            loss, sigmas, losses = self._gradients(step, examples)
            norm = self.engine.clip(self.parameters, self.recipe.optim.clip_norm)
            if self._is_sound(step, loss, norm):
                for optimiser in self.optimisers:
                    optimiser.step()
                if self.average is not None:
                    self.average.update(step + 1)
            for optimiser in self.optimisers:
                optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.monitor.add_step(loss, norm, self.feed.batch_size(step), sigmas, losses)
        return rate

    def _gradients(
        self, step: int, examples: Sequence[tuple[int, Example]]
    ) -> tuple[float, Tensor, Tensor]:
        """Accumulate gradients; the global loss, and noise level and loss of each local clip."""
        size = self.feed.batch_size(step)
        law = torch.Generator().manual_seed(self.recipe.seed * STEP_STRIDE + step)
        channels_first = examples[0][1].latents.shape
        _, rows, columns = self.pipe.rules.patch
        tokens = channels_first[2] * channels_first[3] // (rows * columns)
        sigmas = sample_sigmas(size, self.recipe.objective, tokens, law)
        kept_sigmas, kept_losses = [], []
        total = torch.zeros((), device=self.engine.device)
        for batch, counts in self._micro_batches(step, examples):
            part = sigmas[list(batch.positions)].to(self.engine.device)
            losses = self._losses(step, batch, part)
            share = losses.sum() / len(examples) if counts else 0.0 * losses.sum()
            share.backward()
            if counts:
                total += share.detach()
                kept_sigmas.append(part)
                kept_losses.append(losses.detach())
        return (
            float(self.engine.mean(total)),
            torch.cat(kept_sigmas),
            torch.cat(kept_losses),
        )

    def _micro_batches(
        self, step: int, examples: Sequence[tuple[int, Example]]
    ) -> list[tuple[Batch, bool]]:
        """Batches of equal shapes, as many on every process; False marks one that only keeps step.

        Sharded parameters are gathered in every pass, so all processes must make equally many.
        """
        share = len(examples) // self.recipe.engine.accumulation
        made: list[tuple[Batch, bool]] = []
        for first in range(0, len(examples), share):
            part = examples[first : first + share]
            batches = [(b, True) for b in collate(part, self.feed.frames(step))]
            missing = self.engine.most(len(batches)) - len(batches)
            made += batches + [(batches[-1][0], False)] * missing
        return made

    def _losses(self, step: int, batch: Batch, sigmas: Tensor) -> Tensor:
        """(B,) loss of each clip of a batch."""
        device, dtype = self.engine.device, self.engine.input_dtype(self.pipe.transformer)
        noise, texts, words = [], [], []
        for position, text, named in zip(batch.positions, batch.texts, batch.words, strict=True):
            generator = torch.Generator().manual_seed(self._seed(step, position + 1))
            kept = torch.rand((), generator=generator) >= self.recipe.data.text_dropout
            texts.append(text if kept else "")
            words.append(named if kept else ((),) * len(named))
            noise.append(torch.randn(batch.latents.shape[1:], generator=generator))
        weight = 1 + self.recipe.objective.subject_weight * batch.subject.to(device)
        conditioning = batch.conditioning
        if self.disentangle is not None:
            subjects = subject_regions(batch, words, self.texts.length, self.disentangle)
            conditioning = replace(conditioning, subjects=subjects)
        with self.engine.autocast():
            return flow_matching_loss(
                self.pipe.transformer,
                batch.latents.to(device),
                conditioning.map(lambda x: x.to(device, dtype)),
                self.texts.encode(texts).to(dtype=dtype),
                sigmas,
                torch.stack(noise).to(device),
                weight / weight.mean(dim=(1, 2, 3, 4), keepdim=True),
            )

    def _seed(self, step: int, number: int) -> int:
        """Of draw number `number` in a step."""
        return ((self.recipe.seed * STEP_STRIDE + step) * POSITION_STRIDE + number) % 2**63

    def _is_sound(self, step: int, loss: float, norm: float) -> bool:
        """Whether a step may count; reports one that may not.

        Raises:
            TrainingError: by policy, at once or after too many in a row.
        """
        recipe, middle = self.recipe, median(self._norms) if self._norms else norm
        finite = math.isfinite(loss) and math.isfinite(norm)
        spike = recipe.spike is not None and len(self._norms) >= 20 and norm > recipe.spike * middle
        if finite and not spike:
            self._norms = [*self._norms, norm][-NORMS_KEPT:]
            self._skipped_in_a_row = 0
            return True
        self._skipped_in_a_row += 1
        what = f"loss {loss}, gradient norm {norm:.3g} (median {middle:.3g})"
        keys = list(self.feed.keys(step))
        self.monitor.skipped(step=step, reason=what, records=keys)
        if recipe.on_nonfinite == "stop" or self._skipped_in_a_row > recipe.max_skipped:
            raise TrainingError(
                f"step {step}: {what}, records {', '.join(keys[:8])}; lower optim.learning_rate or "
                f"leave the records out, and resume from {recipe.run_folder}"
            )
        return False

    def _look(self, ended: bool) -> None:
        """Validation and samples, with the averaged weights."""
        if not self.lookout.due(self.step, ended):
            return
        with self._timed("look"), self._averaged():
            self.lookout.look(self.step, ended, self.texts)

    @contextmanager
    def _averaged(self) -> Any:
        self.learning.eval()
        if self.average is not None:
            self.average.swap()
        try:
            yield
        finally:
            if self.average is not None:
                self.average.swap()
            self.learning.train()

    def _tensors(self) -> dict[str, Any]:
        options = states.StateDictOptions(ignore_frozen_params=True)
        tensors = {
            "model": states.get_model_state_dict(self.learning, options=options),
            "optimisers": states.get_optimizer_state_dict(
                self.learning, self.optimisers, options=options
            ),
        }
        if self.average is not None:
            tensors["average"] = self.average.state_dict()
        return tensors

    def save(self) -> Path:
        """Write a checkpoint of this step."""
        notes = {
            "step": self.step,
            "norms": self._norms,
            "skipped_in_a_row": self._skipped_in_a_row,
            "fingerprint": self.feed.index.fingerprint,
            "processes": self.engine.world,
        }
        folder = self.recipe.run_folder / CHECKPOINTS
        with self._timed("checkpoint"):
            return checkpoint.save(
                folder, self.step, self._tensors(), notes, self.recipe.checkpoints.keep
            )

    def _resume(self, fingerprint: str) -> None:
        path = checkpoint.newest(self.recipe.run_folder / CHECKPOINTS)
        if path is None:
            return
        chosen = [{k: v for k, v in g.items() if k != "params"} for g in self.schedule.groups()]
        tensors = self._tensors()
        notes = checkpoint.load(path, tensors)
        if notes["fingerprint"] != fingerprint:
            raise TrainingError(
                f"{path} was trained on other shards than data.shards now names; "
                "restore them, or choose another folder to start anew"
            )
        options = states.StateDictOptions(ignore_frozen_params=True, strict=False)
        states.set_model_state_dict(self.learning, tensors["model"], options=options)
        states.set_optimizer_state_dict(
            self.learning, self.optimisers, tensors["optimisers"], options=options
        )
        for group, settings in zip(self.schedule.groups(), chosen, strict=True):
            group.update(settings)  # the recipe's, not the checkpoint's
        if self.average is not None:
            self.average.load_state_dict(tensors["average"])
        self.step, self._norms = notes["step"], notes["norms"]
        self._skipped_in_a_row = notes["skipped_in_a_row"]

    def _export(self) -> None:
        try:
            with self._averaged():
                where = export.write(self.pipe, self.recipe)
        except (OSError, SafetensorError) as error:
            raise TrainingError(
                f"trained weights cannot be written to {str(self.recipe.run_folder)!r}: {error}; "
                "the last checkpoint is whole, make room and start again"
            ) from error
        self.monitor.say(f"trained weights in {where}")

    @contextmanager
    def _timed(self, part: str) -> Any:
        start = time.monotonic()
        yield
        self.monitor.add_seconds(part, time.monotonic() - start)

    def close(self) -> None:
        """Stop reading ahead, flush the curves, leave the processes."""
        self.feed.close()
        self.monitor.close()
        parallel.stop()
