"""Which models look at the clips: the small ones of packages, or large ones on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from anyref.data.stages import Stage
from anyref.data.thresholds import Section
from anyref.errors import DataError, PerceptionError
from anyref.perception.large import LargeSources, large_grade
from anyref.perception.large_checkpoints import (
    CLIP,
    DINOV2,
    GROUNDING_DINO,
    QWEN_VL,
    SAM2,
    check_device,
    checkpoint,
    torch_dtype,
)
from anyref.perception.small import Grade, small_grade
from anyref.perception.sources import default_cache, is_fetched


class GradeSettings(Section):
    """The models; what is said of large ones counts for `name` large only.

    A model is a folder in the format of transformers or a name on the Hugging Face hub; null leaves
    its part to the small models.

    Args:
        name: small (packages, for the CPU) or large (a GPU).
        qwen: writes captions and names subjects. grounding_dino: finds what the caption names.
            sam2: cuts it out. dinov2: says what looks alike. clip: the same where `dinov2` is null,
            and what `aesthetics` stands on.
        aesthetics: a safetensors file of LAION's head for `clip`, which then measures naturalness
            on its own scale (about 1 to 10, higher is better); null for the small model.
        device: torch's name, cuda or cpu. dtype: of all large models, float32, bfloat16 or float16;
            null is bfloat16 for `qwen` and float32 for the others.
        gpus: of one worker, parts allowed: 0.5 puts two workers on a GPU.
    """

    name: Literal["small", "large"] = "small"
    qwen: str | None = QWEN_VL.source
    grounding_dino: str | None = GROUNDING_DINO.source
    sam2: str | None = SAM2.source
    dinov2: str | None = DINOV2.source
    clip: str | None = None
    aesthetics: str | None = None
    device: str = "cuda"
    dtype: str | None = None
    gpus: float = Field(default=1.0, gt=0, le=64)

    @model_validator(mode="after")
    def _fits_together(self) -> GradeSettings:
        if self.grounding_dino is not None and self.qwen is None:
            raise ValueError("grounding_dino looks for what qwen names; give both or neither")
        if self.aesthetics is not None and self.clip is None:
            raise ValueError(f"aesthetics stands on clip; give clip, e.g. {CLIP.source}")
        if self.dtype is not None:
            torch_dtype(self.dtype)
        return self

    @property
    def sources(self) -> LargeSources:
        """Where the large models come from."""
        return LargeSources(
            grounding_dino=self.grounding_dino,
            sam2=self.sam2,
            clip=self.clip,
            dinov2=self.dinov2,
            qwen=self.qwen,
            aesthetics=self.aesthetics,
        )

    @property
    def scores_looks(self) -> bool:
        """Whether naturalness is on the scale of `aesthetics`."""
        return self.name == "large" and self.aesthetics is not None

    @property
    def large_models(self) -> tuple[tuple[str, str], ...]:
        """Setting and source of each large model in use."""
        if self.name == "small":
            return ()
        names = ("qwen", "grounding_dino", "sam2", "dinov2", "clip")
        return tuple((name, source) for name in names if (source := getattr(self, name)))


def written_grade(said: Any) -> Any:
    """The section of a recipe that says no more than a grade's name."""
    return {"name": said} if isinstance(said, str) else said


def grade_loader(
    cache: Path | None = None, settings: GradeSettings | None = None
) -> Callable[[], Grade]:
    """What makes the models, for stages; it can be pickled.

    Args:
        cache: folder of the small models' weights; None is the default one.
        settings: which models; the small ones when None.
    """
    if settings is None or settings.name == "small":
        return partial(small_grade, cache)
    return partial(
        large_grade, settings.sources, cache, device=settings.device, dtype=settings.dtype
    )


def with_gpus(stages: Sequence[Stage], settings: GradeSettings) -> list[Stage]:
    """The stages, those that call large models with the GPUs that a worker needs."""
    if not settings.large_models or not settings.device.startswith("cuda"):
        return list(stages)
    large = {"subjects"} | ({"naturalness"} if settings.scores_looks else set())
    return [
        replace(stage, gpus=settings.gpus) if stage.name in large else stage for stage in stages
    ]


def check_models(
    settings: GradeSettings, cache: Path | None = None, *, device: bool = True
) -> None:
    """Raise DataError unless all weights that a grade needs are here; loads none of them.

    Args:
        device: whether the large models run on this machine, whose GPU is looked for then.
    """
    absent = [name for name in needed_models(settings) if not is_fetched(name, cache)]
    if absent:
        folder = default_cache() if cache is None else cache
        raise DataError(
            f"the models {', '.join(absent)} are not in {str(folder)!r}; fetch them once with "
            "`anyref data fetch`"
        )
    missing = list(_missing(settings))
    if missing:
        raise DataError(
            f"{'; '.join(missing)}; fetch the large models once with `anyref data fetch --large`, "
            "or name a folder, e.g. grade.sam2=FOLDER"
        )
    if device and settings.large_models:
        try:
            check_device(settings.device)
        except PerceptionError as error:
            raise DataError(f"{error}, i.e. grade.device=cpu, or grade=small") from error


def _missing(settings: GradeSettings) -> Iterator[str]:
    """What is wrong with the folder of each large model."""
    for name, source in settings.large_models:
        try:
            checkpoint(source).weights()
        except PerceptionError as error:
            yield f"grade.{name}: {str(error).partition(';')[0]}"
    head = settings.aesthetics
    if settings.name == "large" and head is not None and not Path(head).is_file():
        yield f"grade.aesthetics: {head!r} is no file"


def needed_models(settings: GradeSettings | None = None) -> list[str]:
    """Names in `anyref.perception.sources.SOURCES` of the small models that a grade uses."""
    grade = grade_loader(None, settings)()
    roles = [getattr(grade, name) for name in Grade.__dataclass_fields__]
    models = [model for role in roles for model in (role if isinstance(role, tuple) else (role,))]
    models += [model.whole for model in models if hasattr(model, "whole")]
    return sorted({model.source for model in models if hasattr(model, "source")})
