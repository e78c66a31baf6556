"""What makes the videos of a benchmark: a model, or one of the baselines."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from anyref.cli import production
from anyref.errors import EvaluationError, MediaError
from anyref.evaluation.baselines import (
    COPY_PASTE,
    FPS,
    TEXT_ONLY,
    pasted,
    without_references,
)
from anyref.media import read_metadata, write_video
from anyref.request import Request

VERSION = 1  # of the pasted videos: raised when a request makes another one


class Maker(Protocol):
    """Makes videos of requests."""

    def check(self, request: Request) -> None:
        """Raise AnyRefError when it cannot make the request."""

    def has_made(self, request: Request, video: Path) -> bool:
        """Whether the video is there, made of this request and its pictures."""

    def make(self, request: Request, video: Path) -> object:
        """Make the video. AnyRefError: when it cannot."""


def maker_of(run: production.Run) -> Maker:
    """The baseline or the model that a run names.

    Raises:
        EvaluationError: a LoRA on copy-paste, or no model after "text-only:". ModelError: for a
            model that is not there.
    """
    name = run.model or ""
    if name == COPY_PASTE:
        if run.loras:
            raise EvaluationError(f"{COPY_PASTE} is no model and takes no LoRA; leave --lora out")
        return Paster()
    head, _, model = name.partition(":")
    if head == TEXT_ONLY:
        if not model:
            raise EvaluationError(f"{name!r} names no model; write {TEXT_ONLY}:tiny-kaleido")
        return Blindfolded(production.Studio.open(replace(run, model=model)))
    return production.Studio.open(run)


def name_of(model: str) -> str:
    """What the folder of a maker's videos is called."""
    head, colon, rest = model.partition(":")
    if head == TEXT_ONLY and colon:
        return f"{TEXT_ONLY}-{Path(rest).name}"
    return Path(model).name


class Paster:
    """The copy-paste baseline."""

    def check(self, request: Request) -> None:
        """It can make any request with pictures that open."""

    def has_made(self, request: Request, video: Path) -> bool:
        """By the record inside the video."""
        try:
            return video.is_file() and read_metadata(video) == _record(request)
        except MediaError:
            return False

    def make(self, request: Request, video: Path) -> None:
        """Paste and write."""
        write_video(video, pasted(request), FPS, _record(request))


def _record(request: Request) -> dict[str, Any]:
    return {
        "request": json.loads(request.to_json()),
        "model": {"name": COPY_PASTE, "version": VERSION},
        "pictures": production.picture_hashes(request),
    }


@dataclass(frozen=True)
class Blindfolded:
    """A model that is given no references."""

    studio: production.Studio

    def check(self, request: Request) -> None:
        """As the model, without references."""
        self.studio.check(without_references(request))

    def has_made(self, request: Request, video: Path) -> bool:
        """As the model, without references."""
        return self.studio.has_made(without_references(request), video)

    def make(self, request: Request, video: Path) -> object:
        """As the model, without references."""
        return self.studio.make(without_references(request), video)
