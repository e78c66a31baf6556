"""Two picture networks whose packages ship weights only: EfficientNet-Lite0 and MobileNetV2.

Both are chains of inverted residual blocks (Sandler et al. 2018): widen by 1 x 1, filter each
channel by k x k, narrow by 1 x 1, and add the input where its shape allows. Parameters carry the
names of the published weight files, so that these load strictly.

Axes: B batch, C channels, H W rows and columns of a feature map
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# repeats, kernel, stride of the first, widening, channels out (Tan and Le 2019, table 1)
LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# repeats, stride of the first, widening, channels out (Sandler et al. 2018, table 2)
MOBILENET_STAGES = (
    (1, 1, 1, 16),
    (2, 2, 6, 24),
    (3, 2, 6, 32),
    (4, 2, 6, 64),
    (3, 1, 6, 96),
    (3, 2, 6, 160),
    (1, 1, 6, 320),
)
NUM_CLASSES = 1000
NUM_FEATURES = 1280
STEM = 32


class SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's "same": an odd row or column goes to the bottom right."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        padding: list[int] = []
        for size, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            missing = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            padding += [missing // 2, missing - missing // 2]
        return super().forward(F.pad(x, padding))


class LiteBlock(nn.Module):
    """Inverted residual block of EfficientNet-Lite: ReLU6 and no squeeze-and-excitation."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, widening: int) -> None:
        super().__init__()
        wide = before * widening
        if widening > 1:
            self._expand_conv = SameConv2d(before, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=1e-3)
        self.widens = widening > 1
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=1e-3)
        self._project_conv = SameConv2d(wide, after, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(after, eps=1e-3)
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        wide = F.relu6(self._bn0(self._expand_conv(x))) if self.widens else x
        wide = F.relu6(self._bn1(self._depthwise_conv(wide)))
        narrow = self._bn2(self._project_conv(wide))
        return x + narrow if self.adds else narrow


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 for ImageNet, 4.7 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM, eps=1e-3)
        blocks, before = [], STEM
        for repeats, kernel, stride, widening, after in LITE0_STAGES:
            for index in range(repeats):
                step = stride if index == 0 else 1
                blocks.append(LiteBlock(before, after, kernel, step, widening))
                before = after
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(before, NUM_FEATURES, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(NUM_FEATURES, eps=1e-3)
        self._fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def embed(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) of (value - 127) / 128 to features (B, 1280), mean over places."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))

    @property
    def classifier(self) -> nn.Sequential:
        """Features (B, 1280) to ImageNet logits (B, 1000)."""
        return nn.Sequential(self._fc)


def _normed(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU6(),
    )


class MobileBlock(nn.Module):
    """Inverted residual block of MobileNetV2."""

    def __init__(self, before: int, after: int, stride: int, widening: int) -> None:
        super().__init__()
        wide = before * widening
        layers = [_normed(before, wide, 1)] if widening > 1 else []
        layers += [
            _normed(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, after, 1, bias=False),
            nn.BatchNorm2d(after),
        ]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 for ImageNet, 3.5 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        layers, before = [_normed(3, STEM, 3, 2)], STEM
        for repeats, stride, widening, after in MOBILENET_STAGES:
            for index in range(repeats):
                layers.append(MobileBlock(before, after, stride if index == 0 else 1, widening))
                before = after
        layers.append(_normed(before, NUM_FEATURES, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(NUM_FEATURES, NUM_CLASSES))

    def embed(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W), normalised as ImageNet's, to features (B, 1280)."""
        return self.features(x).mean((2, 3))
