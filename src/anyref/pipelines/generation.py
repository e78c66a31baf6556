"""From a request to frames: the call that every front end makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from anyref.errors import ModelError, RequestError
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.loading import ModelInfo
from anyref.pipelines.solvers import solver_of
from anyref.pipelines.speed import WHOLE_VIDEO, paced, with_preset
from anyref.request import PixelShape, Request, ShapeRules

NEEDED = {"text_encoder": "text encoder", "tokenizer": "tokenizer", "vae": "VAE"}
FAMILY_OPTIONS = (
    "layout",
    "shuffle",
    "disentangle",
    "reference_offset",
    "reference_size",
    "strength_map",
)


@dataclass(frozen=True)
class Generation:
    """A finished video.

    Args:
        frames: uint8 (T, Y, X, 3), lead frames already cut; none where `on_frames` got them.
        fps: frames per second.
        timings: seconds of "encode", "steps" and "decode".
        conditioning_pictures: what the model was conditioned on, for people to look at.
    """

    frames: np.ndarray
    fps: float
    timings: dict[str, float]
    conditioning_pictures: dict[str, Image.Image]


def generate(
    pipe: AnyRefPipeline,
    request: Request,
    *,
    on_stage: Callable[[str], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    on_frames: Callable[[np.ndarray], None] | None = None,
) -> Generation:
    """Make the video that a request describes.

    Args:
        on_stage: called with "encode", "steps" and "decode" as each begins.
        on_step: called with steps done and steps in all.
        on_frames: called with uint8 (t, Y, X, 3) while the video is decoded, first frames first.

    Raises:
        RequestError: or a subclass, before any slow work.
    """
    request = with_preset(request)
    shape = network_shape(pipe.rules, pipe.config, request)
    options = family_options(type(pipe), request)
    pipe.on_stage = on_stage
    steps = request.num_inference_steps or pipe.config.num_inference_steps
    chunks: list[np.ndarray] = []
    take = chunks.append if on_frames is None else on_frames
    pipe.set_progress_bar_config(disable=True)
    with _solver(pipe, request):
        pipe(
            prompt=request.prompt,
            references=request.references,
            negative_prompt=request.negative_prompt,
            height=shape.height,
            width=shape.width,
            num_frames=shape.num_frames,
            num_inference_steps=steps,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator().manual_seed(request.seed),
            callback_on_step_end=_step_report(on_step, steps),
            on_frames=lambda frames: take(frames[0]),
            step_cache=request.step_cache,
            guidance_interval=request.guidance_interval or WHOLE_VIDEO,
            return_dict=False,
            **options,
        )
    return Generation(
        frames=np.concatenate(chunks) if chunks else np.empty((0, 0, 0, 3), np.uint8),
        fps=pipe.config.fps,
        timings=dict(pipe.stage_seconds),
        conditioning_pictures=pipe.conditioning_pictures,
    )


def _step_report(on_step: Callable[[int, int], None] | None, steps: int) -> Callable[..., Any]:
    def report(_: Any, i: int, __: Any, ___: Any) -> dict[str, Any]:
        if on_step is not None:
            on_step(i + 1, steps)
        return {}

    return report


def network_shape(rules: ShapeRules, defaults: Mapping[str, Any], request: Request) -> PixelShape:
    """What the network makes for a request, absent sizes taken from the model's defaults.

    Raises:
        SizeError: when the model cannot make it.
    """
    frames = request.num_frames
    shape = PixelShape(
        defaults["num_frames"] if frames is None else rules.network_frames(frames),
        request.height or defaults["height"],
        request.width or defaults["width"],
    )
    rules.check(shape)
    return shape


def family_options(pipeline: type[AnyRefPipeline], request: Request) -> dict[str, Any]:
    """The request's options that this family takes.

    Raises:
        RequestError: when an option of the other family is set.
    """
    given = {n: getattr(request, n) for n in FAMILY_OPTIONS if getattr(request, n) is not None}
    for name in given:
        if name not in pipeline.request_options:
            raise RequestError(
                f"{name} has no effect on a {pipeline.__name__}, which takes "
                f"{', '.join(pipeline.request_options)}; leave it out or choose another model"
            )
    return given


def check_request(info: ModelInfo, request: Request) -> PixelShape:
    """Everything about a request that can be checked before weights load.

    Raises:
        RequestError: or a subclass, when the model cannot honour the request.
    """
    family_options(info.pipeline, request)
    paced(request.step_cache, request.guidance_interval or WHOLE_VIDEO)
    for part, what in NEEDED.items():
        if part not in info.components:
            raise ModelError(f"model {info.name!r} has no {what}; convert it with one")
    if info.image_branch and "image_encoder" not in info.components:
        raise ModelError(f"model {info.name!r} has no image encoder, which its weights need")
    shape = network_shape(info.rules, info.defaults, request)
    info.pipeline.check_references(request.references, info.defaults, info.rules, request)
    return shape


@contextmanager
def _solver(pipe: AnyRefPipeline, request: Request) -> Iterator[None]:
    """The request's solver for this video only."""
    kept = pipe.scheduler
    if request.solver is not None or request.flow_shift is not None:
        pipe.set_solver(request.solver or solver_of(kept), request.flow_shift)
    try:
        yield
    finally:
        pipe.scheduler = kept
