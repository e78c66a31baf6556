"""The stages on Ray Data: one operator per group of stages, bundles as rows.

Neighbouring stages that ask for the same CPUs and GPUs run in one worker; after a stage that
spreads its results, and where the resources change, bundles travel. Every group is a pool of
actors, which Ray does not fuse with its neighbour. Ray stops handing out work when results are not
taken, so memory stays bounded.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from anyref.data.flow import Bundle, Chain, Finished, finish, machine_error
from anyref.data.rows import import_arrow
from anyref.data.stages import Stage
from anyref.data.thresholds import Judge
from anyref.errors import AnyRefError, DataError

WAVE = 2000  # sources that Ray is given at a time: its plan holds every input
BLOCKS_PER_CPU = 64  # of a wave at most; small sources share a block
MIXED_BUNDLES = 8  # in one call, where a stage lets sources share batches
COLUMN = "bundle"
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_metrics_collection": "0",
}


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """Where to run. Without an address a local Ray is started, and stopped at the end.

    Args:
        address: of a running cluster ("auto" finds it). Every node needs the dataset's folder and
            the inputs under the same paths.
        cpus, gpus: of the local Ray; what the machine has when None.
        object_store_mb: memory for bundles between workers, local only.
    """

    address: str | None = None
    cpus: int | None = None
    gpus: int | None = None
    object_store_mb: int = 512


@dataclass(frozen=True, slots=True)
class _Fault:
    """What stops a run, carried out of a worker. errno 0: the words of an error of ours."""

    errno: int
    words: str

    def error(self) -> Exception:
        return OSError(self.errno, self.words) if self.errno else DataError(self.words)


def run_ray(
    bundles: Iterator[Bundle],
    stages: Sequence[Stage],
    judge: Judge,
    root: Path,
    settings: RaySettings,
) -> Generator[Finished, None, None]:
    """Finished rows of all sources, in any order.

    Args:
        bundles: what each source starts as.

    Raises:
        DataError: Ray is not installed, does not start, or lacks GPUs that a stage asks for.
        OSError: the machine's fault, such as a full disk.
    """
    import_arrow()
    first = next(bundles, None)
    if first is None:
        return
    with _ray(settings) as ray:
        groups = _groups(stages)
        cpus = _check_resources(ray, groups)
        wave = [first, *islice(bundles, WAVE - 1)]
        while wave:
            plan = _plan(ray, wave, groups, judge, root, cpus)
            for table in plan.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            ):
                for packed in table.column(COLUMN):
                    done = pickle.loads(packed.as_buffer())
                    if isinstance(done, _Fault):
                        raise done.error()
                    yield done
            wave = list(islice(bundles, WAVE))


def _groups(stages: Sequence[Stage]) -> list[list[Stage]]:
    groups: list[list[Stage]] = []
    for stage in stages:
        last = groups[-1][-1] if groups else None
        alike = last and (last.cpus, last.gpus, last.workers, last.mixes_sources) == (
            stage.cpus,
            stage.gpus,
            stage.workers,
            stage.mixes_sources,
        )
        if last is not None and alike and last.spread is None:
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return groups


def _check_resources(ray: Any, groups: Sequence[Sequence[Stage]]) -> float:
    """CPUs of the cluster."""
    there = ray.cluster_resources()
    gpus, cpus = float(there.get("GPU", 0)), float(there.get("CPU", 0))
    for group in groups:
        if group[0].gpus > gpus:
            raise DataError(
                f"stage {group[0].name!r} asks for {group[0].gpus:g} GPUs, there are {gpus:g}; use "
                "a model for the CPU, or another machine"
            )
    return cpus


def _plan(
    ray: Any,
    wave: Sequence[Bundle],
    groups: Sequence[Sequence[Stage]],
    judge: Judge,
    root: Path,
    cpus: float,
) -> Any:
    """A lazy Ray dataset of finished bundles."""
    most = max(1, int(BLOCKS_PER_CPU * cpus))
    size = -(-len(wave) // most)
    blocks = [_table(wave[i : i + size]) for i in range(0, len(wave), size)]
    dataset = ray.data.from_arrow(blocks)
    # a pool's workers hold what they ask for to the end: one of each pool must find room
    gpus = float(ray.cluster_resources().get("GPU", 0))
    shrink = _shrink(sum(group[0].cpus for group in groups), cpus)
    shrink_gpus = _shrink(sum(group[0].gpus for group in groups), gpus)
    for group in groups:
        stage = group[0]
        made = ray.cloudpickle.dumps((tuple(group), judge, root))
        each_gpus = shrink_gpus(stage.gpus)
        dataset = dataset.map_batches(
            _Worker,
            batch_size=MIXED_BUNDLES if stage.mixes_sources else 1,
            batch_format="pyarrow",
            compute=_pool(ray, stage, cpus, gpus / each_gpus if each_gpus else None),
            num_cpus=shrink(stage.cpus),
            num_gpus=each_gpus or None,
            fn_constructor_args=(made, tuple(sys.path), group is groups[-1]),
        )
    return dataset


def _shrink(wanted: float, there: float) -> Callable[[float], float]:
    """What a worker gets of what it asks for, when all pools together ask for `wanted`."""
    if wanted <= there:
        return lambda asked: asked
    return lambda asked: max(0.0, round(asked * there / wanted - 5e-4, 3))


def _pool(ray: Any, stage: Stage, cpus: float, on_gpus: float | None) -> Any:
    """As many workers as there is room for; `on_gpus` of them on the GPUs."""
    if on_gpus is not None:
        most = max(1, int(on_gpus))
    else:
        most = max(1, int(cpus / stage.cpus)) if stage.cpus else 1
    return ray.data.ActorPoolStrategy(min_size=1, max_size=min(most, stage.workers or most))


def _table(values: Sequence[Bundle | Finished | _Fault]) -> Any:
    arrow = import_arrow()
    packed = [pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL) for value in values]
    return arrow.table({COLUMN: arrow.array(packed, arrow.large_binary())})


class _Worker:
    """One process of a group of stages; what fails in it is carried out as a value.

    Args:
        made: the stages, the judge and the folder, pickled. path: where the driver imports from.
        last: whether bundles end here.
    """

    def __init__(self, made: bytes, path: tuple[str, ...], last: bool) -> None:
        self._made, self._path, self._last = made, path, last
        self._opened: tuple[Chain, Judge] | None = None

    def _open(self) -> tuple[Chain, Judge]:
        if self._opened is None:
            sys.path.extend(folder for folder in self._path if folder not in sys.path)
            try:
                stages, judge, root = pickle.loads(self._made)
            except Exception as error:
                raise DataError(f"a worker cannot load the stages: {error!r}") from error
            self._opened = Chain(stages, judge, root), judge
        return self._opened

    def __call__(self, table: Any) -> Iterator[Any]:
        given = [pickle.loads(packed.as_buffer()) for packed in table.column(COLUMN)]
        yield from (_table([fault]) for fault in given if isinstance(fault, _Fault))
        bundles = [bundle for bundle in given if isinstance(bundle, Bundle)]
        try:
            chain, judge = self._open()
            for bundle in chain.advance(bundles):
                yield _table([finish(bundle, judge) if self._last else bundle])
        except (OSError, AnyRefError) as error:
            fault = machine_error(error)
            words = str(error) if fault is None else fault.strerror or str(fault)
            yield _table([_Fault(0 if fault is None else fault.errno or 0, words)])


@contextmanager
def _ray(settings: RaySettings) -> Iterator[Any]:
    """Ray, running and quiet; stopped again when it was started here."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update({name: value for name, value in _QUIET.items() if before[name] is None})
    folder: str | None = None
    started = False
    try:
        ray = _import_ray()
        if not ray.is_initialized():
            started = True
            if settings.address is None:
                folder = tempfile.mkdtemp(prefix="anyref-ray-")
            _start(ray, settings, folder)
        with _quiet_context(ray):
            yield ray
    finally:
        if started:
            ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DataError("the Ray runner needs Ray; install anyref[data]") from error
    return ray


def _start(ray: Any, settings: RaySettings, folder: str | None) -> None:
    common = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if settings.address is not None:
            ray.init(address=settings.address, **common)
            return
        ray.init(
            num_cpus=settings.cpus,
            num_gpus=settings.gpus,
            object_store_memory=settings.object_store_mb * 2**20,
            include_dashboard=False,
            _temp_dir=folder,
            **common,
        )
    except Exception as error:  # a machine without time or room for it fails in many ways
        raise DataError(
            f"Ray does not start: {' '.join(str(error).split())}; try again when the machine has "
            "time and room, or use the local runner"
        ) from error


@contextmanager
def _quiet_context(ray: Any) -> Iterator[None]:
    """Ray Data without bars and logs, every bundle a block of its own so that it can travel."""
    context = ray.data.DataContext.get_current()
    wanted = {
        "enable_progress_bars": False,
        "enable_operator_progress_bars": False,
        "print_on_execution_start": False,
        "target_max_block_size": 1,
        "target_min_block_size": 1,
    }
    before = {name: getattr(context, name) for name in wanted}
    logger = logging.getLogger("ray.data")
    level = logger.level
    try:
        for name, value in wanted.items():
            setattr(context, name, value)
        logger.setLevel(logging.ERROR)
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            setattr(context, name, value)
