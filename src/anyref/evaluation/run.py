"""An evaluation: videos scored in several processes, and all figures that are made of the scores.

Every worker has one thread, so that the number of workers changes no score. Outcomes are gathered
in the order of the cases, whichever worker is done first.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process

from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import Benchmark
from anyref.evaluation.metric import MetricSpec, Outcome
from anyref.evaluation.profiles.profile import (
    Group,
    Profile,
    Summary,
    contributions,
    summarise,
)
from anyref.evaluation.profiles.strict import NAME as STRICT
from anyref.evaluation.published import PublishedRow, published_rows
from anyref.evaluation.ray_workers import Work, score_on_ray
from anyref.evaluation.results import Scorer, ScoreTable
from anyref.evaluation.statistics import (
    Comparison,
    Intervals,
    compare,
    intervals,
    parts,
    restricted,
)
from anyref.evaluation.stillness import NOTE, WHY, without_stillness
from anyref.evaluation.videos import Results, Sample

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PARTS = ("category", "references")
MAX_PARTS = 40  # more categories than this are not told apart

OnVideo = Callable[[Sample, Mapping[str, Outcome]], None]


def score_in_processes(
    benchmark: Benchmark,
    results: Results,
    scorer: Scorer,
    workers: int = 1,
    on_video: OnVideo | None = None,
    address: str | None = None,
) -> ScoreTable:
    """Score the videos of a results folder; the same table for any number of workers.

    Args:
        address: of a Ray cluster whose workers score; processes of this machine when None.
        on_video: called in this process after each case and take, in the order they are done.

    Raises:
        AnyRefError: when a metric or the cache cannot be used at all, or a worker dies.
    """
    if workers < 1:
        raise EvaluationError(f"{workers} workers cannot score anything; give 1 or more")
    done: dict[Sample, Mapping[str, Outcome]] = {}

    def note(sample: Sample, outcomes: Mapping[str, Outcome]) -> None:
        done[sample] = outcomes
        if on_video is not None:
            on_video(sample, outcomes)

    todo = []
    for sample, path, reason in results.todo:
        case = benchmark[sample[0]]
        if scorer.looks(case, path):
            todo.append((sample, case, path, reason))
        else:
            note(sample, scorer.score(case, path, reason))
    if address is None:
        scored = _scored(todo, scorer, workers)
    else:
        scored = score_on_ray(todo, scorer, workers, address)
    for sample, outcomes in scored:
        note(sample, outcomes)
    columns = {
        name: {sample: done[sample][name] for sample in results.samples} for name in scorer.specs
    }
    return ScoreTable(columns, scorer.specs)


def _scored(
    todo: Sequence[Work], scorer: Scorer, workers: int
) -> Iterator[tuple[Sample, Mapping[str, Outcome]]]:
    """Outcomes as they are done."""
    if not todo:
        return
    count = min(workers, len(todo))
    with _one_thread_each():
        pool = ProcessPoolExecutor(count, get_context("spawn"), _start_worker, (scorer,))
        try:
            tasks = {pool.submit(_score_in_worker, work): work[0] for work in todo}
            for task in as_completed(tasks):
                yield tasks[task], task.result()
        except BrokenProcessPool as error:
            raise EvaluationError(
                f"one of {count} workers died, perhaps of too little memory; run the command "
                "again (finished videos are kept), with fewer workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes that start in this block compute with one thread."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_worker: list[Scorer] = []  # this process's scorer, when it is a worker


def _start_worker(scorer: Scorer) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is begun is finished and kept
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.append(scorer)


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers, and they would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _score_in_worker(work: Work) -> Mapping[str, Outcome]:
    _, case, path, reason = work
    return _worker[-1].score(case, path, reason)


@dataclass(frozen=True)
class Figures:
    """What is said of some cases: all, those of a category, those of so many references.

    Args:
        comparison: with the other model; None without one.
    """

    summary: Summary
    intervals: Intervals
    comparison: Comparison | None
    cases: int


@dataclass(frozen=True)
class Scored:
    """A model's scores.

    Args:
        name: of the model: that of the results folder.
        results: its videos; None for scores read from a suite's files.
        faults: what of those files could not be used.
    """

    name: str
    table: ScoreTable
    results: Results | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All that files and reports are written from.

    Args:
        other_summary: the other model's own figures.
        profile: with a total of the metrics that were measured, where it is our own.
        parts: figures by `PARTS`, then by category or number of references; the total of a part is
            of the metrics that apply to it.
        case_scores: by case id the mean of its metrics on the profile's scale; a case without
            any is not there.
        published: rows of the profile's table as printed; empty where there are none.
        seed: of the resampling.
    """

    benchmark: Benchmark
    profile: Profile
    model: Scored
    other: Scored | None
    other_summary: Summary | None
    figures: Figures
    parts: Mapping[str, Mapping[str, Figures]]
    case_scores: Mapping[str, float]
    published: tuple[PublishedRow, ...]
    seed: int

    @property
    def specs(self) -> Mapping[str, MetricSpec]:
        """Of the metrics, by name; none for scores read from a suite's files."""
        return self.model.table.specs

    @property
    def grade(self) -> str:
        """What the metrics' weights are: small, large, exact, or of the suite's own scripts."""
        grades = {spec.grade for spec in self.specs.values()}
        return next(iter(sorted(grades - {"exact"}) or sorted(grades)), "of the suite's own files")


def make_evaluation(
    benchmark: Benchmark,
    profile: Profile,
    model: Scored,
    other: Scored | None = None,
    seed: int = 0,
) -> Evaluation:
    """All figures of a model's scores, and what it has over another.

    Raises:
        EvaluationError: where a missing video counts as the worst and there is nothing to count.
    """
    if profile.name == STRICT:
        model, other = _moving(model), other and _moving(other)
        if any(WHY in column.values() for column in model.table.columns.values()):
            profile = replace(profile, notes=(*profile.notes, NOTE))
    profile = replace(profile, notes=(*profile.notes, *_oddities(benchmark, model)))
    whole, profile = profile, _counted(profile, model.table)
    return Evaluation(
        benchmark=benchmark,
        profile=profile,
        model=model,
        other=other,
        other_summary=None if other is None else summarise(profile, other.table),
        figures=_figures(profile, model, other, None, seed),
        parts={by: dict(_parts(benchmark, whole, model, other, by, seed)) for by in PARTS},
        case_scores=_case_scores(profile, model.table),
        published=_published(profile),
        seed=seed,
    )


def _oddities(benchmark: Benchmark, model: Scored) -> Iterator[str]:
    """What a reader would not expect of these videos and cases."""
    for take, count in (model.results.rare if model.results else {}).items():
        yield (
            f"take {take} is there of {count} cases only, and missing of all the others; a file "
            "that should not be there?"
        )
    categories = len(parts(benchmark, "category"))
    if categories > MAX_PARTS:
        yield f"{categories} categories, over {MAX_PARTS}, are not told apart"


def _moving(scored: Scored) -> Scored:
    return replace(scored, table=without_stillness(scored.table))


def _counted(profile: Profile, table: ScoreTable) -> Profile:
    """Our own profile with a total of what was measured; a suite's total is whole or not there."""
    if profile.name != STRICT:
        return profile
    (group,) = profile.groups
    measured = summarise(profile, table).values
    weights = {name: weight for name, weight in group.weights.items() if name in measured}
    if len(weights) == len(group.weights) or not weights:
        return profile
    note = f"the total is the mean of {len(weights)} metrics: {', '.join(weights)}"
    return replace(
        profile,
        groups=(Group(group.name, weights, len(weights)),),
        notes=(*profile.notes, note),
    )


def _figures(
    profile: Profile, model: Scored, other: Scored | None, cases: list[str] | None, seed: int
) -> Figures:
    def part(table: ScoreTable) -> ScoreTable:
        return table if cases is None else restricted(table, cases)

    table = part(model.table)
    profile = _counted(profile, table)
    return Figures(
        summary=summarise(profile, table),
        intervals=intervals(profile, table, seed),
        comparison=None if other is None else compare(profile, table, part(other.table), seed),
        cases=len({case for case, _ in table.samples}),
    )


def _parts(
    benchmark: Benchmark,
    profile: Profile,
    model: Scored,
    other: Scored | None,
    by: str,
    seed: int,
) -> Iterator[tuple[str, Figures]]:
    found = parts(benchmark, "category" if by == "category" else "references")
    if not 2 <= len(found) <= MAX_PARTS:
        return
    for name, cases in sorted(found.items()):
        try:
            yield name, _figures(profile, model, other, cases, seed)
        except EvaluationError:
            continue  # nothing of this part applies to any metric


def _case_scores(profile: Profile, table: ScoreTable) -> dict[str, float]:
    terms = contributions(profile, table)
    scores = {}
    for case, values, weights in zip(terms.cases, terms.values, terms.weights, strict=True):
        known = [
            float(column.scaled(float(value)))
            for column, value, weight in zip(profile.columns, values, weights, strict=True)
            if weight > 0
        ]
        if known:
            scores[case] = sum(known) / len(known)
    return scores


def _published(profile: Profile) -> tuple[PublishedRow, ...]:
    try:
        return published_rows(profile.name, profile.groups[0].name)
    except EvaluationError:
        return ()
