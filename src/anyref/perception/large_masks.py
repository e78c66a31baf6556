"""Masks by box: SAM 2.

Axes: B pictures, N boxes, S side of the network's square, s of its masks, Y X pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.errors import PerceptionError
from anyref.perception.contracts import (
    Box,
    Mask,
    Picture,
    Segmenter,
    check_pairs,
    check_pictures,
)
from anyref.perception.embeddings import IMAGENET_DEVIATION, IMAGENET_MEAN
from anyref.perception.large_checkpoints import SAM2, LargeModel, batches
from anyref.perception.masks import MARGIN

if TYPE_CHECKING:
    import torch


class Sam2(LargeModel):
    """SAM 2 on pictures (Ravi et al. 2024): one mask per box, of the picture's own size.

    A picture that stands several times in a call, once for each of its boxes, is encoded once.

    Args:
        whole: who cuts out what stands out where no box is given; SAM 2 needs a prompt.
    """

    default = SAM2

    def __init__(self, *args: Any, whole: Segmenter | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.whole = whole

    @cached_property
    def network(self) -> Any:
        """transformers.Sam2Model."""
        return self._load("Sam2Model")

    def segment(
        self, pictures: Sequence[Picture], boxes: Sequence[Box | None] | None = None
    ) -> list[Mask]:
        """A soft mask (Y, X) of 0 to 1 per picture.

        Args:
            boxes: per picture, where the subject is; the mask is 0 beyond a tenth of the box
                around it. None: `whole` is asked.

        Raises:
            PerceptionError: for no box without `whole`, a box outside its picture, pictures of
                another form, lengths that differ, or weights that are missing.
        """
        check_pictures(pictures)
        boxes = [None] * len(pictures) if boxes is None else boxes
        check_pairs(pictures, boxes, "boxes")
        masks: dict[int, Mask] = {}
        unprompted = [number for number, box in enumerate(boxes) if box is None]
        if unprompted:
            masks.update(self._whole(pictures, unprompted))
        rows: dict[int, list[int]] = {}  # numbers of one and the same picture
        for number, box in enumerate(boxes):
            if box is not None:
                _check_inside(box, pictures[number])
                rows.setdefault(id(pictures[number]), []).append(number)
        for some in batches(list(rows.values()), self.batch):
            masks.update(self._prompted(pictures, boxes, some))
        return [masks[number] for number in range(len(pictures))]

    def _whole(self, pictures: Sequence[Picture], numbers: Sequence[int]) -> dict[int, Mask]:
        if self.whole is None:
            raise PerceptionError(
                "SAM 2 was given no box and has no model for whole pictures; give a box for each, "
                "or Sam2(..., whole=IsNet())"
            )
        masks = self.whole.segment([pictures[number] for number in numbers])
        return dict(zip(numbers, masks, strict=True))

    def _prompted(
        self,
        pictures: Sequence[Picture],
        boxes: Sequence[Box | None],
        rows: Sequence[Sequence[int]],
    ) -> dict[int, Mask]:
        """Masks by number; each row holds the numbers of one picture."""
        import torch

        side = int(self.network.config.prompt_encoder_config.image_size)
        squares = np.stack([_square(pictures[row[0]], side) for row in rows])  # (B, 3, S, S)
        masks: dict[int, Mask] = {}
        with torch.inference_mode():
            values = torch.from_numpy(squares).to(self.network.device, self.network.dtype)
            maps = self.network.get_image_embeddings(values)  # finest first, (B, C, H, W) each
            for place, row in enumerate(rows):
                picture = pictures[row[0]]
                prompts = [_prompt(boxes[number], picture, side) for number in row]
                output = self.network(
                    image_embeddings=[one[place : place + 1] for one in maps],
                    input_boxes=torch.tensor([prompts]).to(values),  # (1, N, 4)
                    multimask_output=False,
                )
                soft = _stretched(output.pred_masks[0], picture)  # (N, Y, X)
                for number, mask in zip(row, soft, strict=True):
                    masks[number] = _within(mask, boxes[number], picture)
        return masks


def _check_inside(box: Box, picture: Picture) -> None:
    rows, columns = box.pixels(picture)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        height, width = picture.shape[:2]
        raise PerceptionError(
            f"{box} covers nothing of a picture of {width}x{height}; give left, top, right, bottom "
            "in its pixels"
        )


def _square(picture: Picture, side: int) -> NDArray[np.float32]:
    """A picture squashed to (3, S, S) and normalised as ImageNet's, as SAM 2 was trained."""
    small = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
    values = np.asarray(small, np.float32) / np.float32(255)
    mean, deviation = np.array(IMAGENET_MEAN, np.float32), np.array(IMAGENET_DEVIATION, np.float32)
    values = (values - mean) / deviation
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _prompt(box: Box | None, picture: Picture, side: int) -> list[float]:
    """The box in pixels of the square."""
    assert box is not None
    height, width = picture.shape[:2]
    x, y = side / width, side / height
    return [box.left * x, box.top * y, box.right * x, box.bottom * y]


def _stretched(logits: torch.Tensor, picture: Picture) -> NDArray[np.float32]:
    """Masks (N, 1, s, s) as probabilities at the picture's size (N, Y, X)."""
    import torch.nn.functional as F

    size = picture.shape[:2]
    large = F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
    return large[:, 0].sigmoid().cpu().numpy()


def _within(mask: NDArray[np.float32], box: Box | None, picture: Picture) -> Mask:
    assert box is not None
    rows, columns = box.grown(MARGIN).pixels(picture)
    kept = np.zeros_like(mask)
    kept[rows, columns] = mask[rows, columns]
    return kept
