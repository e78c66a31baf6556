"""What a recipe needs, told without weights: parameters, memory, operations, time.

Counts of weights come from the meta device, memory and operations of a step from a dry run
(`training.dry_run`). Peaks are NVIDIA's dense bfloat16 figures with float32 accumulation (data
sheets of H100, H200, A100, B200, L40S; whitepapers of Ada and Blackwell for the RTX cards).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from anyref.errors import TrainingError
from anyref.training.dry_run import StepCost, learning_transformer, measure_step
from anyref.training.recipe import Recipe
from anyref.training.shapes import Architecture, architecture

UTILISATION = 0.4
RESERVE = 2.0 * 2**30  # CUDA's context, its libraries' workspaces, gaps between allocations
FULL, HALF = 4, 2  # bytes
# bitsandbytes: 8 bits and a scale per row; 4 bits and a float32 scale per 64 weights
QUANTISED_BYTES = {"int8": 1.0, "nf4": 0.5 + 4 / 64}
# two moments of 8 bits, each with a float32 scale per 256 values
ADAMW8BIT_BYTES = 2 * (1 + 4 / 256)


@dataclass(frozen=True)
class Gpu:
    """A device: dense bf16 operations per second, and bytes."""

    flops: float
    memory: float


GPUS: Mapping[str, Gpu] = {
    name: Gpu(teraflops * 1e12, gib * 2**30)
    for name, teraflops, gib in (
        ("b200", 2250, 179),
        ("h200", 989, 140),
        ("h100", 989, 79),
        ("h100-pcie", 756, 79),
        ("a100", 312, 79),
        ("l40s", 362, 44),
        ("rtx-6000-ada", 364, 47),
        ("5090", 209, 31.8),
        ("4090", 165, 23.9),
        ("3090", 71, 23.9),
    )
}


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one process.

    Args:
        weights: of the transformer and of what learns. encoders: frozen parts beside it.
        gathered: what is held whole for a moment: sharded blocks and their gradients, or the widest
            layer of a quantised base.
        activations: everything else alive at the peak of forward and backward, half-precision
            copies of float32 weights too. update: what the optimiser needs when those are gone.
    """

    weights: float
    gradients: float
    optimizer: float
    average: float
    encoders: float
    gathered: float
    activations: float
    update: float

    @property
    def total(self) -> float:
        """The peak."""
        kept = self.weights + self.gradients + self.optimizer + self.average + self.encoders
        return kept + max(self.gathered + self.activations, self.update)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A part of the run with one length of clip.

    Args:
        latent: (F, H, W). video_tokens, reference_tokens: per sample.
        batch: samples per step. micro_batch: samples at once on one process.
        flops: per step, recomputation included. forward_flops: of them, the first forward pass.
        seconds: per step.
    """

    steps: int
    latent: tuple[int, int, int]
    video_tokens: int
    reference_tokens: int
    batch: int
    micro_batch: int
    forward_flops: float
    flops: float
    seconds: float
    activations: float

    @property
    def tokens(self) -> int:
        """Per step, references included."""
        return self.batch * (self.video_tokens + self.reference_tokens)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run needs.

    Args:
        parameters: of the transformer with its adapters, and of a text encoder that learns.
        size: (height, width, network frames) in pixels.
        notes: what the figures assume or leave out.
    """

    shape: str
    gpu: str
    world: int
    utilisation: float
    parameters: int
    trainable: int
    size: tuple[int, int, int]
    memory: Memory
    phases: tuple[Phase, ...]
    notes: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return sum(phase.steps * phase.seconds for phase in self.phases)

    @property
    def fits(self) -> bool:
        """True when the peak leaves the reserve free on the GPU."""
        return self.memory.total + RESERVE <= GPUS[self.gpu].memory


def make_plan(
    recipe: Recipe, gpu: str = "h200", world: int = 1, utilisation: float = UTILISATION
) -> Plan:
    """Tell what a recipe needs, on `world` GPUs of a named kind.

    Args:
        utilisation: share of the GPU's peak that the step is assumed to reach.

    Raises:
        TrainingError: an unknown GPU, a batch too small for the processes, a share outside (0, 1],
            no architecture to go by.
        SizeError: a size that the model cannot make.
    """
    _check(recipe, gpu, world, utilisation)
    model = architecture(recipe.model.base, recipe.model.shape)
    sharded = world > 1
    size = _size(recipe, model)
    phases = tuple(
        _phase(recipe, model, latent, steps, gpu, world, utilisation)
        for latent, steps in _lengths(recipe, model.latent_shape(*size))
    )
    weights = _Weights.count(recipe, model)
    memory = weights.memory(recipe, world, max(phase.activations for phase in phases))
    return Plan(
        shape=model.name,
        gpu=gpu,
        world=world,
        utilisation=utilisation,
        parameters=weights.learning + weights.frozen,
        trainable=weights.learning,
        size=size,
        memory=memory,
        phases=phases,
        notes=tuple(_notes(recipe, sharded)),
    )


def _check(recipe: Recipe, gpu: str, world: int, utilisation: float) -> None:
    if gpu not in GPUS:
        near = difflib.get_close_matches(gpu, GPUS, 1)
        hint = f", did you mean {near[0]}?" if near else ";"
        raise TrainingError(f"GPU {gpu!r} is not known{hint} known: {', '.join(GPUS)}")
    if world < 1 or not 0 < utilisation <= 1:
        raise TrainingError(
            f"world {world}, utilisation {utilisation}; give 1 or more, and a share in (0, 1]"
        )
    if world > 1 and recipe.engine.sharding == "none":
        raise TrainingError(
            f"engine.sharding none runs on one process, {world} were asked; use sharding=fsdp"
        )
    least = world * recipe.engine.accumulation
    if recipe.batch is not None and recipe.batch % least:
        raise TrainingError(
            f"batch {recipe.batch} does not split over {world} processes x "
            f"{recipe.engine.accumulation} micro-steps; give a multiple of {least}"
        )


def _size(recipe: Recipe, model: Architecture) -> tuple[int, int, int]:
    """Pixels and frames of a sample, the largest bucket's where there are buckets."""
    data = recipe.data
    if data.buckets is not None:
        return max(data.buckets, key=lambda bucket: bucket[0] * bucket[1] * bucket[2])
    height, width, frames = model.size
    return data.height or height, data.width or width, data.num_frames or frames


def _lengths(
    recipe: Recipe, latent: tuple[int, int, int]
) -> Iterable[tuple[tuple[int, int, int], int]]:
    """Latent shapes of the curriculum and how many steps each lasts."""
    frames, rows, columns = latent
    left = recipe.steps
    stages = recipe.stages or ()
    for stage in stages[:-1]:
        if left > 0:
            yield (min(stage.frames, frames), rows, columns), min(stage.steps, left)
        left -= stage.steps
    if left > 0:
        yield (min(stages[-1].frames if stages else frames, frames), rows, columns), left


def _phase(
    recipe: Recipe,
    model: Architecture,
    latent: tuple[int, int, int],
    steps: int,
    gpu: str,
    world: int,
    utilisation: float,
) -> Phase:
    f, y, x = model.patch
    video_tokens = (latent[0] // f) * (latent[1] // y) * (latent[2] // x)
    reference_tokens = 0
    if model.references_are_tokens:
        rows, columns = model.reference_shape(*latent[1:])
        pictures = recipe.data.max_references * recipe.data.views
        reference_tokens = pictures * (rows // y) * (columns // x)
    splits = world * recipe.engine.accumulation
    batch = recipe.batch
    if batch is None:
        assert recipe.tokens is not None  # a recipe has one of them
        batch = max(1, recipe.tokens // video_tokens // splits) * splits
    cost = measure_step(model, recipe, batch=batch // splits, latent=latent, sharded=world > 1)
    return Phase(
        steps=steps,
        latent=latent,
        video_tokens=video_tokens,
        reference_tokens=reference_tokens,
        batch=batch,
        micro_batch=batch // splits,
        forward_flops=cost.forward_flops * splits,
        flops=cost.flops * splits,
        seconds=_seconds(cost, recipe, gpu, utilisation),
        activations=cost.peak_bytes,
    )


def _seconds(cost: StepCost, recipe: Recipe, gpu: str, utilisation: float) -> float:
    return cost.flops * recipe.engine.accumulation / (GPUS[gpu].flops * utilisation)


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """How many weights of which sort.

    Args:
        learning, frozen: of the transformer, and of a text encoder that learns.
        matrices: of `learning`, those that Muon steps. linear: of `frozen`, those in matrices.
        block, block_learning: of one block. outside: of the transformer outside its blocks.
        widest: of one frozen matrix. encoders: of the frozen parts, by name.
    """

    learning: int
    frozen: int
    matrices: int
    linear: int
    block: int
    block_learning: int
    outside: int
    widest: int
    encoders: Mapping[str, int]

    @classmethod
    def count(cls, recipe: Recipe, model: Architecture) -> _Weights:
        transformer = learning_transformer(model, recipe)
        with torch.device("meta"):
            parts = {name: make() for name, make in model.encoders.items()}
        frozen = {n: part for n, part in parts.items() if n not in recipe.model.train}
        trained = [
            (f"{name}.{key}", parameter)
            for name, part in parts.items()
            if name not in frozen
            for key, parameter in part.named_parameters()
        ]
        named = list(chain(transformer.named_parameters(), trained))
        learning = [(name, p) for name, p in named if p.requires_grad]
        return cls(
            learning=_numbers(p for _, p in learning),
            frozen=_numbers(p for _, p in named if not p.requires_grad),
            matrices=_numbers(
                p for name, p in learning if p.ndim == 2 and ".blocks." in f".{name}"
            ),
            linear=_numbers(p for _, p in named if not p.requires_grad and p.ndim == 2),
            block=_numbers(transformer.blocks[0].parameters()),
            block_learning=_numbers(
                p for p in transformer.blocks[0].parameters() if p.requires_grad
            ),
            outside=_numbers(
                p for name, p in transformer.named_parameters() if not name.startswith("blocks.")
            ),
            widest=max((p.numel() for _, p in named if not p.requires_grad), default=0),
            encoders={name: _numbers(part.parameters()) for name, part in frozen.items()},
        )

    def memory(self, recipe: Recipe, world: int, activations: float) -> Memory:
        """Bytes per process."""
        learning = self.learning / world
        stored = HALF if recipe.model.dtype == "bf16" else FULL
        frozen: float = self.frozen * stored
        if recipe.engine.quantize_base is not None:
            smaller = QUANTISED_BYTES[recipe.engine.quantize_base]
            frozen = self.linear * smaller + (self.frozen - self.linear) * stored
        return Memory(
            weights=learning * FULL + frozen / world,
            gradients=learning * FULL,
            optimizer=self._optimizer(recipe) / world,
            average=learning * FULL if recipe.optim.ema is not None else 0,
            # with a cache of every latent and embedding the encoders wait on the CPU
            encoders=0 if recipe.data.cache is not None else self._encoders(stored),
            gathered=self._gathered(recipe, world),
            activations=activations,
            update=0 if recipe.optim.name == "adamw8bit" else learning * FULL,
        )

    def _optimizer(self, recipe: Recipe) -> float:
        if recipe.optim.name == "adamw8bit":
            return self.learning * ADAMW8BIT_BYTES
        matrices = self.matrices if recipe.optim.name == "muon" else 0
        return (2 * (self.learning - matrices) + matrices) * FULL

    def _encoders(self, stored: int) -> float:
        """The engine keeps the VAE in float32."""
        return sum(n * (FULL if name == "vae" else stored) for name, n in self.encoders.items())

    def _gathered(self, recipe: Recipe, world: int) -> float:
        """FSDP: the block at work, the next one, what lies outside blocks; a block's gradients.

        Gradients are reduced in float32.
        """
        if world == 1:
            return 0 if recipe.engine.quantize_base is None else self.widest * HALF
        used = HALF if recipe.engine.precision == "bf16" else FULL
        return (2 * self.block + self.outside) * used + self.block_learning * (used + FULL)


def _numbers(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _notes(recipe: Recipe, sharded: bool) -> Iterable[str]:
    yield "time is the transformer's alone: no encoding, reading, or communication"
    if recipe.data.cache is not None:
        yield "data.cache is set: encoders are counted as off the GPU once it is filled"
    if recipe.engine.compile:
        yield "compiled blocks usually keep less than counted here"
    if recipe.engine.sharding == "fsdp" and not sharded:
        yield "one process: nothing is sharded"
    if recipe.engine.quantize_base is not None:
        yield "quantised weights are counted from bitsandbytes' formats, not from a run"
