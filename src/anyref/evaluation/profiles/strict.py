"""Our own profile: nothing drops out of a mean, and the figures say what was penalised.

Each metric is scaled so that 0 is the worst and 1 the best value of its range. A case whose video
is missing, unreadable, or shows nothing that the metric could measure counts as 0; a case that
gives the metric nothing to measure does not count. The total is the plain mean of the metrics, of
those alone that were measured: compare totals only where the metrics are the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from anyref.errors import EvaluationError
from anyref.evaluation.metric import MetricSpec
from anyref.evaluation.profiles.profile import Column, Group, Profile

NAME = "strict"


def strict(specs: Iterable[MetricSpec]) -> Profile:
    """The profile for metrics of one grade, in their order.

    Raises:
        EvaluationError: no metrics, or metrics of the small and the large grade together.
    """
    specs = tuple(specs)
    if not specs:
        raise EvaluationError("no metrics to count; choose one or more")
    if len({spec.grade for spec in specs} - {"exact"}) > 1:
        raise EvaluationError(
            "metrics of the small and the large grade are not put in one report; make one of each"
        )
    columns = tuple(
        Column(name=spec.name, floor=spec.worst, ceiling=spec.best, low=spec.low, high=spec.high)
        for spec in specs
    )
    return Profile(
        name=NAME,
        columns=columns,
        groups=(Group("metrics", {spec.name: 1.0 for spec in specs}, len(specs)),),
        total_weights={"metrics": 1.0},
        missing="worst",
        notes=(
            "a case whose video is missing, unreadable or shows nothing to measure counts as the "
            "worst score",
        ),
    )
