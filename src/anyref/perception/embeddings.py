"""Picture embeddings: EfficientNet-Lite0, and MobileNetV2 as a second opinion.

Trained on ImageNet classes: near means the same kind of thing first, the same individual second.
Cosines of two pictures of one animal and of two animals, measured: .84 and .27 by
EfficientNet-Lite0, .85 and .56 by MobileNetV2.

Axes: N pictures, D features, G words, H W rows and columns of the network's input
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.perception.contracts import Features, Picture, check_pictures, unit
from anyref.perception.imagenet import WORDS, group_probabilities
from anyref.perception.runtimes import SmallModel

if TYPE_CHECKING:
    import torch

SIDE = 224
BATCH = 16
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class _TorchEmbedder(SmallModel):
    """An ImageNet network whose features are averaged over places.

    Args:
        device: where torch runs it.
    """

    def __init__(self, cache: Path | None = None, threads: int = 1, device: str = "cpu") -> None:
        super().__init__(cache, threads)
        self.device = device

    @cached_property
    def network(self) -> Any:
        """The module of `anyref.perception.backbones`, with its published weights, in eval mode."""
        import torch

        network = self._empty()
        state = torch.load(self.weights.files[0], map_location="cpu", weights_only=True)
        network.load_state_dict(state)
        return network.to(self.device).eval()

    def embed(self, pictures: Sequence[Picture]) -> Features:
        """Unit vectors (N, 1280).

        Raises:
            PerceptionError: for anything but uint8 RGB arrays, or weights that are not fetched.
        """
        return unit(self.features(pictures))

    def features(self, pictures: Sequence[Picture]) -> Features:
        """The vectors (N, 1280) as the network gives them, for Frechet distances."""
        return self._run(pictures, self.network.embed, self.network.classifier[-1].in_features)

    def classify(self, pictures: Sequence[Picture]) -> Features:
        """Probabilities (N, 1000) of ImageNet's classes, in their usual order."""

        def probabilities(values: torch.Tensor) -> torch.Tensor:
            return self.network.classifier(self.network.embed(values)).softmax(-1)

        return self._run(pictures, probabilities, self.network.classifier[-1].out_features)

    @property
    def words(self) -> tuple[str, ...]:
        """Plain words for groups of ImageNet's classes, G of them."""
        return WORDS

    def name(self, pictures: Sequence[Picture]) -> Features:
        """Probabilities (N, G) of the words."""
        return group_probabilities(self.classify(pictures))

    def _run(
        self, pictures: Sequence[Picture], function: Callable[[Any], Any], width: int
    ) -> Features:
        import torch

        check_pictures(pictures)
        results = [np.zeros((0, width), np.float32)]
        with _torch_threads(self.threads), torch.inference_mode():
            for start in range(0, len(pictures), BATCH):
                small = [_squash(picture) for picture in pictures[start : start + BATCH]]
                values = self._normalise(np.stack(small)).transpose(0, 3, 1, 2)  # (N, 3, H, W)
                tensor = torch.from_numpy(np.ascontiguousarray(values)).to(self.device)
                results.append(function(tensor).float().cpu().numpy())
        return np.concatenate(results)

    @abstractmethod
    def _empty(self) -> Any:
        """The network without weights."""

    @abstractmethod
    def _normalise(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pictures (N, H, W, 3) of 0 to 255 as the network was trained on them."""


class EfficientNetLite0(_TorchEmbedder):
    """1280 features of EfficientNet-Lite0 (Tan and Le 2019), the default subject similarity."""

    source = "efficientnet-lite0"

    def _empty(self) -> Any:
        from anyref.perception.backbones import EfficientNetLite0 as Network

        return Network()

    def _normalise(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return (values - np.float32(127)) / np.float32(128)


class MobileNetV2(_TorchEmbedder):
    """1280 features of MobileNetV2 (Sandler et al. 2018), a second opinion of less contrast."""

    source = "mobilenet-v2"

    def _empty(self) -> Any:
        from anyref.perception.backbones import MobileNetV2 as Network

        return Network()

    def _normalise(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        mean = np.array(IMAGENET_MEAN, np.float32)
        deviation = np.array(IMAGENET_DEVIATION, np.float32)
        return (values / np.float32(255) - mean) / deviation


def _squash(picture: Picture) -> NDArray[np.float32]:
    """A picture as (H, W, 3) of 0 to 255 whatever its aspect ratio, bicubic."""
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(small, np.float32)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
