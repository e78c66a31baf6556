"""What computes a step: device, processes, precision, sharding, adapters. All of it libraries'.

accelerate starts the processes and the mixed precision, torch's fully_shard (FSDP2) splits
parameters, gradients and optimiser over them, peft adds adapters, torch.compile compiles blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import BitsAndBytesConfig, PipelineQuantizationConfig
from diffusers.utils import is_bitsandbytes_available
from peft import LoraConfig
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_map

from anyref.errors import TrainingError
from anyref.models.backends import set_kernel
from anyref.pipelines import parallel
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.loading import WEIGHTED_COMPONENTS, load_pipeline
from anyref.training.recipe import EngineSection, LoraSection, Recipe

ONE_PROCESS = "engine.sharding none runs on one process, {size} were started; use sharding fsdp"

ENCODERS = ("vae", "text_encoder", "image_encoder")
NO_BITSANDBYTES = (
    "engine.quantize_base {bits} needs bitsandbytes and an NVIDIA GPU; "
    "pip install 'anyref[quantized]', or leave it out"
)


@contextmanager
def at_work(device: torch.device, *parts: nn.Module | None) -> Iterator[None]:
    """Encoders on a device for a while, then back where they were."""
    moved: list[tuple[Any, Any]] = [
        (part, part.device) for part in parts if part is not None and part.device != device
    ]
    for part, _ in moved:
        part.to(device)
    try:
        yield
    finally:
        for part, home in moved:
            part.to(home)


class Learning(nn.Module):
    """The parts of a pipeline that learn, under their component names."""

    def __init__(self, pipe: AnyRefPipeline, parts: Iterable[str]) -> None:
        super().__init__()
        for name in parts:
            self.add_module(name, getattr(pipe, name))


class Engine:
    """Processes, device and precision of a run."""

    def __init__(self, options: EngineSection) -> None:
        torch.set_flush_denormal(True)  # before any other torch call: threads inherit it at start
        self.options = options
        cpu = not torch.accelerator.is_available()
        AcceleratorState._reset_state()  # of an earlier run in this process, of another precision
        self.accelerator = Accelerator(mixed_precision=options.precision, cpu=cpu)
        self.device = self.accelerator.device
        self.rank, self.world = self.accelerator.process_index, parallel.world_size()
        if self.world > 1 and options.sharding == "none":
            raise TrainingError(ONE_PROCESS.format(size=self.world))

    @property
    def is_main(self) -> bool:
        """True on the process that writes and talks."""
        return bool(self.accelerator.is_main_process)

    def load(self, recipe: Recipe) -> AnyRefPipeline:
        """The recipe's base: learning parts in float32, frozen ones in `model.dtype`.

        With a cache the encoders rest on the CPU, and visit the device while they work.

        Raises:
            ModelError: when it does not load.
        """
        frozen = torch.bfloat16 if recipe.model.dtype == "bf16" else torch.float32
        learns = recipe.model.train if recipe.lora is None else ()
        dtypes = {name: torch.float32 if name in learns else frozen for name in WEIGHTED_COMPONENTS}
        pipe = load_pipeline(
            recipe.model.base,
            dtype=dtypes,
            quantization=quantization(self.options.quantize_base),
        )
        moving: set[str] = {"transformer", *recipe.model.train}
        for name in moving:
            if name != "transformer" or self.options.quantize_base is None:
                getattr(pipe, name).to(self.device)
        if recipe.data.cache is None:
            for encoder in ENCODERS:
                if (part := getattr(pipe, encoder, None)) is not None:
                    part.to(self.device)
        return pipe

    def set_up(self, pipe: AnyRefPipeline, recipe: Recipe) -> Learning:
        """Freeze, add adapters, compile, shard; the parts that learn."""
        for part in pipe.components.values():
            if isinstance(part, nn.Module):
                part.requires_grad_(False)
        if recipe.lora is not None:
            add_adapter(pipe.transformer, recipe.lora, recipe.seed)
        else:
            for name in recipe.model.train:
                getattr(pipe, name).requires_grad_(True)
        if self.options.attention is not None:
            set_attention(pipe.transformer, self.options.attention)
        if self.options.gradient_checkpointing:
            pipe.transformer.enable_gradient_checkpointing()
        if self.options.compile:
            pipe.transformer.compile_repeated_blocks(dynamic=False)
        if self.world > 1:
            self._shard(pipe, recipe.model.train)
        return Learning(pipe, recipe.model.train).train()

    def _shard(self, pipe: AnyRefPipeline, parts: Iterable[str]) -> None:
        mesh = init_device_mesh(self.device.type, (self.world,))
        half = torch.bfloat16 if self.options.precision == "bf16" else None
        # a noise level of 8 bits would be another one, so inputs are cast by `_cast_inputs`
        policy = MixedPrecisionPolicy(
            param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        for name in parts:
            part = getattr(pipe, name)
            blocks = part.blocks if name == "transformer" else part.encoder.block
            for block in blocks:
                fully_shard(block, mesh=mesh, mp_policy=policy)
            fully_shard(part, mesh=mesh, mp_policy=policy)
            if half is not None:
                part.register_forward_pre_hook(_cast_inputs, with_kwargs=True)

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision of one process; sharded parameters bring their own."""
        return nullcontext() if self.world > 1 else self.accelerator.autocast()

    def input_dtype(self, transformer: Any) -> torch.dtype | None:
        """Of a transformer's inputs; None where mixed precision casts them."""
        return transformer.dtype if self.options.precision == "no" else None

    def mean(self, value: Tensor) -> Tensor:
        """Mean of equal shares over all processes."""
        return self.sum(value) / self.world

    def sum(self, value: Tensor) -> Tensor:
        """Sum over all processes."""
        value = value.detach().clone()
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def most(self, count: int) -> int:
        """The largest count of any process."""
        value = torch.tensor(count, device=self.device)
        if self.world > 1:
            dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    @staticmethod
    def clip(parameters: Iterable[nn.Parameter], limit: float | None) -> float:
        """Clip the gradients of all processes to a norm; the norm before."""
        norm = nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def _cast_inputs(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments in bfloat16, all but the noise level."""

    def cast(value: Any) -> Any:
        half = isinstance(value, Tensor) and value.is_floating_point()
        return value.bfloat16() if half else value

    return args, {k: v if k == "timestep" else tree_map(cast, v) for k, v in kwargs.items()}


def quantization(bits: str | None) -> Any:
    """A diffusers quantisation of the transformer: "int8", "nf4" or None.

    Raises:
        TrainingError: when bitsandbytes is not installed.
    """
    if bits is None:
        return None
    if not is_bitsandbytes_available():
        raise TrainingError(NO_BITSANDBYTES.format(bits=bits))
    options: dict[str, Any] = {"load_in_8bit": True}
    if bits == "nf4":
        options = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": torch.bfloat16,
        }
    return PipelineQuantizationConfig(quant_mapping={"transformer": BitsAndBytesConfig(**options)})


def set_attention(transformer: Any, name: str) -> None:
    """Choose a transformer's attention backend by diffusers' name.

    The plain one, `_native_math`, may then reduce in the number type it is given: on CPUs its
    bfloat16 matrix products are faster than the fused kernel (benchmarks/training_speed.md).

    Raises:
        TrainingError: for a backend that diffusers does not know or cannot use here.
    """
    try:
        set_kernel(transformer, name)
    except (ValueError, RuntimeError, ImportError) as error:
        raise TrainingError(f"engine.attention {name!r} cannot be used: {error}") from error
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(name == "_native_math")


def add_adapter(transformer: Any, options: LoraSection, seed: int) -> None:
    """Put a LoRA (or DoRA) on a transformer; its matrices are float32 and start as no change.

    Raises:
        TrainingError: when no layer bears one of the target names.
    """
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.rank if options.alpha is None else options.alpha,
        target_modules=list(options.targets),
        use_dora=options.dora,
        init_lora_weights=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            transformer.add_adapter(config)
        except ValueError as error:
            raise TrainingError(f"lora.targets {options.targets} name no layer: {error}") from error
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
