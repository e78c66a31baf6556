"""Architectures by name or from a pipeline folder's configuration, without weights.

The 14B and 1.3B numbers are Wan2.1's; MAGREF is its image-to-video form (36 input channels, an
image branch of width 1280), Kaleido its text-to-video form.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from anyref.errors import ModelError, TrainingError
from anyref.models import presets
from anyref.models.kaleido_transformer import KaleidoTransformer3DModel
from anyref.pipelines.loading import describe_model
from anyref.request import PixelShape, ShapeRules
from anyref.training.recipe import Shape

TINY_VOCABULARY = 256  # about; the tokenizer of a small model is made from its captions
IMAGE_TOKENS = 257  # ViT-H/14 at 224x224
_UMT5_XXL = {
    "vocab_size": 256384,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
_CLIP_VIT_H = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a plan has to know of a model.

    Args:
        transformer: class and configuration. encoders: the other parts, each a builder.
        spatial, temporal: pixels per latent cell, frames per latent frame.
        text_length: tokens of text. size: (height, width, network frames) when a recipe names none.
        references_are_tokens: each picture adds tokens (Kaleido) instead of channels (MAGREF).
        reference_area: cells of such a picture, as a share of a video frame's.
    """

    name: str
    transformer: tuple[type[WanTransformer3DModel], Mapping[str, Any]]
    encoders: Mapping[str, Callable[[], nn.Module]] = field(repr=False)
    spatial: int = 8
    temporal: int = 4
    text_length: int = 512
    size: tuple[int, int, int] = (480, 832, 81)
    references_are_tokens: bool = False
    reference_area: float = 1.0

    @property
    def num_layers(self) -> int:
        """Blocks of the transformer."""
        return int(self.transformer[1]["num_layers"])

    @property
    def patch(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns per token."""
        frames, rows, columns = self.transformer[1]["patch_size"]
        return frames, rows, columns

    def build(self, num_layers: int | None = None) -> WanTransformer3DModel:
        """The transformer on the current default device, with another depth if one is given."""
        made, config = self.transformer
        return made(**{**config, "num_layers": num_layers or self.num_layers})

    def latent_shape(self, height: int, width: int, num_frames: int) -> tuple[int, int, int]:
        """(F, H, W) of network frames in pixels.

        Raises:
            SizeError: a size that the codec or the patches do not divide.
        """
        limit = self.transformer[1]["rope_max_seq_len"]
        rules = ShapeRules(self.spatial, self.temporal, self.patch, limit, 0)
        rules.check(PixelShape(num_frames, height, width))
        frames = (num_frames - 1) // self.temporal + 1
        return frames, height // self.spatial, width // self.spatial

    def reference_shape(self, rows: int, columns: int) -> tuple[int, int]:
        """(h, w) latent cells of one reference beside a video of (H, W) cells."""
        side = math.sqrt(self.reference_area)
        _, y, x = self.patch
        return max(1, round(rows * side / y)) * y, max(1, round(columns * side / x)) * x


def architecture(base: str, shape: Shape | None) -> Architecture:
    """The architecture of a shape's name, or else of a pipeline folder's configuration files.

    Raises:
        TrainingError: no shape is named and the base is no folder here.
    """
    if shape is None:
        return _of_folder(base)
    if shape.startswith("tiny-"):
        return _tiny(shape)
    sizes = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
    named = {
        "magref-14b": (WanTransformer3DModel, _image_branch(in_channels=36)),
        "kaleido-14b": (KaleidoTransformer3DModel, {}),
        "kaleido-1.3b": (KaleidoTransformer3DModel, sizes),
    }
    made, options = named[shape]
    with torch.device("meta"):
        config = _arguments(made(**{**options, "num_layers": 1})) | {
            "num_layers": options.get("num_layers", 40)
        }
    encoders = {"vae": AutoencoderKLWan, "text_encoder": _builder(UMT5EncoderModel, _UMT5_XXL)}
    if shape == "magref-14b":
        encoders["image_encoder"] = _builder(CLIPVisionModel, _CLIP_VIT_H)
    return Architecture(
        name=shape,
        transformer=(made, config),
        encoders=encoders,
        size=(480, 832, 81) if shape == "magref-14b" else (512, 896, 81),
        references_are_tokens=made is KaleidoTransformer3DModel,
    )


def _image_branch(in_channels: int) -> dict[str, Any]:
    return {"in_channels": in_channels, "image_dim": 1280, "added_kv_proj_dim": 5120}


def _tiny(shape: Shape) -> Architecture:
    with torch.device("meta"):
        transformer = presets.tiny_transformer(shape.removeprefix("tiny-"))
    return Architecture(
        name=shape,
        transformer=(type(transformer), _arguments(transformer)),
        encoders={
            "vae": presets.tiny_codec,
            "text_encoder": lambda: presets.tiny_text_encoder(TINY_VOCABULARY),
        },
        spatial=presets.PATCH,
        temporal=presets.TEMPORAL_FACTOR,
        text_length=presets.TEXT_LENGTH,
        size=(8 * presets.PATCH, 8 * presets.PATCH, 17),
        references_are_tokens=isinstance(transformer, KaleidoTransformer3DModel),
        reference_area=0.25,
    )


def _of_folder(base: str) -> Architecture:
    try:
        info = describe_model(base)
    except ModelError as error:
        raise TrainingError(
            f"model.base: {error}; or name model.shape to plan without it"
        ) from None
    is_kaleido = info.family == "kaleido"
    made = KaleidoTransformer3DModel if is_kaleido else WanTransformer3DModel
    with torch.device("meta"):
        model = made.from_config(_config(info.folder, "transformer"))
    encoders: dict[str, Callable[[], nn.Module]] = {
        "vae": lambda: AutoencoderKLWan.from_config(_config(info.folder, "vae")),
        "text_encoder": _builder(
            UMT5EncoderModel, lambda: UMT5Config(**_config(info.folder, "text_encoder"))
        ),
        "image_encoder": _builder(
            CLIPVisionModel, lambda: CLIPVisionConfig(**_config(info.folder, "image_encoder"))
        ),
    }
    native = info.defaults.get("reference_size") == "native"
    return Architecture(
        name=info.name,
        transformer=(made, _arguments(model)),
        encoders={name: make for name, make in encoders.items() if name in info.components},
        spatial=info.rules.spatial,
        temporal=info.rules.temporal,
        text_length=info.defaults["max_sequence_length"],
        size=(info.defaults["height"], info.defaults["width"], info.defaults["num_frames"]),
        references_are_tokens=is_kaleido,
        reference_area=info.defaults["reference_area"] if native else 1.0,
    )


def _builder(made: type[nn.Module], config: Any) -> Callable[[], nn.Module]:
    kinds = {UMT5EncoderModel: UMT5Config, CLIPVisionModel: CLIPVisionConfig}
    return lambda: made(config() if callable(config) else kinds[made](**config))


def _arguments(model: WanTransformer3DModel) -> dict[str, Any]:
    """The configuration as arguments of the class."""
    return {k: v for k, v in model.config.items() if not k.startswith("_")}


def _config(folder: Path, part: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
    return read
