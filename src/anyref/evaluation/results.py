"""Scores of a results folder: made once, kept per video, and gathered in a table.

The cache has one JSON file per video, `ab/abcd....json` by the SHA-256 of the video. A score is
found again under the metric's name, version and grade, and a hash of what the metric needs of the
case: the prompt, the reference pictures. The file is written when all metrics have scored a video,
atomically, so a kill loses at most one video's work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, get_args

from PIL import Image

from anyref.errors import EvaluationError, MediaError
from anyref.evaluation.benchmark import Benchmark, Case
from anyref.evaluation.decoding import FootageLimits, read_footage
from anyref.evaluation.metric import (
    Cause,
    Metric,
    MetricSpec,
    Outcome,
    Score,
    Skipped,
    checked,
)
from anyref.evaluation.videos import Results, Sample
from anyref.media import open_picture, write_atomically

READ_BYTES = 2**20
KEPT = ("undetected", "inapplicable")  # found in the video or the case itself, and so stay true


@dataclass(frozen=True)
class ScoreTable:
    """Outcomes by metric, then by case id and take.

    Args:
        specs: of the metrics that made the outcomes; empty for scores read from elsewhere.
    """

    columns: Mapping[str, Mapping[Sample, Outcome]]
    specs: Mapping[str, MetricSpec] = field(default_factory=dict)

    def outcomes(self, metric: str) -> Mapping[Sample, Outcome]:
        """Of one metric; empty for one that nobody measured."""
        return self.columns.get(metric, {})

    def values(self, metric: str) -> dict[Sample, float]:
        """What has a score."""
        outcomes = self.outcomes(metric).items()
        return {s: outcome.value for s, outcome in outcomes if isinstance(outcome, Score)}

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All that any metric has an outcome for, sorted."""
        return tuple(sorted({s for column in self.columns.values() for s in column}))

    def completed(self, samples: Sequence[Sample]) -> ScoreTable:
        """The table where what is expected and not there is skipped as missing."""
        gap = Skipped("no score was given", "missing")
        return ScoreTable(
            {
                metric: {**dict.fromkeys(samples, gap), **column}
                for metric, column in self.columns.items()
            },
            self.specs,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, sorted, the same for the same outcomes."""
        return {
            metric: {
                f"{case}-{take}": outcome_to_json(column[case, take])
                for case, take in sorted(column)
            }
            for metric, column in sorted(self.columns.items())
        }


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
        known = self.read(video_sha256) | dict(outcomes)
        plain = {key: outcome_to_json(outcome) for key, outcome in known.items()}
        text = json.dumps(plain, indent=1, sort_keys=True, allow_nan=False)

        def write(file: BinaryIO) -> None:
            file.write(text.encode() + b"\n")

        write_atomically(self._path(video_sha256), write)

    def _path(self, video_sha256: str) -> Path:
        return self.folder / video_sha256[:2] / f"{video_sha256}.json"


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content. OSError: when it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(partial(file.read, READ_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def hash_references(case: Case) -> str:
    """A hash of the reference pictures and masks as they lie on disk, their kinds and labels.

    The case's id and paths are part of it: OpenS2V-Eval's scores go by words in both.
    MediaError, OSError: for a picture that cannot be read.
    """
    assert case.request is not None
    parts: list[Any] = [case.id, case.pictures, case.labels, case.kinds]
    for picture in _pictures(case):
        if isinstance(picture, Path):
            parts.append(hash_file(picture))
        else:
            pixels = open_picture(picture)
            parts.append((pixels.size, hashlib.sha256(pixels.tobytes()).hexdigest()))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _pictures(case: Case) -> list[Path | Image.Image]:
    references = case.request.references if case.request else ()
    every = [picture for r in references for picture in (*r.images, r.mask)]
    return [picture for picture in every if picture is not None]


@dataclass(frozen=True)
class Scorer:
    """Scores one video with several metrics, decoding it once and only when a score is missing.

    Args:
        cache: None keeps nothing. limits: a larger video is refused.

    Raises:
        EvaluationError: for two metrics of one name, or of the small and the large grade.
    """

    metrics: Sequence[Metric]
    cache: Cache | None = None
    limits: FootageLimits = field(default_factory=FootageLimits)

    def __post_init__(self) -> None:
        names = [metric.spec.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise EvaluationError(f"metric names {', '.join(names)} repeat; give each once")
        grades = {metric.spec.grade for metric in self.metrics} - {"exact"}
        if len(grades) > 1:
            raise EvaluationError(
                "metrics of the small and the large grade are not compared; score each on its own"
            )

    @property
    def specs(self) -> dict[str, MetricSpec]:
        """Of the metrics, by name."""
        return {metric.spec.name: metric.spec for metric in self.metrics}

    def score(self, case: Case, path: Path | None, reason: str = "") -> dict[str, Outcome]:
        """Outcomes by metric.

        Args:
            path: of the video; None for none, and `reason` may say why.
        """
        names = [metric.spec.name for metric in self.metrics]
        if case.request is None or case.fault:
            fault = Skipped(f"the case is faulty: {case.fault}", "inapplicable")
            return dict.fromkeys(names, fault)
        outcomes: dict[str, Outcome] = {}
        rest = []
        for metric in self.metrics:
            why_not = metric.applies(case)
            if why_not is None:
                rest.append(metric)
            else:
                outcomes[metric.spec.name] = why_not
        if rest:
            gap = Skipped(reason or "there is no video of this case", "missing")
            found = self._measure(case, path, rest) if path else {m.spec.name: gap for m in rest}
            outcomes.update(found)
        return {name: outcomes[name] for name in names}

    def _measure(self, case: Case, path: Path, metrics: Sequence[Metric]) -> dict[str, Outcome]:
        try:
            video = hash_file(path)
        except OSError as error:
            return _skip(metrics, Skipped(str(error), "unreadable"))
        outcomes: dict[str, Outcome] = {}
        try:
            references = hash_references(case)
        except (MediaError, OSError) as error:
            outcomes = _skip(_comparing(metrics), _bad_reference(error))
            references = ""
        metrics = [m for m in metrics if m.spec.name not in outcomes]
        keys = {m.spec.name: _key(m.spec, case, references) for m in metrics}
        known = self.cache.read(video) if self.cache else {}
        outcomes |= {name: known[key] for name, key in keys.items() if key in known}
        wanted = [m for m in metrics if m.spec.name not in outcomes]
        fresh = self._fresh(case, path, video, wanted) if wanted else {}
        kept = {keys[name]: outcome for name, outcome in fresh.items() if _stays_true(outcome)}
        if self.cache and kept:
            self.cache.write(video, kept)
        return outcomes | fresh

    def _fresh(
        self, case: Case, path: Path, video: str, metrics: Sequence[Metric]
    ) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        if _comparing(metrics):
            try:
                for picture in _pictures(case):
                    open_picture(picture)
            except MediaError as error:
                outcomes = _skip(_comparing(metrics), _bad_reference(error))
        wanted = [m for m in metrics if m.spec.name not in outcomes]
        try:
            footage = read_footage(path, video, self.limits)
        except (MediaError, OSError) as error:
            return outcomes | _skip(wanted, Skipped(str(error), "unreadable"))
        return outcomes | {m.spec.name: checked(m.spec, m.score(case, footage)) for m in wanted}


def _skip(metrics: Sequence[Metric], why: Skipped) -> dict[str, Outcome]:
    return {metric.spec.name: why for metric in metrics}


def _comparing(metrics: Sequence[Metric]) -> list[Metric]:
    return [metric for metric in metrics if "references" in metric.spec.needs]


def _bad_reference(error: Exception) -> Skipped:
    return Skipped(f"a reference cannot be read: {error}", "inapplicable")


def _key(spec: MetricSpec, case: Case, references: str) -> str:
    """What a score is kept under: it changes with all that the metric needs besides the video."""
    assert case.request is not None
    needed = [
        case.request.text if "prompt" in spec.needs else "",
        references if "references" in spec.needs else "",
    ]
    digest = hashlib.sha256(json.dumps(needed).encode()).hexdigest()[:16]
    return f"{spec.name}/{spec.version}/{spec.grade}/{digest}"


def _stays_true(outcome: Outcome) -> bool:
    return isinstance(outcome, Score) or outcome.cause in KEPT


def score_results(
    benchmark: Benchmark,
    results: Results,
    scorer: Scorer,
    on_video: Callable[[Sample, Mapping[str, Outcome]], None] | None = None,
) -> ScoreTable:
    """Score the videos of a results folder one after the other.

    Args:
        on_video: called after each video with its outcomes.

    Raises:
        AnyRefError: when a metric or the cache cannot be used at all.
    """
    columns: dict[str, dict[Sample, Outcome]] = {name: {} for name in scorer.specs}
    for sample in results.samples:
        outcomes = scorer.score(
            benchmark[sample[0]], results.found.get(sample), results.refused.get(sample, "")
        )
        for name, outcome in outcomes.items():
            columns[name][sample] = outcome
        if on_video is not None:
            on_video(sample, outcomes)
    return ScoreTable(columns, scorer.specs)
