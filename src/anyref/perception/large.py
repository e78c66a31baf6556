"""The large grade: models for a GPU where there are such, the small ones for every other role."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anyref.perception.large_captions import QwenCaptioner
from anyref.perception.large_checkpoints import (
    CLIP,
    DINOV2,
    GROUNDING_DINO,
    QWEN_VL,
    SAM2,
    Checkpoint,
    fetch,
)
from anyref.perception.large_embeddings import ClipAesthetics, ClipPictures, ClipTexts, DinoV2
from anyref.perception.large_masks import Sam2
from anyref.perception.large_objects import GroundingDino
from anyref.perception.small import Grade, small_grade


@dataclass(frozen=True, kw_only=True)
class LargeSources:
    """Where the large models come from: checkpoints, folders or names on the hub.

    None leaves a role to the small grade; without `qwen` nobody writes captions.

    Args:
        aesthetics: a safetensors file of LAION's head for `clip`; None scores quality as the small
            grade does, since no repository ships that head as safetensors.
    """

    grounding_dino: Checkpoint | str | Path | None = GROUNDING_DINO
    sam2: Checkpoint | str | Path | None = SAM2
    clip: Checkpoint | str | Path | None = CLIP
    dinov2: Checkpoint | str | Path | None = DINOV2
    qwen: Checkpoint | str | Path | None = QWEN_VL
    aesthetics: str | Path | None = None


def large_grade(
    sources: LargeSources | None = None,
    cache: Path | None = None,
    threads: int = 1,
    device: str = "cuda",
    dtype: str | None = None,
) -> Grade:
    """The large models, each loading its weights at its first call; the small ones elsewhere.

    Faces, text, safety, shots, people and text similarity stay small, and the small segmenter cuts
    out what stands out where SAM 2 is given no box. `picture_embedders` are DINOv2, then CLIP.

    Args:
        sources: None is `LargeSources()`; put them on this machine with `fetch_large` once.
        cache, threads: of the small models. device: torch's name of where the large ones run.
        dtype: torch's name of their numbers; None is each model's own.
    """
    sources = LargeSources() if sources is None else sources
    grade = small_grade(cache, threads)
    where: dict[str, Any] = {"device": device, "dtype": dtype}
    if sources.grounding_dino is not None:
        grade = replace(grade, objects=GroundingDino(sources.grounding_dino, **where))
    if sources.sam2 is not None:
        grade = replace(grade, masks=Sam2(sources.sam2, whole=grade.masks, **where))
    if sources.qwen is not None:
        grade = replace(grade, captioner=QwenCaptioner(sources.qwen, **where))
    embedders: list[DinoV2 | ClipPictures] = []
    if sources.dinov2 is not None:
        embedders.append(DinoV2(sources.dinov2, **where))
    if sources.clip is not None:
        embedders.append(ClipPictures(sources.clip, **where))
        grade = replace(grade, picture_texts=ClipTexts(sources.clip, **where))
        if sources.aesthetics is not None:
            looks = ClipAesthetics(sources.aesthetics, sources.clip, **where)
            grade = replace(grade, quality=looks)
    return replace(grade, picture_embedders=tuple(embedders) or grade.picture_embedders)


def fetch_large(sources: LargeSources | None = None) -> tuple[Path, ...]:
    """Download the large models into the hub's cache (about 20 GB) and return their folders.

    Raises:
        PerceptionError: as `anyref.perception.large_checkpoints.fetch`.
    """
    sources = LargeSources() if sources is None else sources
    wanted = (sources.grounding_dino, sources.sam2, sources.clip, sources.dinov2, sources.qwen)
    return fetch([source for source in wanted if source is not None])
