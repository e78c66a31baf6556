"""What a training run does, as one closed, typed value; a YAML file states only differences.

Every field carries its meaning below it. A key that does not exist is an error naming the nearest
one; combinations that cannot work are refused here, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from anyref.training.recipe_file import override, read_mapping, recipe_path, validate

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# YAML 1.1 reads a bare `no` as false
Precision = Annotated[
    Literal["no", "bf16"], BeforeValidator(lambda value: "no" if value is False else value)
]
ReferenceKind = Literal["human", "face", "object", "background", "style"]
Shape = Literal["magref-14b", "kaleido-14b", "kaleido-1.3b", "tiny-magref", "tiny-kaleido"]


class Section(BaseModel):
    """Frozen, and closed: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ModelSection(Section):
    """What is trained."""

    base: str
    """Pipeline folder or shipped name whose weights the run starts from."""
    shape: Shape | None = None
    """Named architecture that --plan counts without weights; null reads the base's config."""
    train: tuple[Literal["transformer", "text_encoder"], ...] = ("transformer",)
    """Parts that learn; the others are frozen."""
    dtype: Literal["fp32", "bf16"] = "bf16"
    """Number type of frozen weights; learning ones are fp32."""


class DataSection(Section):
    """Which samples, and what is drawn from each."""

    shards: Annotated[tuple[str, ...], Field(min_length=1)]
    """Folders, globs or fsspec URLs of webdataset shards."""
    height: Count | None = None
    """Pixels; null keeps the stored height."""
    width: Count | None = None
    """Pixels; null keeps the stored width."""
    num_frames: Count | None = None
    """Frames that enter the network; null keeps the stored number."""
    buckets: tuple[tuple[Count, Count, Count], ...] | None = None
    """(height, width, frames) choices, instead of one size; each sample takes the nearest."""
    min_references: Annotated[int, Field(ge=0)] = 1
    """Samples with fewer subjects are left out."""
    max_references: Count = 3
    """Most subjects that are drawn of a sample; all of them where it has fewer."""
    fewer_references: Share = 0.0
    """Probability of drawing any smaller number instead, down to min_references but at least 1."""
    kinds: tuple[ReferenceKind, ...] | None = None
    """Kinds of references that are used; null uses all."""
    views: Count = 1
    """Pictures per subject."""
    cross_pair: Share = 1.0
    """Probability of a picture from elsewhere where a subject has one, against its own clip's."""
    shuffle: bool = True
    """Draw the references' order, and their places on MAGREF's canvas, anew."""
    text_dropout: Share = 0.1
    """Probability of an empty caption."""
    reference_dropout: Share = 0.0
    """Probability of a sample without references."""
    variants: Count | None = None
    """Draws of references per sample before they repeat, for a cache to hold; null: endless."""
    cache: Path | None = None
    """Folder of latents and text embeddings by content; null encodes on the fly."""
    workers: Annotated[int, Field(ge=0)] = 2
    """Threads that read, decode and encode samples one step ahead; 0 is 1."""

    @model_validator(mode="after")
    def _consistent(self) -> DataSection:
        size = (self.height, self.width, self.num_frames)
        if self.buckets is not None and any(side is not None for side in size):
            raise ValueError("buckets and height, width or num_frames; give buckets or one size")
        if (self.height is None) != (self.width is None):
            raise ValueError(f"height {self.height} and width {self.width}; give both or neither")
        if self.min_references > self.max_references:
            raise ValueError(
                f"min_references {self.min_references} is over max_references "
                f"{self.max_references}; lower it"
            )
        return self


class Disentangle(Section):
    """Subject disentanglement (MAGREF paper, equation 6); the paper leaves these choices open."""

    alpha: Annotated[float, Field(ge=0, le=10)] = 0.1
    """Strength; sample videos are made with it and the default choices."""
    pooling: Literal["mean", "sum"] = "mean"
    """How the values of several tokens of one word combine."""
    where: Literal["after", "before"] = "after"
    """Beside the cross-attention: after it or before it."""
    output_projection: bool = False
    """Pass the values through the cross-attention's output projection."""


class ObjectiveSection(Section):
    """Flow matching: which noise levels, and what weighs how much."""

    timesteps: Literal["logit_normal", "uniform"] = "logit_normal"
    """Law of the noise level before the shift."""
    mean: float = 0.0
    """Of the normal under the logit."""
    std: Positive = 1.0
    """Of the normal under the logit."""
    shift: Positive | Literal["resolution"] = "resolution"
    """s' = shift s / (1 + (shift - 1) s); "resolution": e^mu of the tokens per frame (Kaleido)."""
    stratified: bool = True
    """One stratum of the law per sample of a batch."""
    subject_weight: NotNegative = 0.0
    """Extra weight of the cells that show a subject."""
    disentangle: Disentangle | None = None
    """Subject disentanglement; null leaves it out."""


class OptimSection(Section):
    """Optimiser and schedule."""

    name: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """muon steps matrices by Muon and the rest by AdamW."""
    learning_rate: Positive = 1e-4
    """Peak rate of AdamW."""
    muon_rate: Positive | None = None
    """Peak rate of Muon's matrices."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """AdamW's averages."""
    eps: Positive = 1e-8
    """AdamW's denominator."""
    weight_decay: NotNegative = 0.01
    """Decoupled."""
    clip_norm: Positive | None = 1.0
    """Largest gradient norm; null does not clip."""
    schedule: Literal["constant", "linear", "cosine_restarts"] = "constant"
    """Of the rate after the warm-up; linear falls to 0 at the last step."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps of linear rise."""
    restart_every: Count | None = None
    """Steps of one cosine period."""
    cooldown: Share = 0.0
    """Last share of the steps, over which the rate falls to 0."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of the averaged weights that are saved; null keeps no average."""

    @model_validator(mode="after")
    def _consistent(self) -> OptimSection:
        if (self.schedule == "cosine_restarts") != (self.restart_every is not None):
            raise ValueError(
                f"schedule {self.schedule} with restart_every {self.restart_every}; "
                "cosine_restarts needs restart_every, and nothing else takes it"
            )
        if (self.name == "muon") != (self.muon_rate is not None):
            raise ValueError(
                f"name {self.name} with muon_rate {self.muon_rate}; "
                "muon needs muon_rate, and nothing else takes it"
            )
        if self.schedule != "constant" and self.cooldown > 0:
            raise ValueError(
                f"cooldown {self.cooldown} with schedule {self.schedule}; "
                "only constant has a cooldown"
            )
        return self


class LoraSection(Section):
    """Low-rank adapters instead of the weights themselves (peft)."""

    rank: Count = 16
    """Rank of every adapter."""
    alpha: Positive | None = None
    """Adapters are scaled by alpha / rank; null is alpha = rank."""
    dora: bool = False
    """Learn magnitudes too (DoRA)."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "ffn.net.0.proj",
        "ffn.net.2",
    )
    """Ends of the names of the layers that get an adapter."""


class EngineSection(Section):
    """How the step is computed; changes memory and speed, not the objective."""

    precision: Precision = "bf16"
    """Mixed precision of the step: bf16 autocast, or no."""
    sharding: Literal["none", "fsdp"] = "none"
    """fsdp splits learning weights, gradients and optimiser over the processes."""
    attention: str | None = None
    """diffusers attention backend of the transformer, such as flash, sage or _native_math."""
    compile: bool = False
    """torch.compile the transformer's blocks."""
    gradient_checkpointing: bool = False
    """Keep only each block's input and compute the block again in the backward pass."""
    accumulation: Count = 1
    """Micro-steps that one step of the optimiser adds up."""
    quantize_base: Literal["int8", "nf4"] | None = None
    """Hold the frozen weights under a LoRA in 8 or 4 bits (bitsandbytes, needs an NVIDIA GPU)."""


class Stage(Section):
    """One part of a curriculum."""

    frames: Count
    """Latent frames kept of each clip."""
    steps: Count
    """How long; the last stage goes on to the end of the run."""


class CheckpointSection(Section):
    """What survives."""

    every: Count = 500
    """Steps between checkpoints."""
    keep: Count = 3
    """Newest checkpoints that stay."""


class MonitorSection(Section):
    """What people look at."""

    log_every: Count = 10
    """Steps between lines."""
    validate_every: Annotated[int, Field(ge=0)] = 500
    """Steps between validation losses; 0: never."""
    validation_shards: tuple[str, ...] = ()
    """Held-out shards; none: no validation and no samples."""
    validation_samples: Count = 64
    """Samples of the validation loss."""
    sample_every: Annotated[int, Field(ge=0)] = 1000
    """Steps between sample videos; 0: never."""
    samples: Count = 4
    """Videos made each time."""


class Recipe(Section):
    """One training run."""

    name: str = "run"
    """What the run is called; a file's own name when it gives none."""
    model: ModelSection
    data: DataSection
    objective: ObjectiveSection = ObjectiveSection()
    optim: OptimSection = OptimSection()
    lora: LoraSection | None = None
    engine: EngineSection = EngineSection()
    batch: Count | None = None
    """Samples a step, over all processes and micro-steps."""
    tokens: Count | None = None
    """About this many video tokens a step, instead of batch."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)] | None = None
    """Curriculum, short clips first; null: whole clips all the time."""
    steps: Count = 1000
    """Steps of the optimiser."""
    seed: int = 0
    """Of everything drawn in the run."""
    minutes: Positive | None = None
    """Save and stop after so long; the next start goes on from there."""
    folder: Path | None = None
    """Where the run writes; null: runs/<name>."""
    checkpoints: CheckpointSection = CheckpointSection()
    monitor: MonitorSection = MonitorSection()
    on_nonfinite: Literal["skip", "stop"] = "skip"
    """What a loss or gradient that is not finite, or a spike, does."""
    max_skipped: Annotated[int, Field(ge=0)] = 10
    """Steps skipped one after another before the run stops."""
    spike: Annotated[float, Field(gt=1)] | None = None
    """A gradient norm over this many times its running median is a spike; null: nothing is."""

    @property
    def run_folder(self) -> Path:
        """Where the run writes."""
        return Path("runs") / self.name if self.folder is None else self.folder

    def frames_at(self, step: int) -> int | None:
        """Latent frames kept at a step of the curriculum; None for whole clips."""
        for stage in self.stages or ():
            if step < stage.steps:
                return stage.frames
            step -= stage.steps
        return self.stages[-1].frames if self.stages else None

    def to_yaml(self) -> str:
        """Every field, defaults too; `load_recipe` reads it back to an equal value."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    @model_validator(mode="after")
    def _amounts(self) -> Recipe:
        if (self.batch is None) == (self.tokens is None):
            raise ValueError(
                f"batch {self.batch} and tokens {self.tokens}; give one, and null for the other"
            )
        if self.batch is not None and self.batch % self.engine.accumulation:
            raise ValueError(
                f"batch {self.batch} is no multiple of engine.accumulation "
                f"{self.engine.accumulation}; change one"
            )
        frames = [stage.frames for stage in self.stages or ()]
        if any(a >= b for a, b in pairwise(frames)):
            raise ValueError(f"stages keep {frames} frames; give them in rising order")
        return self

    @model_validator(mode="after")
    def _parts(self) -> Recipe:
        if not self.model.train:
            raise ValueError("model.train is empty; name transformer, or text_encoder too")
        if self.lora is not None and "text_encoder" in self.model.train:
            raise ValueError("lora with model.train text_encoder; a LoRA trains the transformer")
        if self.engine.quantize_base is not None and self.lora is None:
            raise ValueError(
                f"engine.quantize_base {self.engine.quantize_base} without lora; "
                "quantised weights cannot learn, add a lora section"
            )
        if self.engine.sharding == "fsdp":
            if self.optim.name != "adamw":
                raise ValueError(
                    f"optim.name {self.optim.name} with engine.sharding fsdp; "
                    "it needs whole matrices, use adamw"
                )
            if self.engine.quantize_base is not None:
                raise ValueError(
                    f"engine.quantize_base {self.engine.quantize_base} with engine.sharding fsdp; "
                    "quantised weights are not split, use sharding none"
                )
        return self


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a shipped recipe by name, and change it by "key.key=value".

    Raises:
        TrainingError: no such recipe, not YAML, an unknown key (with the nearest one), a value out
            of range, or a combination that cannot work; every fault at once.
    """
    file = recipe_path(path)
    values: dict[str, Any] = {"name": file.stem} | read_mapping(file)
    for text in overrides:
        override(values, text)
    return validate(Recipe, values, str(file))
