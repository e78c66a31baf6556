"""Scores of a results folder: every metric, every case, gathered in a table.

A metric that breaks off at a video, by an exception that is no `AnyRefError`, is skipped there as
"failed"; the other metrics and videos go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from anyref.errors import AnyRefError, EvaluationError, MediaError
from anyref.evaluation.benchmark import Benchmark, Case
from anyref.evaluation.cache import (
    Cache,
    hash_file,
    hash_references,
    outcome_to_json,
    score_key,
    stays_true,
)
from anyref.evaluation.decoding import FootageLimits, read_footage
from anyref.evaluation.metric import (
    Footage,
    Metric,
    MetricSpec,
    NoMeasurementError,
    Outcome,
    Score,
    Skipped,
    checked,
)
from anyref.evaluation.videos import Results, Sample
from anyref.media import open_reference_pictures

BLANK = (1, 64, 64, 3)  # of the video that tells what a case alone gives
GREY = 128


@dataclass(frozen=True)
class ScoreTable:
    """Outcomes by metric, then by case id and take.

    Args:
        specs: of the metrics that made the outcomes; empty for scores read from elsewhere.
        printed: means over all videos that a suite's own scripts print; they stand for ours.
    """

    columns: Mapping[str, Mapping[Sample, Outcome]]
    specs: Mapping[str, MetricSpec] = field(default_factory=dict)
    printed: Mapping[str, float] = field(default_factory=dict)

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
        columns = {
            metric: {**dict.fromkeys(samples, gap), **column}
            for metric, column in self.columns.items()
        }
        return replace(self, columns=columns)

    def to_json(self) -> dict[str, Any]:
        """Plain values, sorted, the same for the same outcomes."""
        return {
            metric: {
                f"{case}-{take}": outcome_to_json(column[case, take])
                for case, take in sorted(column)
            }
            for metric, column in sorted(self.columns.items())
        }


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

    def looks(self, case: Case, path: Path | None) -> bool:
        """Whether a score takes models: for a video, or for references without one."""
        if case.request is None or case.fault:
            return False
        compares = any("references" in metric.spec.needs for metric in self.metrics)
        return path is not None or (compares and bool(case.request.references))

    def score(self, case: Case, path: Path | None, reason: str = "") -> dict[str, Outcome]:
        """Outcomes by metric.

        What the case alone gives is the same whether or not there is a video: no pictures that
        could be compared, say.

        Args:
            path: of the video; None for none, and `reason` may say why.
        """
        names = [metric.spec.name for metric in self.metrics]
        if case.request is None or case.fault:
            return dict.fromkeys(names, Skipped(f"the case is faulty: {case.fault}", "faulty"))
        outcomes: dict[str, Outcome] = {}
        rest = []
        for metric in self.metrics:
            why = metric.applies(case)
            if why is None:
                rest.append(metric)
            else:
                outcomes[metric.spec.name] = why
        comparing = [metric for metric in rest if "references" in metric.spec.needs]
        references = ""
        try:
            references = hash_references(case) if comparing else ""
        except (MediaError, OSError) as error:
            outcomes |= _skip(comparing, _bad_reference(error))
            rest = [metric for metric in rest if metric not in comparing]
        keys = {m.spec.name: score_key(m.spec, case, references) for m in rest}
        if path is None:
            gap = Skipped(reason or "there is no video", "missing")
            outcomes |= self._without(case, rest, keys, references, gap)
        else:
            outcomes |= self._measure(case, path, rest, keys, references)
        return {name: outcomes[name] for name in names}

    def _measure(
        self,
        case: Case,
        path: Path,
        metrics: Sequence[Metric],
        keys: Mapping[str, str],
        references: str,
    ) -> dict[str, Outcome]:
        try:
            video = hash_file(path)
        except OSError as error:
            gap = Skipped(f"{path.name} cannot be read: {_words(error)}", "unreadable")
            return self._without(case, metrics, keys, references, gap)
        known = self.cache.read(video) if self.cache else {}
        outcomes = {name: known[key] for name, key in keys.items() if key in known}
        wanted = [m for m in metrics if m.spec.name not in outcomes]
        bad = _unopened(case, wanted)
        outcomes |= bad
        wanted = [m for m in wanted if m.spec.name not in bad]
        if not wanted:
            return outcomes
        try:
            footage = read_footage(path, video, self.limits)
        except (MediaError, OSError) as error:
            gap = Skipped(_words(error), "unreadable")
            return outcomes | self._without(case, wanted, keys, references, gap)
        except MemoryError:
            gap = Skipped("there is not enough memory for the video; use fewer workers", "failed")
            return outcomes | self._without(case, wanted, keys, references, gap)
        fresh = {m.spec.name: _outcome(m, case, footage) for m in wanted}
        self._keep(video, {keys[name]: outcome for name, outcome in fresh.items()})
        return outcomes | fresh

    def _without(
        self,
        case: Case,
        metrics: Sequence[Metric],
        keys: Mapping[str, str],
        references: str,
        gap: Skipped,
    ) -> dict[str, Outcome]:
        """Outcomes without a video: the gap, unless the pictures give a metric nothing to measure.

        A blank video tells: metrics look at references first. That is kept as of a video whose
        name is the hash of the references.
        """
        comparing = [m for m in metrics if "references" in m.spec.needs]
        outcomes = _skip(metrics, gap) | _unopened(case, comparing)
        known = self.cache.read(references) if self.cache and references else {}
        blank = Footage(np.full(BLANK, GREY, np.uint8), 0.0, "")
        fresh = {}
        for metric in comparing:
            name = metric.spec.name
            if outcomes[name] != gap:
                continue
            found = known.get(keys[name])
            if found is None:
                found = fresh[keys[name]] = _outcome(metric, case, blank)
            if isinstance(found, Skipped) and found.cause == "inapplicable":
                outcomes[name] = found
        if references:
            self._keep(references, fresh)
        return outcomes

    def _keep(self, sha256: str, fresh: Mapping[str, Outcome]) -> None:
        kept = {key: outcome for key, outcome in fresh.items() if stays_true(outcome)}
        if self.cache and kept:
            self.cache.write(sha256, kept)


def _outcome(metric: Metric, case: Case, footage: Footage) -> Outcome:
    """What a metric makes of a video; "failed" where it breaks off."""
    try:
        return checked(metric.spec, metric.score(case, footage))
    except NoMeasurementError as error:
        return Skipped(f"the metric failed: {error}", "failed")
    except AnyRefError:
        raise
    except Exception as error:  # an odd video breaks libraries in many ways
        words = " ".join(str(error).split())[:200]
        return Skipped(f"the metric failed: {type(error).__name__}: {words}", "failed")


def _skip(metrics: Sequence[Metric], why: Skipped) -> dict[str, Outcome]:
    return {metric.spec.name: why for metric in metrics}


def _unopened(case: Case, metrics: Sequence[Metric]) -> dict[str, Outcome]:
    """Skips of the metrics that compare references, where one cannot be used."""
    comparing = [metric for metric in metrics if "references" in metric.spec.needs]
    if not comparing or case.request is None:
        return {}
    try:
        for reference in case.request.references:
            open_reference_pictures(reference)
    except (AnyRefError, OSError) as error:
        return _skip(comparing, _bad_reference(error))
    return {}


def _bad_reference(error: Exception) -> Skipped:
    return Skipped(f"a reference cannot be read: {_words(error)}", "faulty")


def _words(error: Exception) -> str:
    """What is wrong, without the path that an OSError's own words have."""
    return str(getattr(error, "strerror", None) or error)


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
    for sample, path, reason in results.todo:
        outcomes = scorer.score(benchmark[sample[0]], path, reason)
        for name, outcome in outcomes.items():
            columns[name][sample] = outcome
        if on_video is not None:
            on_video(sample, outcomes)
    return ScoreTable(columns, scorer.specs)
