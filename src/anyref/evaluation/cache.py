"""Outcomes kept per video, and what they are kept under.

The cache has one JSON file per video, `ab/abcd....json` by the SHA-256 of the video. A score is
found again under the metric's name, version and grade, and a hash of what the metric needs of the
case: the prompt, the reference pictures. The file is written when all metrics have scored a video,
atomically, so a kill loses at most one video's work; copies of a video that are scored at the same
time wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, get_args

from PIL import Image

from anyref.errors import MediaError
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Cause, MetricSpec, Outcome, Score, Skipped
from anyref.media import open_picture, write_atomically

READ_BYTES = 2**20
KEPT = ("undetected", "inapplicable")  # found in the video or the case itself, and so stay true


def outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain values."""
    if isinstance(outcome, Skipped):
        return {"skipped": outcome.reason, "cause": outcome.cause}
    details = {"details": dict(outcome.details)} if outcome.details else {}
    return {"value": outcome.value, **details}


def outcome_from_json(said: Mapping[str, Any]) -> Outcome:
    """An outcome from `outcome_to_json`. KeyError, TypeError, ValueError: for anything else."""
    if "skipped" in said:
        if said["cause"] not in get_args(Cause):
            raise ValueError(f"unknown cause {said['cause']!r}")
        return Skipped(str(said["skipped"]), said["cause"])
    return Score(float(said["value"]), dict(said.get("details", {})))


@dataclass(frozen=True)
class Cache:
    """Outcomes on disk, by video."""

    folder: Path

    def read(self, video_sha256: str) -> dict[str, Outcome]:
        """Everything known of a video; nothing where the file is missing or damaged."""
        try:
            said = json.loads(self._path(video_sha256).read_text("utf-8"))
            return {key: outcome_from_json(value) for key, value in said.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}

    def write(self, video_sha256: str, outcomes: Mapping[str, Outcome]) -> None:
        """Add to what is known of a video.

        Raises:
            MediaError: when the folder cannot be written.
        """
        path = self._path(video_sha256)
        with _alone(path):
            known = self.read(video_sha256) | dict(outcomes)
            plain = {key: outcome_to_json(outcome) for key, outcome in known.items()}
            text = json.dumps(plain, indent=1, sort_keys=True, allow_nan=False)

            def write(file: BinaryIO) -> None:
                file.write(text.encode() + b"\n")

            write_atomically(path, write)

    def _path(self, video_sha256: str) -> Path:
        return self.folder / video_sha256[:2] / f"{video_sha256}.json"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Alone in a file's folder among all processes, where the file system has locks."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = (path.parent / ".lock").open("ab")
    except OSError as error:
        raise MediaError(f"{str(path.parent)!r} cannot be written: {error.strerror}") from error
    with file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content. OSError: when it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(partial(file.read, READ_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def hash_references(case: Case) -> str:
    """A hash of the reference pictures and masks as they lie on disk, their kinds and labels.

    The case's id and paths are part of it: OpenS2V-Eval's scores go by words in both. Where a
    reference has a mask, or not just one picture, so are names and which picture is whose.
    MediaError, OSError: for a picture that cannot be read.
    """
    assert case.request is not None
    parts: list[Any] = [case.id, case.pictures, case.labels, case.kinds]
    references = case.request.references
    if any(len(r.images) != 1 or r.mask is not None for r in references):
        parts.append([[r.name, len(r.images), r.mask is not None] for r in references])
    for picture in pictures_of(case):
        if isinstance(picture, Path):
            parts.append(hash_file(picture))
        else:
            pixels = open_picture(picture)
            parts.append((pixels.size, hashlib.sha256(pixels.tobytes()).hexdigest()))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def pictures_of(case: Case) -> list[Path | Image.Image]:
    """The pictures and masks of a case's references."""
    references = case.request.references if case.request else ()
    every = [picture for r in references for picture in (*r.images, r.mask)]
    return [picture for picture in every if picture is not None]


def score_key(spec: MetricSpec, case: Case, references: str) -> str:
    """What a score is kept under: it changes with all that the metric needs besides the video."""
    assert case.request is not None
    needed = [
        case.request.text if "prompt" in spec.needs else "",
        references if "references" in spec.needs else "",
    ]
    digest = hashlib.sha256(json.dumps(needed).encode()).hexdigest()[:16]
    return f"{spec.name}/{spec.version}/{spec.grade}/{digest}"


def stays_true(outcome: Outcome) -> bool:
    """Whether it is kept: it would be the same again."""
    return isinstance(outcome, Score) or outcome.cause in KEPT
