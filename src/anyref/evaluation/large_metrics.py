"""The metrics of the large grade: the backbones that the field uses, where the user has them.

    dinov2       likeness, steadiness and entanglement of subjects and places (DINOv2)
    clip         how well frames fit the prompt (CLIP); with `aesthetics`, LAION's head, beauty
    arcface      likeness of faces (an ONNX file of insightface, such as w600k_r50.onnx)

Faces are found, and subjects found and cut out, by the small grade's models; what judges them is
large. A backbone that is not given has no metrics; no small model stands in for it.
"""

# Axes: K sampled frames, N faces, D features

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from anyref.errors import EvaluationError, PerceptionError
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, Metric, MetricSpec, Outcome, Score
from anyref.evaluation.metrics.background import (
    BackgroundConsistency,
    BackgroundSimilarity,
    Decoupling,
)
from anyref.evaluation.metrics.base import GradeMetric, Grading, rounded, sampled
from anyref.evaluation.metrics.copying import CopyPaste
from anyref.evaluation.metrics.identity import FaceSimilarity
from anyref.evaluation.metrics.motion import (
    FirstFrameFlash,
    Flicker,
    FrozenFrames,
    MotionAmplitude,
    MotionSmoothness,
)
from anyref.evaluation.metrics.quality import EdgeBlur
from anyref.evaluation.metrics.subject import Entanglement, SubjectConsistency, SubjectSimilarity
from anyref.packages import sha256_of
from anyref.perception.contracts import (
    Face,
    Features,
    ModelCard,
    Perceiver,
    Picture,
    check_pairs,
    unit,
)
from anyref.perception.contracts import Metric as Comparison
from anyref.perception.faces import align
from anyref.perception.large import LargeSources, large_grade
from anyref.perception.large_embeddings import ClipAesthetics
from anyref.perception.runtimes import require
from anyref.perception.small import Grade

LARGE: Grading = "large"
NUM_FRAMES = 32  # as OpenS2V-Eval samples them
LAION = (1.0, 10.0)  # the scale that LAION's head was trained on


@dataclass(frozen=True, kw_only=True)
class Backbones:
    """Where the large models are: folders in the format of transformers, names on the hub, files.

    Args:
        aesthetics: a safetensors file of LAION's head for `clip`. arcface: an ONNX file that takes
            aligned faces (N, 3, 112, 112).
        device: torch's name of where they run; `arcface` runs on the CPU.
    """

    dinov2: str | None = None
    clip: str | None = None
    aesthetics: str | None = None
    arcface: str | None = None
    device: str = "cuda"

    @classmethod
    def parse(cls, texts: Sequence[str], device: str) -> Backbones:
        """Read `PART=SOURCE` texts.

        Raises:
            EvaluationError: for another form, no part at all, or a head without its CLIP.
        """
        parts = [field.name for field in fields(cls) if field.name != "device"]
        given: dict[str, str] = {}
        for text in texts:
            part, equals, source = text.partition("=")
            if part not in parts or not equals or not source:
                raise EvaluationError(
                    f"{text!r} is not PART=SOURCE with a part of {', '.join(parts)}; write "
                    "--large clip=openai/clip-vit-large-patch14"
                )
            given[part] = source
        if not given:
            raise EvaluationError(
                f"the large grade has no models; give --large PART=SOURCE ({', '.join(parts)})"
            )
        if "aesthetics" in given and "clip" not in given:
            raise EvaluationError("aesthetics is a head on CLIP; give --large clip=SOURCE as well")
        return cls(**given, device=device)


class ArcFace:
    """A face recogniser of insightface: ResNets trained with ArcFace (Deng et al. 2019).

    Faces are aligned to ArcFace's five points, RGB, (x - 127.5) / 127.5.
    """

    metric: Comparison = "cosine"

    def __init__(self, file: str | Path, threads: int = 1) -> None:
        self.file, self.threads = Path(file), threads

    @cached_property
    def card(self) -> ModelCard:
        """The identity of the model. PerceptionError: there is no such file."""
        if not self.file.is_file():
            raise PerceptionError(f"{str(self.file)!r} is no file; give insightface's ONNX file")
        return ModelCard(
            name=self.file.stem, version="", sha256=sha256_of(self.file), licence="not stated"
        )

    @cached_property
    def network(self) -> Any:
        """(N, 3, 112, 112) float32 to (N, D)."""
        runtime = require("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        session = runtime.InferenceSession(
            str(self.file), sess_options=options, providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        return lambda faces: session.run(None, {name: faces})[0]

    def embed(self, pictures: Sequence[Picture], faces: Sequence[Face]) -> Features:
        """One unit vector (N, D) per picture and its face.

        Raises:
            PerceptionError: lengths that differ, a face without five landmarks, no such file.
        """
        check_pairs(pictures, faces, "faces")
        _ = self.card
        crops = [align(p, face, self.threads) for p, face in zip(pictures, faces, strict=True)]
        rows = [
            self.network(((crop.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)[None])[0]
            for crop in crops
        ]
        return unit(np.stack(rows)) if rows else np.zeros((0, 1), np.float32)


class ClipScore(GradeMetric):
    """Mean over frames of the cosine of CLIP's vectors of the frame and of the prompt.

    CLIPScore (Hessel et al. 2021) without its factor of 2.5; 0.2 to 0.35 for texts that fit. CLIP
    reads the first 77 tokens.
    """

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return MetricSpec(
            name="clip_score",
            about="How well the frames fit the prompt, by CLIP.",
            direction="higher",
            low=-1,
            high=1,
            needs=frozenset({"video", "prompt"}),
            grade=LARGE,
        )

    def uses(self) -> Sequence[Perceiver]:
        """CLIP's two halves."""
        assert self.models.picture_texts is not None  # made where CLIP is given
        return self.models.picture_embedders[-1], self.models.picture_texts

    def score(self, case: Case, footage: Footage) -> Outcome:
        """The value, and that of each frame."""
        assert case.request is not None
        assert self.models.picture_texts is not None
        wanted = self.models.picture_texts.embed([case.request.text])  # (1, D)
        shown = self.models.picture_embedders[-1].embed(list(sampled(footage, NUM_FRAMES)))
        cosines = (shown @ wanted.T)[:, 0]  # (K,)
        return Score(float(cosines.mean()), {"frames": rounded(cosines)})


class LaionAesthetics(GradeMetric):
    """Mean over frames of LAION's aesthetic head on CLIP, 1 to 10 (OpenS2V-Eval's, unclamped)."""

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return MetricSpec(
            name="aesthetics",
            about="How beautiful the frames are, by LAION's head on CLIP.",
            direction="higher",
            low=LAION[0],
            high=LAION[1],
            needs=frozenset({"video"}),
            grade=LARGE,
        )

    def uses(self) -> Sequence[Perceiver]:
        """CLIP with the head."""
        return (self.models.quality,)

    def score(self, case: Case, footage: Footage) -> Outcome:  # noqa: ARG002 - of the contract
        """The value, and that of each frame."""
        marks = self.models.quality.score(list(sampled(footage, NUM_FRAMES)))
        value = float(np.clip(np.mean(marks), *LAION))
        return Score(value, {"frames": rounded(marks)})


def large_metrics(
    backbones: Backbones, cache: Path | None = None, threads: int = 1
) -> tuple[Metric, ...]:
    """The metrics that the backbones allow, and those without models; nothing is loaded yet.

    Args:
        cache, threads: of the small models that find faces and cut out subjects.
    """
    sources = LargeSources(
        grounding_dino=None,
        sam2=None,
        qwen=None,
        dinov2=backbones.dinov2,
        clip=backbones.clip,
        aesthetics=backbones.aesthetics,
    )
    grade = large_grade(sources, cache, threads, backbones.device)
    if backbones.arcface is not None:
        grade = replace(grade, face_embedders=(ArcFace(backbones.arcface, threads),))
    return tuple(_metrics(backbones, grade))


def _metrics(backbones: Backbones, grade: Grade) -> Iterator[Metric]:
    if backbones.arcface is not None:
        yield FaceSimilarity(grade, LARGE, number=0)
    if backbones.dinov2 is not None:
        yield SubjectSimilarity(grade, LARGE)
        yield SubjectConsistency(grade, LARGE)
        yield Entanglement(grade, LARGE)
        yield CopyPaste(grade, LARGE)
        yield Decoupling(grade, LARGE)
        yield BackgroundSimilarity(grade, LARGE)
        yield BackgroundConsistency(grade, LARGE)
    if backbones.clip is not None:
        yield ClipScore(grade, LARGE)
    if isinstance(grade.quality, ClipAesthetics):
        yield LaionAesthetics(grade, LARGE)
    yield from (EdgeBlur(), MotionAmplitude(), MotionSmoothness())
    yield from (FrozenFrames(), Flicker(), FirstFrameFlash())


def models_of(metrics: Sequence[Metric]) -> list[tuple[str, str]]:
    """Names and digests of the models that metrics use, so that scores of others are kept apart.

    Sorted; two models of one name are both there.

    Raises:
        PerceptionError: for weights that are not here.
    """
    used = [metric for metric in metrics if isinstance(metric, GradeMetric)]
    cards = [model.card for metric in used for model in metric.uses()]
    return sorted({(card.name, card.sha256) for card in cards})


def device_of(name: str | None) -> str:
    """Where large models run: the device of that name; for None a GPU if there is one, else CPU.

    Raises:
        EvaluationError: for a GPU where there is none.
    """
    import torch

    there = torch.cuda.is_available()
    if name is None:
        return "cuda" if there else "cpu"
    if name.startswith("cuda") and not there:
        raise EvaluationError(f"device {name!r} is not here; give --device cpu")
    return name
