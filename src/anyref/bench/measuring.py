"""One video made and timed stage by stage; two ways of making it, in alternating runs.

Axes: T frames, Y X pixels, L text tokens.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image

from anyref.bench.devices import Device, synchronize
from anyref.bench.flops import pass_flops
from anyref.bench.peaks import Peaks, resident
from anyref.pipelines.memory.sizes import IMAGE_TOKENS
from anyref.pipelines.speed import WHOLE_VIDEO, with_preset
from anyref.request import PixelShape, Reference, Request

Frames = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Of one video, seconds and bytes.

    Args:
        text: the text encoder alone, where there is no tokenizer. encode: references, and texts
            where there is one. step: the median without the first. decode: to pixels.
        peaks: by stage, without what else the process holds.
        flops: of one step, by formula, nothing reused. utilisation: of the device's peak, by that
            count; what is reused or left out counts as computed. floor: seconds of a step at the
            device's peak.
    """

    text: float
    encode: float
    step: float
    decode: float
    total: float
    steps: int
    peaks: dict[str, float]
    flops: float
    utilisation: float
    floor: float

    @property
    def peak(self) -> float | None:
        """Of all stages."""
        return max(self.peaks.values(), default=None)

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "peak": self.peak}


@dataclass(frozen=True, eq=False)
class Made:
    """A measured video. frames: uint8 (T, Y, X, 3). latents: float32, on the CPU."""

    measurement: Measurement
    frames: Frames
    latents: torch.Tensor


def bench_request(
    shape: PixelShape, lead: int, steps: int, references: int = 1, **options: Any
) -> Request:
    """A request of a size, with pictures of coloured noise as references."""
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(references)]
    names = [f"subject{k}" for k in range(references)]
    return Request(
        prompt=" and ".join(f"@{name}" for name in names) + " move",
        references=tuple(
            Reference(Image.fromarray(picture), name)
            for name, picture in zip(names, pictures, strict=True)
        ),
        height=shape.height,
        width=shape.width,
        num_frames=shape.num_frames - lead,
        num_inference_steps=steps,
        **options,
    )


@torch.no_grad()
def measure(pipe: Any, request: Request, device: Device, place: torch.device) -> Made:
    """Make the request's video once.

    Args:
        pipe: whose encodings are forgotten first. place: where it runs.
    """
    pipe.encodings.clear()
    request = with_preset(request)
    shape = PixelShape(
        pipe.rules.network_frames(request.num_frames or pipe.config.num_frames),
        request.height or pipe.config.height,
        request.width or pipe.config.width,
    )
    own, marks = resident(pipe, place), _Marks(place)
    marks.begin("text")
    words = _texts(pipe, request)
    pipe.on_stage = marks.begin
    pipe.set_progress_bar_config(disable=True)
    pipe(**words, **_arguments(request, shape, marks))
    marks.begin("done")
    marks.peaks.end()
    flops, step = _step_flops(pipe, request, shape), marks.step
    floor = flops / device.speed.flops
    measurement = Measurement(
        text=marks.seconds("text"),
        encode=marks.seconds("encode"),
        step=step,
        decode=marks.seconds("decode"),
        total=marks.begun["done"] - marks.begun["text"],
        steps=len(marks.steps),
        peaks=marks.peaks.above(own),
        flops=flops,
        utilisation=floor / step,
        floor=floor,
    )
    return Made(measurement, np.concatenate(marks.frames), marks.latents.float().cpu())


def _arguments(request: Request, shape: PixelShape, marks: _Marks) -> dict[str, Any]:
    return {
        "references": request.references,
        "height": shape.height,
        "width": shape.width,
        "num_frames": shape.num_frames,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "generator": torch.Generator().manual_seed(request.seed),
        "callback_on_step_end": marks.after_step,
        "on_frames": lambda part: marks.frames.append(part[0]),
        "step_cache": request.step_cache,
        "guidance_interval": request.guidance_interval or WHOLE_VIDEO,
        "return_dict": False,
    }


class _Marks:
    """When stages began and steps ended, what they took, and what came out."""

    def __init__(self, place: torch.device) -> None:
        self.place, self.peaks = place, Peaks(place)
        self.begun: dict[str, float] = {}
        self.steps: list[float] = []
        self.frames: list[Frames] = []
        self.latents = torch.empty(0)

    def begin(self, stage: str) -> None:
        synchronize(self.place)
        self.begun[stage] = time.perf_counter()
        self.peaks.begin(stage)

    def after_step(
        self, _: Any, __: int, ___: Any, tensors: dict[str, torch.Tensor]
    ) -> dict[str, Any]:
        synchronize(self.place)
        self.steps.append(time.perf_counter())
        self.latents = tensors["latents"]
        return {}

    def seconds(self, stage: str) -> float:
        names = list(self.begun)
        return self.begun[names[names.index(stage) + 1]] - self.begun[stage]

    @property
    def step(self) -> float:
        """The median step but the first, which computes what the others reuse."""
        ends = [self.begun["steps"], *self.steps]
        lengths = [end - begin for begin, end in pairwise(ends)]
        return statistics.median(lengths[1:] or lengths)


def _texts(pipe: Any, request: Request) -> dict[str, Any]:
    """The prompt, or embeddings of as many random words where no tokenizer reads it."""
    if pipe.tokenizer is not None:
        return {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    length, encoder = pipe.config.max_sequence_length, pipe.text_encoder
    device = pipe._execution_device
    generator = torch.Generator().manual_seed(request.seed)
    made = {}
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        words = torch.randint(encoder.config.vocab_size, (1, length), generator=generator)
        made[name] = encoder(words.to(device)).last_hidden_state.to(pipe.transformer.dtype)
    return made


def _step_flops(pipe: Any, request: Request, shape: PixelShape) -> float:
    cells, patch = pipe.rules.latent(shape), pipe.rules.patch
    tokens = cells.num_frames * cells.height * cells.width
    config = pipe.transformer.config
    if config.in_channels == config.out_channels:  # references are tokens
        pictures = sum(len(reference.images) for reference in request.references)
        tokens += pictures * cells.height * cells.width
    scale = request.guidance_scale
    guided = (pipe.config.guidance_scale if scale is None else scale) > 1.0
    image = IMAGE_TOKENS if config.image_dim else 0
    text = pipe.config.max_sequence_length
    each = pass_flops(config, tokens // int(np.prod(patch)), text, image)
    return each * (1 + guided)


def alternate(
    ways: Sequence[Callable[[], Made]], rounds: int, warm_up: bool
) -> list[tuple[Measurement, Made]]:
    """Make all in turn, some rounds; of each the round with the median total, and its last video.

    Args:
        warm_up: one round before that does not count.
    """
    made: list[list[Made]] = [[] for _ in ways]
    for number in range(rounds + warm_up):
        for way, results in zip(ways, made, strict=True):
            result = way()
            if number >= warm_up:
                results.append(result)
    chosen = []
    for results in made:
        ordered = sorted(results, key=lambda one: one.measurement.total)
        chosen.append((ordered[(len(ordered) - 1) // 2].measurement, results[-1]))
    return chosen
