"""Which arithmetic an evaluation uses, scores that suites' own scripts wrote, and gates on figures.

A gate is `NAME=LIMIT`: the figure of that name, on the profile's scale of 0 to 1, is not under the
limit. A figure that could not be measured is under any limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import Benchmark
from anyref.evaluation.metric import MetricSpec, Suite
from anyref.evaluation.profiles.magref import MagrefSet, magref
from anyref.evaluation.profiles.opens2v import Domain, Version, completed, opens2v
from anyref.evaluation.profiles.opens2v_files import (
    JUDGE_FILES,
    SCORE_FILES,
    ScoreFolder,
    read_score_folder,
)
from anyref.evaluation.profiles.profile import Profile, Summary
from anyref.evaluation.profiles.score_tables import ReadTable, read_table, score_file
from anyref.evaluation.profiles.strict import strict
from anyref.evaluation.profiles.vbench import vbench, vbench_i2v
from anyref.evaluation.profiles.vbench_files import PATTERN, VBenchResults, read_eval_results
from anyref.evaluation.run import Scored

ProfileName = Literal["strict", "opens2v-v1.0", "opens2v-v1.1", "vbench", "vbench-i2v", "magref"]
TOTAL = "total"
UNTOLD = ("videos", "results", "output", "outputs", "samples", "scores")  # names of any model's


def suite(name: ProfileName, benchmark: Benchmark) -> Profile | None:
    """The published suite of that name for a benchmark's cases; None for "strict".

    Raises:
        EvaluationError: OpenS2V-Eval's profiles go with its own files, whose names say the domain.
    """
    if name == "strict":
        return None
    if name == "vbench":
        return vbench()
    if name == "vbench-i2v":
        return vbench_i2v()
    if name == "magref":
        return magref(_magref_set(benchmark))
    if benchmark.domain is None:
        raise EvaluationError(
            f"profile {name!r} needs a file of OpenS2V-Eval (Open-Domain, Human-Domain or "
            f"Single-Domain in its name), the benchmark is {benchmark.name!r}; use --profile strict"
        )
    version = name.removeprefix("opens2v-")
    return opens2v(cast(Version, version), cast(Domain, benchmark.domain))


def family(name: ProfileName) -> Suite | None:
    """The suite that a profile is of; None for "strict"."""
    return None if name == "strict" else cast(Suite, name.partition("-")[0])


def _magref_set(benchmark: Benchmark) -> MagrefSet:
    single = all(case.kinds == ("human",) for case in benchmark.cases if case.request)
    return "single-id" if single else "multi-subject"


def measured_profile(
    name: ProfileName, benchmark: Benchmark, specs: Sequence[MetricSpec]
) -> Profile:
    """The profile for videos that these metrics score.

    A suite whose metrics are not all measured has no total. Only metrics that measure as its own
    scripts do count, those of its grade; nothing stands in for the others, whatever its name.

    Raises:
        EvaluationError: as `suite`; none of the metrics is the suite's own.
    """
    named = suite(name, benchmark)
    if named is None:
        return strict(specs)
    wanted = [column.name for column in named.columns]
    have = {spec.name for spec in specs if spec.grade == family(name)}
    if not have & set(wanted):
        raise EvaluationError(
            f"profile {name!r} counts {', '.join(wanted)}, and none of these is measured here as "
            "its own scripts do; give the score files that they wrote as RESULTS, or use --profile "
            "strict"
        )
    return named if have >= set(wanted) else replace(named, absent=None)


def read_scores(path: Path, name: ProfileName, benchmark: Benchmark) -> Scored | None:
    """Scores that a suite's own scripts wrote; None where there are none of the profile's.

    Raises:
        EvaluationError: for files that cannot be used at all.
    """
    said: ScoreFolder | VBenchResults | ReadTable
    if family(name) == "opens2v":
        names = [*(file for file, _, _ in SCORE_FILES), *JUDGE_FILES]
        if not any((path / f"{file}.json").is_file() for file in names):
            return None
        said = read_score_folder(path)
        if not any(case in benchmark for case, _ in said.table.samples):
            raise EvaluationError(
                f"{str(path)!r} has scores of 0 cases of {benchmark.name!r}; name the benchmark "
                "that they are of"
            )
        return Scored(name_of(path), completed(said.table, benchmark), faults=said.faults)
    if family(name) == "vbench" and (path.is_file() or any(path.glob(PATTERN))):
        said = read_eval_results(path, benchmark)
        return Scored(name_of(path), said.table, faults=said.faults)
    if family(name) == "magref" and (file := score_file(path)) is not None:
        columns = [column.name for column in magref(_magref_set(benchmark)).columns]
        said = read_table(file, columns, benchmark)
        return Scored(name_of(path), said.table, faults=said.faults)
    return None


def name_of(results: Path) -> str:
    """What the model of a results folder or score file is called.

    With the folder around where its own name says nothing of the model.
    """
    path = results.resolve()
    name = path.stem if path.is_file() else path.name
    words = f"{path.parent.name}/{name}" if name.lower() in UNTOLD and path.parent.name else name
    return words or "results"


@dataclass(frozen=True)
class Gate:
    """A figure that must not be under a limit."""

    name: str
    limit: float

    def value(self, summary: Summary) -> float | None:
        """The figure: the total, a metric's, or a group's; None where it is not measured."""
        if self.name == TOTAL:
            return summary.total
        return {**summary.groups, **summary.values}.get(self.name)

    def holds(self, summary: Summary) -> bool:
        """Whether the figure is there and not under the limit."""
        value = self.value(summary)
        return value is not None and value >= self.limit


def parse_gates(texts: Sequence[str]) -> tuple[Gate, ...]:
    """Gates of `NAME=LIMIT` texts.

    Raises:
        EvaluationError: for another form, or a limit that is no number.
    """
    gates = []
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if not name or not equals or not math.isfinite(limit):
            raise EvaluationError(
                f"gate {text!r} is not METRIC=VALUE; write --fail-under total=0.5"
            )
        if limit > 1:
            raise EvaluationError(
                f"gate {text!r} is over 1, the best of the scale of 0 to 1; write "
                f"{name}={limit / 100:g} for {number} of 100"
            )
        gates.append(Gate(name, limit))
    return tuple(gates)


def check_gates(gates: Sequence[Gate], profile: Profile) -> None:
    """Raise EvaluationError for a gate on a figure that the profile does not have."""
    known = [TOTAL, *(c.name for c in profile.columns), *(g.name for g in profile.groups)]
    for gate in gates:
        if gate.name not in known:
            raise EvaluationError(
                f"gate {gate.name!r} is no figure of profile {profile.name!r}; it has "
                f"{', '.join(dict.fromkeys(known))}"
            )
