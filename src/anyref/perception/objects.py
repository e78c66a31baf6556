"""Objects: SSD-MobileNetV2 trained on COCO, 80 classes of everyday things.

On drawn or 3D-rendered pictures trust its boxes, not its names: it calls a rendered rabbit a bird.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.perception.contracts import Box, Detection, Picture, check_pairs, check_pictures
from anyref.perception.runtimes import SmallModel, opencv, require

SIDE = 300
# COCO's class numbers run to 90 with gaps (Lin et al. 2014); `-` holds the place of an unused one.
_LABELS = (
    "-,person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,-,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,-,"
    "backpack,umbrella,-,-,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,"
    "baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,-,wine glass,cup,fork,"
    "knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,"
    "couch,potted plant,bed,-,dining table,-,-,toilet,-,tv,laptop,mouse,remote,keyboard,cell phone,"
    "microwave,oven,toaster,sink,refrigerator,-,book,clock,vase,scissors,teddy bear,hair drier,"
    "toothbrush"
)
COCO_LABELS = tuple(_LABELS.split(","))


class SsdMobileNet(SmallModel):
    """Object detector of 80 classes (Liu et al. 2016, Sandler et al. 2018), through OpenCV.

    Args:
        min_score: objects below are left out. At .5 it sees a computer mouse on an astronaut.
    """

    source = "ssd-mobilenet-v2"
    vocabulary: frozenset[str] | None = frozenset(COCO_LABELS) - {"-"}

    def __init__(self, *args: Any, min_score: float = 0.6, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.min_score = min_score

    @cached_property
    def network(self) -> Any:
        """cv2.dnn.Net."""
        graph, text = self.weights.files
        return require("cv2").dnn.readNetFromTensorflow(str(graph), str(text))

    def detect(
        self, pictures: Sequence[Picture], words: Sequence[Sequence[str]] | None = None
    ) -> list[tuple[Detection, ...]]:
        """The objects of each picture, best score first.

        Args:
            words: per picture, the classes to look for; a word that is no class finds nothing.

        Raises:
            PerceptionError: for pictures of another form, lengths that differ, missing weights.
        """
        check_pictures(pictures)
        if words is None:
            wanted = [frozenset(COCO_LABELS)] * len(pictures)
        else:
            check_pairs(pictures, words, "lists of words")
            wanted = [frozenset(word.strip().lower() for word in some) for some in words]
        return [
            tuple(d for d in self._detect_one(picture) if d.label in labels)
            for picture, labels in zip(pictures, wanted, strict=True)
        ]

    def _detect_one(self, picture: Picture) -> list[Detection]:
        with opencv(self.threads) as cv2:
            blob = cv2.dnn.blobFromImage(
                np.ascontiguousarray(picture), size=(SIDE, SIDE), swapRB=False
            )
            self.network.setInput(blob)
            rows = self.network.forward()
        return _detections(np.asarray(rows).reshape(-1, 7), picture.shape, self.min_score)


def _detections(
    rows: NDArray[np.float32], shape: tuple[int, ...], min_score: float
) -> list[Detection]:
    """Detections of rows: place in the batch, class, score, then edges x, y, x, y of 0 to 1."""
    height, width = shape[:2]
    found = []
    for _, number, score, *edges in rows.tolist():
        label = COCO_LABELS[int(number)] if 0 < int(number) < len(COCO_LABELS) else "-"
        if score >= min_score and label != "-":
            left, right = (width * min(max(edge, 0.0), 1.0) for edge in edges[0::2])
            top, bottom = (height * min(max(edge, 0.0), 1.0) for edge in edges[1::2])
            found.append(Detection(box=Box(left, top, right, bottom), label=label, score=score))
    return sorted(found, key=lambda detection: -detection.score)
