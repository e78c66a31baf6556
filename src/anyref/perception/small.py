"""The small grade: one model per role, made without loading anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anyref.perception.contracts import (
    Captioner,
    FaceDetector,
    FaceEmbedder,
    ObjectDetector,
    PictureEmbedder,
    QualityScorer,
    SafetyScorer,
    Segmenter,
    ShotDetector,
    TextEmbedder,
    TextReader,
)
from anyref.perception.embeddings import EfficientNetLite0, MobileNetV2
from anyref.perception.faces import DlibFaces, MobileFaceNet, YuNet
from anyref.perception.masks import IsNet, SelfieSegmenter
from anyref.perception.objects import SsdMobileNet
from anyref.perception.quality import Brisque
from anyref.perception.safety import OpenNsfw
from anyref.perception.shots import AdaptiveShots
from anyref.perception.words import BgeSmall, PpOcr


@dataclass(frozen=True, kw_only=True)
class Grade:
    """A model for every role. Another grade is `dataclasses.replace` with larger models.

    Args:
        face_embedders, picture_embedders: the first is the default, the next a second opinion.
        people: a segmenter for people that is faster than `masks`.
        captioner: None in a grade that has no model for it.
        picture_texts: texts in the space of the last of `picture_embedders`, so that the cosine
            says how well a text fits a picture; None where no embedder reads both.
    """

    faces: FaceDetector
    face_embedders: tuple[FaceEmbedder, ...]
    objects: ObjectDetector
    masks: Segmenter
    people: Segmenter
    picture_embedders: tuple[PictureEmbedder, ...]
    texts: TextEmbedder
    reader: TextReader
    quality: QualityScorer
    safety: SafetyScorer
    shots: ShotDetector
    captioner: Captioner | None = None
    picture_texts: TextEmbedder | None = None


def small_grade(cache: Path | None = None, threads: int = 1) -> Grade:
    """The models that packages ship, for the CPU; each loads its weights at its first call.

    Args:
        cache: folder of `anyref.perception.sources.fetch`; None is the default one.
        threads: how many threads each may use.
    """
    return Grade(
        faces=YuNet(cache, threads),
        face_embedders=(DlibFaces(cache, threads), MobileFaceNet(cache, threads)),
        objects=SsdMobileNet(cache, threads),
        masks=IsNet(cache, threads),
        people=SelfieSegmenter(cache, threads),
        picture_embedders=(EfficientNetLite0(cache, threads), MobileNetV2(cache, threads)),
        texts=BgeSmall(cache, threads),
        reader=PpOcr(cache, threads),
        quality=Brisque(cache, threads),
        safety=OpenNsfw(cache, threads),
        shots=AdaptiveShots(threads),
    )
