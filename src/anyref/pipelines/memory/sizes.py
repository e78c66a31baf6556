"""What a model weighs, told from its configurations and the headers of its weight files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anyref.errors import ModelError
from anyref.models.weights.eight_bit import EIGHT_BIT
from anyref.models.weights.opening import find_transformer
from anyref.models.weights.reader import find_weights, open_weights
from anyref.request import ShapeRules

SCALE_BYTES = 4  # a float32 for every row of an 8-bit matrix
BLOCKS = {
    "transformer": "blocks.",
    "text_encoder": "encoder.block.",
    "image_encoder": "encoder.layers.",
    "vae": "",
}
STEMS = {"text_encoder": "model", "image_encoder": "model", "vae": "diffusion_pytorch_model"}
IMAGE_TOKENS = 257  # of CLIP's ViT at 224x224 in patches of 14


@dataclass(frozen=True)
class Tensor:
    """A weight without its numbers. num_bytes: as it is stored."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    num_bytes: float


@dataclass(frozen=True)
class Form:
    """What a part's weights become when it is loaded.

    Args:
        dtype: of floating weights; as stored when None.
        eight_bit: linear layers of the blocks are stored as 8-bit numbers.
    """

    dtype: torch.dtype | None = None
    eight_bit: bool = False


@dataclass(frozen=True)
class Part:
    """One model of a pipeline: its tensors, and the name that those of its blocks begin with."""

    tensors: tuple[Tensor, ...]
    blocks: str

    @property
    def dtype(self) -> torch.dtype:
        """Of most numbers among the floating ones; bfloat16 where most are 8-bit or packed."""
        sizes: dict[torch.dtype, float] = {}
        for tensor in self.tensors:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + prod(tensor.shape)
        most = max(sizes, key=lambda dtype: sizes[dtype])
        return torch.bfloat16 if most in EIGHT_BIT or not most.is_floating_point else most

    def num_bytes(self, form: Form) -> float:
        """All of it."""
        return sum(self._size(tensor, form) for tensor in self.tensors)

    def outside(self, form: Form) -> float:
        """What lies in no block."""
        return sum(self._size(t, form) for t in self.tensors if not self._inside(t))

    def largest_block(self, form: Form) -> float:
        """Of its blocks."""
        sizes: dict[str, float] = {}
        for tensor in filter(self._inside, self.tensors):
            number = tensor.name.removeprefix(self.blocks).split(".", 1)[0]
            sizes[number] = sizes.get(number, 0) + self._size(tensor, form)
        return max(sizes.values(), default=0.0)

    def largest_tensor(self, form: Form) -> float:
        """The largest weight: an embedding of words, or a matrix."""
        return max((self._size(tensor, form) for tensor in self.tensors), default=0.0)

    def widened(self, form: Form) -> float:
        """Of the largest 8-bit matrix while it is multiplied with; 0 when there is none."""
        width = (form.dtype or self.dtype).itemsize
        return max(
            (prod(t.shape) * width for t in self.tensors if self._narrow(t, form)), default=0
        )

    @property
    def matrices(self) -> float:
        """Weights of linear layers inside the blocks."""
        return sum(prod(t.shape) for t in self.tensors if self._linear(t))

    def _inside(self, tensor: Tensor) -> bool:
        return bool(self.blocks) and tensor.name.startswith(self.blocks)

    def _linear(self, tensor: Tensor) -> bool:
        named = tensor.name.endswith(".weight") and "relative_attention_bias" not in tensor.name
        return self._inside(tensor) and len(tensor.shape) == 2 and named

    def _narrow(self, tensor: Tensor, form: Form) -> bool:
        stored = tensor.dtype in EIGHT_BIT or not tensor.dtype.is_floating_point
        return self._linear(tensor) and (form.eight_bit or stored)

    def _size(self, tensor: Tensor, form: Form) -> float:
        count = prod(tensor.shape)
        if self._narrow(tensor, form):
            return min(tensor.num_bytes, float(count)) + SCALE_BYTES * tensor.shape[0]
        dtype = form.dtype or tensor.dtype
        if tensor.dtype in EIGHT_BIT or not tensor.dtype.is_floating_point:
            dtype = form.dtype or torch.bfloat16
        return float(count * dtype.itemsize)

    @classmethod
    def of_module(cls, module: nn.Module, blocks: str, dtype: torch.dtype) -> Part:
        """A module's own parameters (on any device, meta too), as if stored in `dtype`."""
        return cls(
            tuple(
                Tensor(name, tuple(p.shape), dtype, p.numel() * dtype.itemsize)
                for name, p in module.named_parameters()
            ),
            blocks,
        )


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """What plans and predictions know of a model.

    Args:
        parts: transformer, vae, text_encoder, image_encoder: those that there are.
        model_class: of the transformer. config: its arguments. vae_config: the VAE's.
        rules: its sizes. text_length: tokens. references_are_tokens: as Kaleido's are.
    """

    name: str
    parts: Mapping[str, Part] = field(repr=False)
    model_class: Any
    config: Mapping[str, Any] = field(repr=False)
    vae_config: Mapping[str, Any] | None = field(repr=False)
    rules: ShapeRules
    text_length: int
    references_are_tokens: bool = False

    @property
    def image_tokens(self) -> int:
        """What cross-attention reads beside the text."""
        return IMAGE_TOKENS if self.config.get("image_dim") else 0


def sizes_of(info: Any, transformer: Path | None = None) -> ModelSizes:
    """Sizes of a model folder.

    Args:
        info: a `ModelInfo`. transformer: a file of weights in place of the folder's.

    Raises:
        ModelError: a configuration or a header that cannot be read.
    """
    from diffusers import WanTransformer3DModel

    from anyref.models.kaleido_transformer import KaleidoTransformer3DModel

    kaleido = info.family == "kaleido"
    folder: Path = info.folder
    file = find_transformer(transformer or folder / "transformer")
    parts = {"transformer": Part(tuple(_headers(file)), BLOCKS["transformer"])}
    for name, stem in STEMS.items():
        if name in info.components:
            tensors = tuple(_headers(find_weights(folder / name, stem)))
            parts[name] = Part(tensors, BLOCKS[name])
    return ModelSizes(
        name=info.name,
        parts=parts,
        model_class=KaleidoTransformer3DModel if kaleido else WanTransformer3DModel,
        config=_arguments(folder / "transformer"),
        vae_config=_arguments(folder / "vae") if "vae" in parts else None,
        rules=info.rules,
        text_length=info.defaults["max_sequence_length"],
        references_are_tokens=kaleido,
    )


def _headers(file: Path) -> Iterator[Tensor]:
    if file.suffix == ".gguf":
        yield from _gguf_headers(file)
        return
    for name, stored in _known_names(open_weights(file)).items():
        yield Tensor(name, stored.shape, stored.dtype, prod(stored.shape) * stored.dtype.itemsize)


def _known_names(weights: Any) -> Mapping[str, Any]:
    from anyref.models.weights.transformer import COMFYUI_PREFIXES

    plain = weights.without((*COMFYUI_PREFIXES, "transformer.layers."))
    # SAT's layers are numbered without a common name of ours
    return {f"blocks.{n}" if n[:1].isdigit() else n.replace("._data", ""): plain[n] for n in plain}


def _gguf_headers(file: Path) -> Iterable[Tensor]:
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ModelError(
            f"{str(file)!r} needs the package gguf, which is not installed; "
            "pip install 'anyref[quantized]'"
        ) from error
    plain = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    for tensor in GGUFReader(file).tensors:
        name = tensor.name.removeprefix("model.diffusion_model.")
        shape = tuple(int(n) for n in tensor.shape[::-1])
        dtype = plain.get(tensor.tensor_type.name, torch.uint8)
        yield Tensor(name, shape, dtype, float(tensor.n_bytes))


def _arguments(folder: Path) -> dict[str, Any]:
    try:
        read = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(folder / 'config.json')!r} cannot be read: {error}") from error
    return {name: value for name, value in read.items() if not name.startswith("_")}
