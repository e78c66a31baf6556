"""What the stages of a generation hold beside weights, found by running them without numbers.

The code that runs is the one that will make the video, under `FakeTensorMode`: tensors have shapes
and storages, and no memory. The transformer runs with two and with three blocks, from which every
depth follows; the VAE with as many chunks as it takes until all of its features are kept.

Axes: B batch, C channels, F latent frames, H W latent rows and columns, L text tokens, T frames,
Y X pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from anyref.models.strength import ReferenceStrength
from anyref.pipelines.conditioning import Conditioning
from anyref.pipelines.decoding import decoded_chunks
from anyref.pipelines.memory.meter import Cost, measure
from anyref.pipelines.sampling import VideoPasses
from anyref.pipelines.side_by_side import in_turn
from anyref.request import LatentShape, PixelShape

FEWEST = 2  # blocks
CHUNK = 4  # frames the VAE encodes at a time
STEADY = 3  # chunks after which it holds all the features it keeps


@dataclass(frozen=True)
class Strengths:
    """Of a request's references, and how they act (`models.strength`)."""

    gains: tuple[float, ...] = ()
    map: str = "attention"

    @property
    def acting(self) -> tuple[float, ...]:
        """Those that are not 1."""
        return tuple(gain for gain in self.gains if gain != 1.0)

    @property
    def contrasts(self) -> int:
        """Passes of the transformer that they add to each step."""
        return sum(gain > 0.0 for gain in self.acting) if self.map == "guidance" else 0


NONE = Strengths()


def steps(
    model_class: Any,
    config: Mapping[str, Any],
    cells: LatentShape,
    *,
    dtype: torch.dtype,
    text_length: int,
    image_tokens: int = 0,
    references: tuple[tuple[int, int], ...] = (),
    guided: bool = True,
    strengths: Strengths = NONE,
    keeps: bool = True,
) -> Cost:
    """Peak of the denoising loop beside weights; operations of one step.

    Args:
        model_class: of the transformer. config: its arguments.
        references: (h, w) latent cells of each picture that becomes tokens (Kaleido's).
        guided: two passes per step. strengths: of references. keeps: as the memory plan's.
    """
    costs = []
    for blocks in (FEWEST, FEWEST + 1):
        with _without_numbers():
            model = _network(model_class, {**config, "num_layers": blocks}, dtype)
            made = _conditioning(config, cells, dtype, image_tokens, references)
            made = replace(made, strength=_strength(config, cells, references, strengths))
            run = _Loop(model, made, config, cells, dtype, text_length, guided, keeps)
            costs.append(measure(run, (*model.parameters(), *model.buffers())))
    whole = costs[0].extrapolate(costs[1], config["num_layers"] - FEWEST)
    # keys and values of the text and the image are made in the first step, so count one step only
    return Cost(peak=whole.peak, flops=whole.flops / _Loop.STEPS)


class _Loop:
    """Two steps of the loop, so that all is held that one step keeps for the next."""

    STEPS = 2

    def __init__(
        self,
        model: Any,
        made: Conditioning,
        config: Mapping[str, Any],
        cells: LatentShape,
        dtype: torch.dtype,
        text_length: int,
        guided: bool,
        keeps: bool,
    ) -> None:
        size = (1, config["out_channels"], cells.num_frames, cells.height, cells.width)
        self.model, self.made, self.guided, self.keeps = model, made, guided, keeps
        self.latents = torch.empty(size)
        texts = [torch.empty(1, text_length, config["text_dim"], dtype=dtype) for _ in "pn"]
        self.texts = (texts[0], texts[1])

    @torch.no_grad()
    def __call__(self) -> None:
        passes = VideoPasses(self.model, self.made, self.latents, self.STEPS, remember=self.keeps)
        latents = self.latents
        for step in range(self.STEPS):
            t, scale = torch.tensor(500.0), 5.0 if self.guided else 1.0
            velocity = passes.guided(step, t, latents, self.texts, self.made, scale, in_turn)
            latents = latents + 0.1 * velocity


def _conditioning(
    config: Mapping[str, Any],
    cells: LatentShape,
    dtype: torch.dtype,
    image_tokens: int,
    references: tuple[tuple[int, int], ...],
) -> Conditioning:
    channels = config["in_channels"] - config["out_channels"]
    size = (1, channels, cells.num_frames, cells.height, cells.width)
    pictures = [
        torch.empty(1, config["in_channels"], 1, *picture, dtype=dtype) for picture in references
    ]
    return Conditioning(
        channels=torch.empty(size, dtype=dtype) if channels else None,
        image_embeds=torch.empty(1, image_tokens, config["image_dim"], dtype=dtype)
        if config.get("image_dim")
        else None,
        transformer_kwargs={"reference_hidden_states": pictures} if pictures else {},
    )


def _strength(
    config: Mapping[str, Any],
    cells: LatentShape,
    references: tuple[tuple[int, int], ...],
    strengths: Strengths,
) -> ReferenceStrength | None:
    """Strengths of references whose tokens are somewhere among the leading ones."""
    gains = strengths.acting
    if not gains:
        return None
    _, rows, columns = config["patch_size"]
    leading = sum(height * width for height, width in references) // (rows * columns)
    count = leading or cells.height * cells.width // (rows * columns)
    return ReferenceStrength(
        keys=torch.zeros(count, len(gains)),
        gains=gains,
        leading=leading,
        map=strengths.map,  # type: ignore[arg-type]
    )


def decode(config: Mapping[str, Any], cells: LatentShape, dtype: torch.dtype) -> Cost:
    """Peak of decoding latents of this shape chunk by chunk; operations of all chunks."""
    frames = min(cells.num_frames, STEADY)
    with _without_numbers():
        vae = _network(AutoencoderKLWan, config, dtype)
        size = (1, config["z_dim"], frames, cells.height, cells.width)
        latents = torch.empty(size, dtype=dtype)

        def run() -> None:
            for _ in decoded_chunks(vae, latents):
                pass

        cost = measure(run, (*vae.parameters(), *vae.buffers()))
    return Cost(peak=cost.peak, flops=cost.flops * cells.num_frames / frames)


def encode(config: Mapping[str, Any], shape: PixelShape, dtype: torch.dtype) -> Cost:
    """Peak of encoding one frame before zeros, each part's last output kept (`still_tail`).

    Operations are those of all chunks, a little more than are computed.
    """
    frames = min(shape.num_frames, 1 + CHUNK * (STEADY - 1))
    with _without_numbers():
        vae = _network(AutoencoderKLWan, config, dtype)
        kept: dict[nn.Module, Tensor] = {}

        def keep(module: nn.Module, _: Any, output: Tensor) -> None:
            kept[module] = output

        encoder = vae.encoder
        for part in (encoder.conv_in, *encoder.down_blocks, encoder.mid_block):
            part.register_forward_hook(keep)
        pixels = torch.empty(1, 3, frames, shape.height, shape.width, dtype=dtype)

        @torch.no_grad()
        def run() -> None:
            vae.encode(pixels)

        cost = measure(run, (*vae.parameters(), *vae.buffers()))
    return Cost(peak=cost.peak, flops=cost.flops * shape.num_frames / frames)


@contextmanager
def _without_numbers() -> Any:
    with warnings.catch_warnings(), FakeTensorMode():
        warnings.simplefilter("ignore")  # the libraries', met again when it is meant
        yield


def _network(model_class: Any, config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    made = model_class(**config)
    kept = set(getattr(made, "_keep_in_fp32_modules", None) or ())
    for name, parameter in made.named_parameters():
        if not kept & set(name.split(".")):
            parameter.data = parameter.data.to(dtype)
    return made.eval()
