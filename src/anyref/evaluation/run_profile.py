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
from anyref.evaluation.metric import MetricSpec
from anyref.evaluation.profiles.magref import MagrefSet, magref
from anyref.evaluation.profiles.opens2v import Domain, Version, completed, opens2v
from anyref.evaluation.profiles.opens2v_files import JUDGE_FILES, SCORE_FILES, read_score_folder
from anyref.evaluation.profiles.profile import Profile, Summary
from anyref.evaluation.profiles.strict import strict
from anyref.evaluation.profiles.vbench import vbench
from anyref.evaluation.profiles.vbench_files import PATTERN, read_eval_results
from anyref.evaluation.run import Scored

ProfileName = Literal["strict", "opens2v-v1.0", "opens2v-v1.1", "vbench", "magref"]
TOTAL = "total"


def suite(name: ProfileName, benchmark: Benchmark) -> Profile | None:
    """The published suite of that name for a benchmark's cases; None for "strict".

    Raises:
        EvaluationError: OpenS2V-Eval's profiles go with its own files, whose names say the domain.
    """
    if name == "strict":
        return None
    if name == "vbench":
        return vbench()
    if name == "magref":
        return magref(_magref_set(benchmark))
    if benchmark.domain is None:
        raise EvaluationError(
            f"profile {name!r} needs a file of OpenS2V-Eval (Open-Domain, Human-Domain or "
            f"Single-Domain in its name), the benchmark is {benchmark.name!r}; use --profile strict"
        )
    version = name.removeprefix("opens2v-")
    return opens2v(cast(Version, version), cast(Domain, benchmark.domain))


def _magref_set(benchmark: Benchmark) -> MagrefSet:
    single = all(case.kinds == ("human",) for case in benchmark.cases if case.request)
    return "single-id" if single else "multi-subject"


def measured_profile(
    name: ProfileName, benchmark: Benchmark, specs: Sequence[MetricSpec]
) -> Profile:
    """The profile for videos that these metrics score.

    A suite whose metrics are not all measured has no total; nothing stands in for them.

    Raises:
        EvaluationError: as `suite`; none of the suite's metrics is among these.
    """
    named = suite(name, benchmark)
    if named is None:
        return strict(specs)
    wanted, have = [column.name for column in named.columns], {spec.name for spec in specs}
    if not have & set(wanted):
        raise EvaluationError(
            f"profile {name!r} counts {', '.join(wanted)}, and none of these is among the metrics "
            f"({', '.join(sorted(have))}); give the score files of its own scripts as RESULTS, or "
            "use --profile strict"
        )
    return named if have >= set(wanted) else replace(named, absent=None)


def read_scores(path: Path, name: ProfileName, benchmark: Benchmark) -> Scored | None:
    """Scores that a suite's own scripts wrote; None where there are none of the profile's.

    Raises:
        EvaluationError: for files that cannot be used at all.
    """
    if name.startswith("opens2v"):
        names = [*(file for file, _, _ in SCORE_FILES), *JUDGE_FILES]
        if not any((path / f"{file}.json").is_file() for file in names):
            return None
        said = read_score_folder(path)
        return Scored(path.name, completed(said.table, benchmark), faults=said.faults)
    if name == "vbench" and (path.is_file() or any(path.glob(PATTERN))):
        found = read_eval_results(path, benchmark)
        return Scored(path.stem, found.table, faults=found.faults)
    return None


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
