"""The metrics of the small grade: models that packages ship, on a CPU, without a network.

identity     faces of people against their references, by two recognisers
subject      similarity, consistency and entanglement of subjects (`cutouts`, `sightings`)
background   similarity and consistency of the place; decoupling from the references' places
copying      copy-paste: pixels, pose and background of a reference that come back
motion       amplitude, smoothness, frozen frames, flicker, flash of the first frames
quality      imaging quality, blur of edges, aesthetics (not in this grade)
text         whether the things that the prompt names are seen
"""

from __future__ import annotations

from pathlib import Path

from anyref.evaluation.metric import Metric
from anyref.evaluation.metrics.background import (
    BackgroundConsistency,
    BackgroundSimilarity,
    Decoupling,
)
from anyref.evaluation.metrics.copying import CopyPaste
from anyref.evaluation.metrics.identity import FaceSimilarity
from anyref.evaluation.metrics.motion import (
    FirstFrameFlash,
    Flicker,
    FrozenFrames,
    MotionAmplitude,
    MotionSmoothness,
)
from anyref.evaluation.metrics.quality import Aesthetics, EdgeBlur, ImagingQuality
from anyref.evaluation.metrics.subject import Entanglement, SubjectConsistency, SubjectSimilarity
from anyref.evaluation.metrics.text import TextRelevance
from anyref.perception.small import Grade, small_grade


def small_metrics(cache: Path | None = None, threads: int = 1) -> tuple[Metric, ...]:
    """The metrics of the small grade and those without models; nothing is loaded yet.

    Args:
        cache: folder of `anyref.perception.sources.fetch`; None is the default one.
        threads: how many threads each model may use.
    """
    return metrics_of(small_grade(cache, threads))


def metrics_of(models: Grade) -> tuple[Metric, ...]:
    """The same, with the models of a grade that is here already."""
    return (
        *(FaceSimilarity(models, number=number) for number in range(2)),
        SubjectSimilarity(models),
        SubjectConsistency(models),
        Entanglement(models),
        CopyPaste(models),
        Decoupling(models),
        BackgroundSimilarity(models),
        BackgroundConsistency(models),
        TextRelevance(models),
        ImagingQuality(models),
        Aesthetics(),
        EdgeBlur(),
        MotionAmplitude(),
        MotionSmoothness(),
        FrozenFrames(),
        Flicker(),
        FirstFrameFlash(),
    )
