"""Videos that stand still earn nothing by it.

Steadiness, smoothness and freedom from flicker are best where nothing happens at all, so that a
picture held for five seconds would win them. In our own profile a video whose frames repeat has
nothing of the kind to measure; as all that shows nothing to measure, it counts as the worst there.
Whether frames repeat is measured whichever metrics are asked for. (VBench and OpenS2V-Eval count
such a video as the best.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from anyref.evaluation.metric import Metric, Outcome, Score, Skipped
from anyref.evaluation.results import ScoreTable

FROZEN = "frozen_frames"  # the metric that tells
STILL = 0.9  # of the frames repeat the one before
WON_BY_STILLNESS = ("subject_consistency", "background_consistency", "motion_smoothness", "flicker")
WHY = Skipped("the video stands still; this would be best where nothing happens", "undetected")
NOTE = f"a video that stands still counts as the worst in {', '.join(WON_BY_STILLNESS)}"


def watched(metrics: Sequence[Metric]) -> tuple[Metric, ...]:
    """The metrics, and the one that tells stillness where any of them is won by it."""
    names = {metric.spec.name for metric in metrics}
    if FROZEN in names or not names & set(WON_BY_STILLNESS):
        return tuple(metrics)
    from anyref.evaluation.metrics.motion import FrozenFrames

    return (*metrics, FrozenFrames())


def without_stillness(table: ScoreTable) -> ScoreTable:
    """The table where videos that stand still have no score in what stillness wins.

    The same table where `frozen_frames` was not measured: score with `watched` metrics.
    """
    still = {sample for sample, value in table.values(FROZEN).items() if value >= STILL}
    if not still:
        return table
    columns = {
        name: {
            sample: WHY if sample in still and _won(name, outcome) else outcome
            for sample, outcome in column.items()
        }
        for name, column in table.columns.items()
    }
    return replace(table, columns=columns)


def _won(name: str, outcome: Outcome) -> bool:
    return name in WON_BY_STILLNESS and isinstance(outcome, Score)
