"""One training step without numbers: what it would allocate and compute.

The step runs under `FakeTensorMode`, where tensors have shapes and storages but no memory, at two
and at three blocks; costs are linear in the number of blocks from the second on (under a LoRA the
first one's input needs no gradient), so two points give every depth.

Axes: B batch, C channels, F latent frames, H W latent rows and columns, L text tokens, D width.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode

from anyref.pipelines.memory.meter import Meter
from anyref.training.engine import add_adapter
from anyref.training.recipe import Recipe
from anyref.training.shapes import IMAGE_TOKENS, Architecture

FEWEST = 2  # blocks


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """One micro-step on one process.

    Args:
        forward_bytes: most bytes alive in the forward pass, without weights.
        backward_bytes: most in the backward pass, without weights and finished gradients.
        forward_flops, flops: multiplications and additions, without and with the backward pass.
    """

    forward_bytes: float
    backward_bytes: float
    forward_flops: float
    flops: float

    @property
    def peak_bytes(self) -> float:
        """Most bytes alive at any time, without weights and gradients."""
        return max(self.forward_bytes, self.backward_bytes)

    def extrapolate(self, deeper: StepCost, blocks: int) -> StepCost:
        """The cost with so many blocks more, given that with one more."""
        return StepCost(**{k: v + blocks * (vars(deeper)[k] - v) for k, v in vars(self).items()})


class _AcceleratorNorms(TorchFunctionMode):
    """RMS norm as accelerators compute it: one kernel that keeps its input, float32 under autocast.

    The CPU keeps two more tensors. A layer norm without bias keeps what the kernel keeps.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.rms_norm:
            return func(*args, **(kwargs or {}))
        x, shape, weight, eps = args
        if torch.is_autocast_enabled("cpu"):
            x, weight = x.float(), weight.float()
        return nn.functional.layer_norm(x, shape, weight.to(x.dtype), None, eps)


def measure_step(
    model: Architecture,
    recipe: Recipe,
    *,
    batch: int,
    latent: tuple[int, int, int],
    sharded: bool,
    accelerator: bool = True,
) -> StepCost:
    """What one micro-step of a recipe costs on one process.

    Args:
        batch: samples of the micro-step. latent: (F, H, W) of the video.
        sharded: parameters are gathered in the precision of the step, without autocast.
        accelerator: count RMS norms as an accelerator's kernel, not as the CPU does them.
    """
    costs = []
    for blocks in (FEWEST, FEWEST + 1):
        with warnings.catch_warnings(), FakeTensorMode(), ExitStack() as stack:
            warnings.simplefilter("ignore")  # mixed dtypes of norms, met again when training
            if accelerator:
                stack.enter_context(_AcceleratorNorms())
            network = _network(model, recipe, blocks, sharded)
            inputs = _inputs(model, recipe, network.dtype, batch, latent)
            autocast = recipe.engine.precision == "bf16" and not sharded
            costs.append(_run(network, inputs, autocast))
    return costs[0].extrapolate(costs[1], model.num_layers - FEWEST)


def _network(
    model: Architecture, recipe: Recipe, blocks: int, sharded: bool
) -> WanTransformer3DModel:
    """The transformer as the engine sets it up, its weights fake tensors of the current mode."""
    frozen_half = recipe.lora is not None and recipe.model.dtype == "bf16"
    gathered_half = sharded and recipe.engine.precision == "bf16"
    network = learning_transformer(model, recipe, blocks)
    for part in network.modules():
        for name, parameter in part.named_parameters(recurse=False):
            half = gathered_half or (frozen_half and not parameter.requires_grad)
            dtype = torch.bfloat16 if half else torch.float32
            empty = torch.empty(parameter.shape, dtype=dtype)
            part.register_parameter(name, nn.Parameter(empty, parameter.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            part.register_buffer(name, torch.empty(buffer.shape, dtype=buffer.dtype))
    if recipe.engine.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    network.train()
    return network


def learning_transformer(
    model: Architecture, recipe: Recipe, blocks: int | None = None
) -> WanTransformer3DModel:
    """The transformer with the recipe's adapters, on the meta device; the rest is frozen."""
    with unset_fake_temporarily(), torch.device("meta"):
        network = model.build(blocks)
        network.requires_grad_("transformer" in recipe.model.train and recipe.lora is None)
        if recipe.lora is not None:
            add_adapter(network, recipe.lora, recipe.seed)
    return network


def _inputs(
    model: Architecture,
    recipe: Recipe,
    dtype: torch.dtype,
    batch: int,
    latent: tuple[int, int, int],
) -> dict[str, Any]:
    config = model.transformer[1]
    _, rows, columns = latent
    inputs: dict[str, Any] = {
        "hidden_states": torch.empty(batch, config["in_channels"], *latent, dtype=dtype),
        "timestep": torch.empty(batch),
        "encoder_hidden_states": torch.empty(
            batch, model.text_length, config["text_dim"], dtype=dtype
        ),  # (B, L, D)
    }
    if config["image_dim"] is not None:
        inputs["encoder_hidden_states_image"] = torch.empty(
            batch, IMAGE_TOKENS, config["image_dim"], dtype=dtype
        )
    if model.references_are_tokens:
        cells = model.reference_shape(rows, columns)
        shape = (batch, config["in_channels"], 1, *cells)
        count = recipe.data.max_references * recipe.data.views
        inputs["reference_hidden_states"] = [torch.empty(shape, dtype=dtype) for _ in range(count)]
    return inputs


def _run(network: nn.Module, inputs: dict[str, Any], autocast: bool) -> StepCost:
    """Forward and backward; a finished gradient leaves the count, it has a line of its own."""
    meter = Meter((*network.parameters(), *network.buffers()))

    def settle(parameter: Tensor) -> None:
        if parameter.grad is not None:
            meter.forget(parameter.grad)
            parameter.grad = None

    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(settle)
    mixed = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
    with meter:
        with mixed:
            velocity = network(**inputs, return_dict=False)[0]  # (B, C, F, H, W)
        target = torch.empty(velocity.shape)
        loss = (velocity.float() - target).square().mean()
        del velocity, target
        forward_flops, forward_bytes = meter.flops, meter.peak
        meter.peak = meter.live
        loss.backward()
    return StepCost(
        forward_bytes=forward_bytes,
        backward_bytes=meter.peak,
        forward_flops=forward_flops,
        flops=meter.flops,
    )
