"""Peak memory and time of a generation under a plan, before any weight is read.

Peak: what a stage holds of the weights, plus the most that lives beside them (`dry_run`), plus a
reserve for what is no tensor. Time: operations at a share of the device's peak, or the transfer of
weights where that takes longer (blocks are fetched while others compute). Estimates, both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any

import torch

from anyref.pipelines.memory import dry_run
from anyref.pipelines.memory.dry_run import NONE, Strengths
from anyref.pipelines.memory.meter import Cost
from anyref.pipelines.memory.plan import Plan
from anyref.pipelines.memory.sizes import Form, ModelSizes
from anyref.request import PixelShape

GIB = 2**30
RESERVE = 1.0 * GIB  # an accelerator's context, its libraries' workspaces, gaps
PROCESS = 0.6 * GIB  # Python and its libraries, on the CPU
TILE, STRIDE = 256, 192  # pixels, diffusers' defaults
ENCODERS = ("text_encoder", "image_encoder")
LAYERS = 1.2  # of an encoder's largest layer: it, and the next one on its way
TILED_COPIES = 3  # of the whole video: tiles, their rows, the picture they are joined to
UTILISATION = 0.4  # of a device's peak, by the transformer, where nothing else is known
VAE_SHARE = 0.25  # of the transformer's utilisation: convolutions of few channels (a guess)


@dataclass(frozen=True)
class Work:
    """What shall be made.

    Args:
        shape: network frames and pixels. references: pictures. strengths: of references.
    """

    shape: PixelShape
    steps: int
    guided: bool = True
    references: int = 1
    strengths: Strengths = NONE

    @property
    def passes(self) -> int:
        """Of the transformer, per step."""
        return 1 + self.guided + self.strengths.contrasts


@dataclass(frozen=True)
class Speed:
    """What a machine does in a second: operations, bytes to the device, bytes from disk.

    Args:
        flops: at most. utilisation: the share of it that a transformer is assumed to reach.
    """

    flops: float
    transfer: float
    disk: float
    utilisation: float = UTILISATION


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a generation.

    Args:
        weights, activations: bytes on the device at its peak. flops: operations.
        moved: bytes of weights that come to the device. from_disk: they come from files.
        share: of the transformer's utilisation that it is assumed to reach.
    """

    weights: float
    activations: float
    flops: float
    moved: float = 0.0
    from_disk: bool = False
    share: float = 1.0

    @property
    def bytes(self) -> float:
        """The peak, without a reserve."""
        return self.weights + self.activations

    def seconds(self, speed: Speed) -> float:
        """On a machine of that speed."""
        rate = speed.disk if self.from_disk else speed.transfer
        reached = speed.flops * speed.utilisation * self.share
        return max(self.flops / reached, self.moved / rate)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Of one video.

    Args:
        step: one denoising step; steps: their number. reserve, host: bytes; host of main memory.
    """

    encode: Stage
    step: Stage
    decode: Stage
    steps: int
    reserve: float
    host: float

    @property
    def peak(self) -> float:
        """Bytes on the device, reserve included."""
        return max(self.encode.bytes, self.step.bytes, self.decode.bytes) + self.reserve

    def fits(self, memory: float, host: float | None) -> bool:
        """True when device and main memory hold it."""
        return self.peak <= memory and (host is None or self.host <= host)

    def seconds(self, speed: Speed) -> float:
        """All stages."""
        ends = self.encode.seconds(speed) + self.decode.seconds(speed)
        return ends + self.steps * self.step.seconds(speed)


class Costs:
    """Activations and operations of a video's stages, each found once."""

    def __init__(self, sizes: ModelSizes, work: Work) -> None:
        self.sizes, self.work = sizes, work
        self.cells = sizes.rules.latent(work.shape)
        self._steps: dict[tuple[torch.dtype, bool], Cost] = {}

    def steps(self, dtype: torch.dtype, keeps: bool = True) -> Cost:
        """The loop's, whose products are of a dtype. keeps: what stays the same, between steps."""
        key = (dtype, keeps)
        if key not in self._steps:
            sizes, cells = self.sizes, self.cells
            pictures = self.work.references if sizes.references_are_tokens else 0
            self._steps[key] = dry_run.steps(
                sizes.model_class,
                sizes.config,
                cells,
                dtype=dtype,
                text_length=sizes.text_length,
                image_tokens=sizes.image_tokens,
                references=((cells.height, cells.width),) * pictures,
                guided=self.work.guided,
                strengths=self.work.strengths,
                keeps=keeps,
            )
        return self._steps[key]

    @property
    def text(self) -> float:
        """Operations of the text encoder: two per weight and token."""
        part = self.sizes.parts.get("text_encoder")
        tokens = self.sizes.text_length * (1 + self.work.guided)
        return 0.0 if part is None else 2.0 * part.matrices * tokens

    def encoded(self, tiled: bool) -> Cost:
        """The VAE's, of what references become."""
        return self._tiled_encode if tiled and self._tiles > 1 else self._encode

    def decoded(self, tiled: bool) -> Cost:
        """The VAE's, of the video."""
        return self._tiled_decode if tiled and self._tiles > 1 else self._decode

    @property
    def _tiles(self) -> int:
        shape = self.work.shape
        return ceil(shape.height / STRIDE) * ceil(shape.width / STRIDE)

    @property
    def _vae(self) -> tuple[Mapping[str, Any], torch.dtype] | None:
        config = self.sizes.vae_config
        return None if config is None else (config, self.sizes.parts["vae"].dtype)

    @property
    def _encoded_shape(self) -> PixelShape:
        shape = self.work.shape
        frames = 1 if self.sizes.references_are_tokens else shape.num_frames
        return PixelShape(frames, shape.height, shape.width)

    @cached_property
    def _encode(self) -> Cost:
        if self._vae is None:
            return Cost(peak=0, flops=0)
        cost = dry_run.encode(self._vae[0], self._encoded_shape, self._vae[1])
        count = self.work.references if self.sizes.references_are_tokens else 1
        return Cost(peak=cost.peak, flops=cost.flops * count)

    @cached_property
    def _decode(self) -> Cost:
        if self._vae is None:
            return Cost(peak=0, flops=0)
        return dry_run.decode(self._vae[0], self.cells, self._vae[1])

    @cached_property
    def _tiled_encode(self) -> Cost:
        whole = self._encoded_shape
        tile = PixelShape(whole.num_frames, min(TILE, whole.height), min(TILE, whole.width))
        cost = dry_run.encode(*self._vae_and(tile))
        return Cost(peak=cost.peak + self._video(whole), flops=cost.flops * self._tiles)

    @cached_property
    def _tiled_decode(self) -> Cost:
        spatial, cells = self.sizes.rules.spatial, self.cells
        side = TILE // spatial
        tile = type(cells)(cells.num_frames, min(side, cells.height), min(side, cells.width))
        cost = dry_run.decode(*self._vae_and(tile))
        video = TILED_COPIES * self._video(self.work.shape)
        return Cost(peak=cost.peak + video, flops=cost.flops * self._tiles)

    def _vae_and(self, shape: Any) -> Any:
        assert self._vae is not None  # a pipeline without a VAE has no tiles
        return self._vae[0], shape, self._vae[1]

    def _video(self, shape: PixelShape) -> float:
        assert self._vae is not None
        return 3.0 * shape.num_frames * shape.height * shape.width * self._vae[1].itemsize


def predict(costs: Costs, plan: Plan, accelerated: bool) -> Prediction:
    """What a plan takes.

    Args:
        costs: of the model and the video. accelerated: weights can wait beside the device.
    """
    sizes, work = costs.sizes, costs.work
    held = {name: part.num_bytes(plan.form(name)) for name, part in sizes.parts.items()}
    form, transformer = plan.form("transformer"), sizes.parts["transformer"]
    loop = costs.steps(form.dtype or transformer.dtype, plan.keeps)
    on_device = _on_device(costs, plan, held, accelerated)
    encoded, decoded = costs.encoded(plan.tiled), costs.decoded(plan.tiled)
    from_disk = plan.placement == "disk"
    streamed = from_disk or (accelerated and plan.placement == "blocks")
    elsewhere = from_disk or (accelerated and plan.placement != "device")
    encoders = sum(held.get(name, 0.0) for name in ENCODERS)
    return Prediction(
        encode=Stage(
            weights=on_device["encode"],
            activations=max(encoded.peak, on_device["layers"]),
            flops=costs.text * VAE_SHARE + encoded.flops,
            moved=encoders if elsewhere else 0.0,
            from_disk=from_disk,
            share=VAE_SHARE,
        ),
        step=Stage(
            weights=on_device["step"],
            activations=loop.peak + transformer.widened(form),
            flops=loop.flops,
            moved=work.passes * held["transformer"] if streamed else 0.0,
            from_disk=from_disk,
        ),
        decode=Stage(
            weights=on_device["decode"],
            activations=decoded.peak,
            flops=decoded.flops,
            share=VAE_SHARE,
        ),
        steps=work.steps,
        reserve=RESERVE if accelerated else PROCESS,
        host=_host(costs, plan, held, on_device, accelerated),
    )


def _on_device(
    costs: Costs, plan: Plan, held: Mapping[str, float], accelerated: bool
) -> dict[str, float]:
    """Bytes of weights on the device at each stage's peak; of layers that pass before it."""
    vae, parts = held.get("vae", 0.0), costs.sizes.parts
    if plan.placement == "device" or (not accelerated and plan.placement != "disk"):
        return {**dict.fromkeys(("encode", "step", "decode"), sum(held.values())), "layers": 0.0}
    if plan.placement == "parts":
        encoders = max(held.get("text_encoder", 0.0), held.get("image_encoder", 0.0))
        # the VAE stays from its first use on; the text encoder until another part takes over
        step = held["transformer"] + vae
        return {"encode": encoders + vae, "step": step, "decode": vae, "layers": 0.0}
    form, ahead = plan.form("transformer"), 2 if accelerated else 1
    transformer = parts["transformer"]
    blocks = transformer.outside(form) + ahead * transformer.largest_block(form)
    layers = [parts[name].largest_tensor(plan.form(name)) for name in ENCODERS if name in parts]
    passing = LAYERS * max(layers, default=0.0)
    return {"encode": vae, "step": blocks + vae, "decode": vae, "layers": passing}


def _host(
    costs: Costs,
    plan: Plan,
    held: Mapping[str, float],
    on_device: Mapping[str, float],
    accelerated: bool,
) -> float:
    """Main memory: what waits there, or, from disk, what is converted before it goes there."""
    if plan.placement != "disk":
        return sum(held.values()) + PROCESS
    converted = sum(size for name, size in held.items() if plan.form(name) != Form())
    dtype = plan.dtype or costs.sizes.parts["transformer"].dtype
    working = 0.0 if accelerated else max(on_device.values()) + costs.steps(dtype, plan.keeps).peak
    return max(converted, working) + PROCESS
