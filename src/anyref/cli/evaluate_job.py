"""What `anyref evaluate` does: everything checked first, then scored, written and printed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard, cast, get_args

from anyref.cli import evaluate_table, progress
from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import Benchmark, load_benchmark
from anyref.evaluation.cache import Cache
from anyref.evaluation.metric import Metric, Suite
from anyref.evaluation.profiles.profile import Profile
from anyref.evaluation.profiles.suite_metrics import suite_metrics
from anyref.evaluation.report import write_report
from anyref.evaluation.results import Scorer
from anyref.evaluation.run import Scored, make_evaluation, score_in_processes
from anyref.evaluation.run_files import write_files, write_suite_files
from anyref.evaluation.run_profile import (
    Gate,
    ProfileName,
    check_gates,
    family,
    measured_profile,
    name_of,
    parse_gates,
    read_scores,
    suite,
)
from anyref.evaluation.stillness import watched
from anyref.evaluation.videos import Results, find_videos
from anyref.media import check_writable
from anyref.packages import default_cache

if TYPE_CHECKING:
    from anyref.evaluation.large_metrics import Backbones

MOST_WORKERS = 4  # by default; each holds a video and the weights in memory
MOST_ON_RAY = 256  # as many as the cluster has cores


@dataclass(frozen=True)
class Job:
    """What to score and how, all of it checked before anything slow begins.

    Args:
        scorer: None for scores that a suite's own scripts wrote.
        cases: of the benchmark. out: folder of the report. address: of a Ray cluster.
    """

    cases: Benchmark
    profile: Profile
    scorer: Scorer | None
    gates: tuple[Gate, ...]
    out: Path
    workers: int
    seed: int
    address: str | None = None


def holds_scores(source: Results | Scored) -> TypeGuard[Scored]:
    """Whether it was read from score files."""
    return isinstance(source, Scored)


def check_sources(
    source: Results | Scored, other: Results | Scored | None, given: Mapping[str, object]
) -> None:
    """Raise EvaluationError for what only videos can be given, and for unlike things to compare."""
    useless = [option for option, value in given.items() if value is not None]
    if holds_scores(source) and useless:
        raise EvaluationError(f"{source.name!r} is of score files; {useless[0]} goes with videos")
    if other is not None and holds_scores(other) != holds_scores(source):
        raise EvaluationError(
            "RESULTS and --compare are not both videos or both score files; compare like with like"
        )


def benchmark_of(name: str, root: Path | None) -> Benchmark:
    """A shipped benchmark, or one from a file; EvaluationError for neither."""
    from anyref.evaluation.shipped import SHIPPED

    if name in SHIPPED and not Path(name).is_file():
        return SHIPPED[name].load()
    try:
        return load_benchmark(name, root=root)
    except EvaluationError as error:
        if Path(name).suffix:
            raise
        raise EvaluationError(
            f"benchmark {name!r} is neither {' nor '.join(SHIPPED)} nor a file; check the path"
        ) from error


def profile_name(text: str) -> ProfileName:
    """The name, if a profile has it; EvaluationError otherwise."""
    if text not in get_args(ProfileName):
        known = ", ".join(get_args(ProfileName))
        raise EvaluationError(f"profile {text!r} is none of {known}; name one")
    return cast(ProfileName, text)


def metrics_of(
    names: str | None,
    cache: Path | None,
    backbones: Backbones | None = None,
    profile: ProfileName = "strict",
) -> tuple[Metric, ...]:
    """The metrics of the small grade, of the large one, or a suite's own for its profile.

    All or those named, in their order.

    Raises:
        EvaluationError: for a name that none has; large models with a suite's profile.
        PerceptionError: large weights are not here.
    """
    every = {metric.spec.name: metric for metric in _metrics(cache, backbones, family(profile))}
    if names is None or not every:
        return tuple(every.values())
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise EvaluationError(f"--metrics {names!r} names none; name some of {', '.join(every)}")
    for name in wanted:
        if name not in every:
            raise EvaluationError(f"metric {name!r} is none of {', '.join(every)}; name one")
    return tuple(metric for name, metric in every.items() if name in wanted)


def _metrics(
    cache: Path | None, backbones: Backbones | None, of_suite: Suite | None
) -> tuple[Metric, ...]:
    if of_suite is not None and backbones is not None:
        raise EvaluationError(
            "--large goes with --profile strict: other profiles count what their suites measure"
        )
    if of_suite is not None:
        return suite_metrics(of_suite)
    if backbones is None:
        from anyref.evaluation.metrics import small_metrics

        return small_metrics(cache)
    from anyref.evaluation.large_metrics import large_metrics

    return large_metrics(backbones, cache)


def backbones_of(texts: Sequence[str], device: str | None) -> Backbones | None:
    """The large models of --large; None for the small grade.

    Raises:
        EvaluationError: as `Backbones.parse`; a GPU that is not here.
    """
    if not texts:
        return None
    from anyref.evaluation.large_metrics import Backbones, device_of

    return Backbones.parse(texts, device_of(device))


def _scores_folder(metrics: Sequence[Metric], device: str) -> Path:
    """Where scores are kept: those of different large models and devices apart."""
    folder = default_cache("evaluation") / "scores"
    if all(metric.spec.grade != "large" for metric in metrics):
        return folder
    from anyref.evaluation.large_metrics import models_of

    said = json.dumps([device, models_of(metrics)])
    return folder / f"large-{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def source_of(path: Path, cases: Benchmark, profile: ProfileName) -> Results | Scored:
    """The videos of a folder, or the scores that the profile's own scripts wrote there."""
    read = read_scores(path, profile, cases)
    if read is not None:
        return read
    if cases.cases and all(case.fault for case in cases.cases):
        one = cases.cases[0]
        raise EvaluationError(
            f"all {len(cases)} cases of {cases.name!r} are faulty, {one.id} for one: {one.fault}"
        )
    videos = find_videos(cases, path)
    if not videos.found and not videos.refused:
        example = next((case.id for case in cases.cases), "ID")
        raise EvaluationError(
            f"{str(path)!r} holds 0 videos of {len(cases)} cases of {cases.name!r}; name them "
            f"after the cases, like {example}.mp4"
        )
    return videos


def job_of(
    cases: Benchmark,
    profile: ProfileName,
    metrics: tuple[Metric, ...] | None,
    gates: Sequence[str],
    out: Path,
    workers: int | None,
    seed: int,
    address: str | None = None,
    device: str = "cpu",
) -> Job:
    """Everything but the videos, checked; without metrics, for scores of the profile's scripts."""
    parsed = parse_gates(gates)
    if metrics is None:
        arithmetic, scorer = suite(profile, cases), None
        assert arithmetic is not None  # strict reads no scores
    else:
        arithmetic = measured_profile(profile, cases, [metric.spec for metric in metrics])
        scores = _scores_folder(metrics, device)
        check_writable(scores / "any.json")
        scorer = Scorer(watched(metrics) if profile == "strict" else metrics, Cache(scores))
        if parsed and cases.faults:
            case, fault = next(iter(cases.faults.items()))
            raise EvaluationError(
                f"{len(cases.faults)} of {len(cases)} cases are faulty and could not count, {case} "
                f"for one ({fault}); mend the benchmark, or leave --fail-under out"
            )
    check_gates(parsed, arithmetic)
    check_writable(out / "report.html")
    count = workers or (MOST_ON_RAY if address else min(MOST_WORKERS, os.cpu_count() or 1))
    return Job(cases, arithmetic, scorer, parsed, out, count, seed, address)


def _scored(job: Job, source: Results | Scored) -> Scored:
    """The scores of videos, made with a bar of progress; scores that were read as they are."""
    if isinstance(source, Scored):
        return source
    assert job.scorer is not None  # made for videos
    name = name_of(source.folder)
    with evaluate_table.watching(name, len(source.samples)) as watch:
        table = score_in_processes(job.cases, source, job.scorer, job.workers, watch, job.address)
    return Scored(name, table, source)


def _with_folder(scored: Scored) -> Scored:
    """Under a name that says in which folder its videos' folder is."""
    if scored.results is None:
        return scored
    folder = scored.results.folder.resolve()
    return replace(scored, name=f"{folder.parent.name}/{folder.name}")


def finish(job: Job, source: Results | Scored, other: Results | Scored | None) -> bool:
    """Score, write and print; True when a figure is under its limit."""
    model = _scored(job, source)
    against = None if other is None else _scored(job, other)
    if against is not None and against.name == model.name:
        model, against = _with_folder(model), _with_folder(against)
    evaluation = make_evaluation(job.cases, job.profile, model, against, job.seed)
    write_files(job.out, evaluation, job.gates)
    write_suite_files(job.out / "suite", evaluation)
    write_report(job.out / "report.html", evaluation)
    evaluate_table.show(evaluation)
    progress.line(f"{job.out}: report.html, report.md, results.json, results.csv")
    return evaluate_table.under(evaluation, job.gates)
