"""Videos scored by the workers of a Ray cluster, on one machine or many.

Every machine needs the package, the weights, the videos, the pictures and the cache of scores under
the same paths. A worker has one core; which worker scores a video changes no score.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyref.errors import AnyRefError, EvaluationError
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Outcome
from anyref.evaluation.results import Scorer
from anyref.evaluation.videos import Sample

Outcomes = Mapping[str, Outcome]
Work = tuple[Sample, Case, Path | None, str]  # the file of a sample, or why there is none
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


def score_on_ray(
    work: Sequence[Work], scorer: Scorer, workers: int, address: str
) -> Iterator[tuple[Sample, Outcomes]]:
    """Outcomes of videos, and of cases without one, as they are done.

    Args:
        workers: at most; fewer where there is less to do or fewer cores.
        address: of a running cluster; "auto" finds it, "local" starts one on this machine.

    Raises:
        AnyRefError: Ray is not there or does not answer, a metric cannot be used, a worker died.
    """
    todo = iter(work)
    with _ray(address) as ray:
        cores = int(ray.cluster_resources().get("CPU", 1))
        kind = ray.remote(num_cpus=1)(_Worker)
        count = max(1, min(workers, cores, len(work)))
        made = pickle.dumps(scorer)
        pool = [kind.remote(made, tuple(sys.path)) for _ in range(count)]
        running: dict[Any, tuple[Sample, Any]] = {}

        def give(worker: Any) -> None:
            for sample, *rest in itertools.islice(todo, 1):
                running[worker.score.remote(*rest)] = sample, worker

        for worker in pool:
            give(worker)
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            sample, worker = running.pop(done)
            yield sample, _answer(ray, done, sample)
            give(worker)


def _answer(ray: Any, done: Any, sample: Sample) -> Outcomes:
    try:
        outcomes, fault = ray.get(done)
    except ray.exceptions.RayError as error:
        raise EvaluationError(
            f"the worker that scored {sample[0]!r}, take {sample[1]}, died "
            f"({type(error).__name__}), perhaps of too little memory; run the command again "
            "(finished videos are kept), with fewer workers"
        ) from error
    if fault is not None:
        raise EvaluationError(fault)
    found: Outcomes = outcomes
    return found


class _Worker:
    """One process of the cluster. made: the scorer, pickled. path: of the driver's imports."""

    def __init__(self, made: bytes, path: tuple[str, ...]) -> None:
        sys.path.extend(folder for folder in path if folder not in sys.path)
        self._scorer: Scorer = pickle.loads(made)

    def score(
        self, case: Case, path: Path | None, reason: str
    ) -> tuple[Outcomes | None, str | None]:
        """Outcomes by metric, or what stops the whole run."""
        try:
            return self._scorer.score(case, path, reason), None
        except AnyRefError as error:
            return None, str(error)


@contextmanager
def _ray(address: str) -> Iterator[Any]:
    """Ray, connected and quiet; left again at the end."""
    before = {name: os.environ.get(name) for name in QUIET}
    os.environ.update(QUIET)
    try:
        import ray

        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ImportError as error:
        raise EvaluationError("--address needs Ray; install anyref[data]") from error
    except Exception as error:  # ray.init fails in many ways
        raise EvaluationError(
            f"Ray does not answer at {address!r}: {' '.join(str(error).split())[:300]}; start it "
            "with `ray start --head`, or leave --address out"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
