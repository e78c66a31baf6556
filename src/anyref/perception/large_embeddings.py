"""Picture and text embeddings of transformers: CLIP and DINOv2, and a score of looks on CLIP's.

Axes: N items, D features, H W rows and columns of the network's input
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from anyref.errors import PerceptionError
from anyref.packages import sha256_of
from anyref.perception.contracts import Features, ModelCard, Picture, check_pictures, unit
from anyref.perception.large_checkpoints import (
    CLIP,
    DINOV2,
    LargeModel,
    batches,
    check_device,
    joined_digest,
)

if TYPE_CHECKING:
    import torch

GREY = (128, 128, 128)
LAYER = re.compile(r"(?:.*?(\d+)\.)?(weight|bias)")


class _PictureEmbedder(LargeModel):
    """Embeds whole pictures: padded with grey to a square, so that no edge of a subject is cut."""

    default_batch = 32
    _network_name: ClassVar[str]  # of its class in transformers

    @cached_property
    def network(self) -> Any:
        """The model of transformers."""
        return self._load(self._network_name)

    @cached_property
    def processor(self) -> Any:
        """Normalises as the network was trained."""
        return self._load_image_processor()

    def embed(self, pictures: Sequence[Picture]) -> Features:
        """Unit vectors (N, D).

        Raises:
            PerceptionError: for anything but uint8 RGB arrays, or weights that are missing.
        """
        return self._run(pictures, whole=True)

    def _run(self, pictures: Sequence[Picture], *, whole: bool) -> Features:
        """Unit vectors of whole pictures, or of the middles that the processor cuts out."""
        import torch

        check_pictures(pictures)
        side = int(self.processor.crop_size["height"])
        size = {"do_center_crop": False, "size": {"height": side, "width": side}} if whole else {}
        vectors = [np.zeros((0, self._width), np.float32)]
        for some in batches(pictures, self.batch):
            images = [_squared(picture) if whole else Image.fromarray(picture) for picture in some]
            values = self.processor(images=images, return_tensors="pt", **size)["pixel_values"]
            with torch.inference_mode():
                features = self._pool(values.to(self.network.device, self.network.dtype))
            vectors.append(features.float().cpu().numpy())
        return unit(np.concatenate(vectors))

    @property
    @abstractmethod
    def _width(self) -> int:
        """How many features."""

    @abstractmethod
    def _pool(self, values: torch.Tensor) -> torch.Tensor:
        """Features (N, D) of normalised pictures (N, 3, H, W)."""


class ClipPictures(_PictureEmbedder):
    """CLIP's picture half (Radford et al. 2021); near means the same words would fit."""

    default = CLIP
    _network_name = "CLIPVisionModelWithProjection"

    @property
    def _width(self) -> int:
        return int(self.network.config.projection_dim)

    def _pool(self, values: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values=values).image_embeds


class DinoV2(_PictureEmbedder):
    """DINOv2's class token (Oquab et al. 2023); near means the same thing, seen alike."""

    default = DINOV2
    _network_name = "Dinov2Model"

    @property
    def _width(self) -> int:
        return int(self.network.config.hidden_size)

    def _pool(self, values: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values=values).pooler_output


class ClipTexts(LargeModel):
    """CLIP's text half: its cosine with `ClipPictures` of the same checkpoint says what fits.

    A text ends after 77 tokens; what comes later is not read.
    """

    default = CLIP
    default_batch = 64

    @cached_property
    def network(self) -> Any:
        """transformers.CLIPTextModelWithProjection."""
        return self._load("CLIPTextModelWithProjection")

    @cached_property
    def tokenizer(self) -> Any:
        """CLIP's."""
        return self._load_part("AutoTokenizer")

    def embed(self, texts: Sequence[str]) -> Features:
        """Unit vectors (N, D).

        Raises:
            PerceptionError: when the weights are missing.
        """
        import torch

        length = int(self.network.config.max_position_embeddings)
        vectors = [np.zeros((0, int(self.network.config.projection_dim)), np.float32)]
        for some in batches(texts, self.batch):
            tokens = self.tokenizer(
                list(some), padding=True, truncation=True, max_length=length, return_tensors="pt"
            ).to(self.network.device)
            with torch.inference_mode():
                output = self.network(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
                )
            vectors.append(output.text_embeds.float().cpu().numpy())
        return unit(np.concatenate(vectors))


class ClipAesthetics(ClipPictures):
    """How pictures please people: linear layers on CLIP's vector (LAION's aesthetic predictor).

    Score of the middle of a picture, as CLIP's processor cuts it; about 1 to 10 for LAION's heads.

    Args:
        head: a safetensors file with weight and bias of each layer under the layer's number
            (`layers.0.weight`), nothing but linear layers between the vector and one number.
        head_licence: of that file.
    """

    higher_is_better = True

    def __init__(
        self, head: str | Path, *args: Any, head_licence: str = "not stated", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.head_file = Path(head)
        self.head_licence = head_licence

    @cached_property
    def card(self) -> ModelCard:
        """CLIP's card with the head's name, digest and licence added."""
        clip = self.checkpoint.card()
        return ModelCard(
            name=f"{clip.name}+{self.head_file.stem}",
            version=clip.version,
            sha256=joined_digest([clip.sha256, sha256_of(self._checked_head())]),
            licence=f"{clip.licence}; head: {self.head_licence}",
            doubt=clip.doubt,
        )

    @cached_property
    def head(self) -> tuple[tuple[Any, Any], ...]:
        """Weights (D', D) and biases (D',) of the layers, in order.

        Raises:
            PerceptionError: when the file is no such chain of layers.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self._checked_head()
        try:
            tensors = load_file(path, device=check_device(self.device))
        except SafetensorError as error:
            raise PerceptionError(f"{str(path)!r} is no safetensors file: {error}") from error
        layers: dict[int, dict[str, Any]] = {}
        for key, tensor in tensors.items():
            if match := LAYER.fullmatch(key):
                layers.setdefault(int(match[1] or 0), {})[match[2]] = tensor.float()
        chain = [layers[number] for number in sorted(layers)]
        widths = [self._width, *(len(layer.get("bias", ())) for layer in chain)]
        shapes = [tuple(layer["weight"].shape) for layer in chain if "weight" in layer]
        if shapes != list(zip(widths[1:], widths, strict=False)) or widths[-1] != 1:
            raise PerceptionError(
                f"{str(path)!r} has layers of {shapes}, not linear ones from {widths[0]} features "
                "to one number; give the head that was trained on this CLIP"
            )
        return tuple((layer["weight"], layer["bias"]) for layer in chain)

    def score(self, pictures: Sequence[Picture]) -> list[float]:
        """One number per picture, higher is better.

        Raises:
            PerceptionError: for anything but uint8 RGB arrays, weights that are missing, or a head
                that does not fit.
        """
        import torch

        values = torch.from_numpy(self._run(pictures, whole=False)).to(self.device)
        for weight, bias in self.head:
            values = values @ weight.T + bias
        return [float(value) for value in values[:, 0].tolist()]

    def _checked_head(self) -> Path:
        if not self.head_file.is_file():
            raise PerceptionError(
                f"{str(self.head_file)!r} is no file; save the head's layers there as safetensors"
            )
        return self.head_file


def _squared(picture: Picture) -> Image.Image:
    """The picture in the middle of a grey square of its long side."""
    height, width = picture.shape[:2]
    side = max(height, width)
    square = Image.new("RGB", (side, side), GREY)
    square.paste(Image.fromarray(picture), ((side - width) // 2, (side - height) // 2))
    return square
