"""What is measured: a model's folder, or a published shape filled with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import torch
from accelerate import init_empty_weights
from diffusers import WanTransformer3DModel
from torch import nn

from anyref.models.weights.eight_bit import FORMATS, store
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.kaleido import KaleidoPipeline
from anyref.pipelines.loading import describe_model, load_pipeline
from anyref.pipelines.magref import MagrefPipeline
from anyref.pipelines.memory.placing import place
from anyref.pipelines.memory.plan import Plan
from anyref.pipelines.memory.sizes import BLOCKS, ModelSizes, Part, sizes_of
from anyref.pipelines.solvers import make_scheduler
from anyref.request import PixelShape, ShapeRules
from anyref.training.recipe import Shape
from anyref.training.shapes import Architecture, architecture

SPREAD = 0.02  # of random weights, about that of trained ones
LEAD = 4  # frames that MAGREF's pipeline cuts (its default)
PUBLISHED: dict[str, torch.dtype] = {
    "transformer": torch.bfloat16,
    "text_encoder": torch.bfloat16,
    "image_encoder": torch.bfloat16,
    "vae": torch.float32,
}


def is_shape(name: str) -> bool:
    """True for a shape that is filled with random weights: not a folder, not a shipped model."""
    return name in get_args(Shape) and not name.startswith("tiny-")


def bench_sizes(model: str) -> ModelSizes:
    """What plans and predictions know of a model's folder or a published shape.

    Raises:
        ModelError: neither.
    """
    return shape_sizes(_named(model)) if is_shape(model) else sizes_of(describe_model(model))


def default_shape(model: str) -> PixelShape:
    """What the model makes when nothing else is asked, as its network makes it."""
    if is_shape(model):
        height, width, frames = _named(model).size
        return PixelShape(frames, height, width)
    defaults = describe_model(model).defaults
    return PixelShape(defaults["num_frames"], defaults["height"], defaults["width"])


def _named(shape: str) -> Architecture:
    return architecture("none", shape)  # type: ignore[arg-type]


def shape_sizes(made: Architecture) -> ModelSizes:
    """Of an architecture, its weights stored as the published ones run."""
    with torch.device("meta"):
        modules = {"transformer": made.build(), **{n: m() for n, m in made.encoders.items()}}
    model_class, config = made.transformer
    vae = {k: v for k, v in modules["vae"].config.items() if not k.startswith("_")}
    return ModelSizes(
        name=made.name,
        parts={n: Part.of_module(m, BLOCKS[n], PUBLISHED[n]) for n, m in modules.items()},
        model_class=model_class,
        config=config,
        vae_config=vae,
        rules=ShapeRules(
            made.spatial,
            made.temporal,
            made.patch,
            config["rope_max_seq_len"],
            0 if made.references_are_tokens else LEAD,
        ),
        text_length=made.text_length,
        references_are_tokens=made.references_are_tokens,
    )


def bench_pipeline(model: str, plan: Plan, device: str, transformer: Path | None = None) -> Any:
    """The model's pipeline held as planned; random weights where it is a shape.

    Raises:
        ModelError: as `load_pipeline`.
    """
    if is_shape(model):
        return random_pipeline(_named(model), plan, device)
    return load_pipeline(model, memory=plan, device=device, transformer=transformer)


def random_pipeline(made: Architecture, plan: Plan, device: str, seed: int = 0) -> AnyRefPipeline:
    """A pipeline of random weights, without a tokenizer: give it embeddings of texts.

    Modules are made on the meta device; each weight is then drawn in the dtype that the plan says,
    so that nothing is ever held in another.
    """
    where = torch.device(device if plan.placement == "device" else "cpu")
    generator = torch.Generator(where).manual_seed(seed)
    with init_empty_weights(include_buffers=False):
        modules = {"transformer": made.build(), **{n: m() for n, m in made.encoders.items()}}
    for name, module in modules.items():
        form = plan.form(name)
        base = form.dtype or PUBLISHED[name]
        _fill(module, BLOCKS[name], base, form.eight_bit, generator)
        module.to(where).eval()  # its buffers
    height, width, frames = made.size
    defaults: dict[str, Any] = {"height": height, "width": width, "num_frames": frames}
    kaleido = made.references_are_tokens
    pipeline = KaleidoPipeline if kaleido else MagrefPipeline
    scheduler = make_scheduler("euler", 7.0) if kaleido else make_scheduler("unipc", 3.0)
    encoder: dict[str, Any] = {} if kaleido else {"image_encoder": modules.get("image_encoder")}
    pipe = pipeline(
        tokenizer=None,
        text_encoder=modules["text_encoder"],
        vae=modules["vae"],
        transformer=modules["transformer"],
        scheduler=scheduler,
        max_sequence_length=made.text_length,
        **encoder,
        **defaults,
    )
    return place(pipe, plan, device)


def _fill(
    module: nn.Module,
    blocks: str,
    dtype: torch.dtype,
    eight_bit: bool,
    generator: torch.Generator,
) -> None:
    kept = set(getattr(module, "_keep_in_fp32_modules", None) or ())
    if not isinstance(module, WanTransformer3DModel):
        kept = set()
    where = generator.device
    shared: dict[int, nn.Parameter] = {}
    for path, layer in module.named_modules():
        for leaf, parameter in list(layer.named_parameters(recurse=False)):
            if id(parameter) in shared:
                layer._parameters[leaf] = shared[id(parameter)]
                continue
            shape = parameter.shape
            inside = bool(blocks) and path.startswith(blocks) and leaf == "weight"
            if eight_bit and inside and isinstance(layer, nn.Linear):
                low = torch.randint(-127, 128, shape, generator=generator, device=where)
                scale = torch.full((shape[0], 1), SPREAD / 73, device=where)  # uniform's spread
                store(layer, low.to(FORMATS["int8"]), scale)
                continue
            name = f"{path}.{leaf}"
            wanted = torch.float32 if kept & set(name.split(".")) else dtype
            value = torch.empty(shape, dtype=wanted, device=where)
            if "norm" in name and leaf in ("weight", "gamma"):
                value.fill_(1.0)
            else:
                value.normal_(0.0, SPREAD, generator=generator)
            layer._parameters[leaf] = shared[id(parameter)] = nn.Parameter(value, False)
