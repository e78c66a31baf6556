"""New thresholds on the numbers that a dataset holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anyref.data.dataset import Dataset, rewrite
from anyref.data.judging import judged
from anyref.data.rows import UNFINISHED, Row
from anyref.data.thresholds import Judge, Recipe


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """What new thresholds changed.

    Args:
        rejected: counts by (stage, reason). gained, lost: records that are in use now and were
            not before, and the reverse.
        unfinished: records that would pass, but that older rules stopped before all stages had
            run; they stay rejected until the dataset's own command runs again.
    """

    accepted: int
    gained: int
    lost: int
    unfinished: int
    rejected: Mapping[tuple[str, str], int] = field(default_factory=dict)


def rescore(folder: str | Path, recipe: Recipe) -> Rescored:
    """Judge every record of a dataset by other rules. No stage runs.

    What a stage itself rejected stays rejected. The result is that of a run with these rules,
    except that measurements of records that would now have been stopped earlier are kept.

    Args:
        recipe: only its rules are used.

    Raises:
        DataError: no dataset there, or a rule on something that its stages do not measure.
    """
    manifest = Dataset.open(folder).manifest
    judge = Judge(recipe.rules, manifest.stages)
    counted: Counter[str] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()

    def change(row: Row) -> Row:
        new = judged(row, judge)
        counted["gained"] += row.status == "rejected" and new.status == "accepted"
        counted["lost"] += row.status == "accepted" and new.status == "rejected"
        counted["unfinished"] += new.reason == UNFINISHED
        counted[new.status] += 1
        if new.status == "rejected":
            reasons[new.stage or "", new.reason or ""] += 1
        return new

    rules = recipe.model_dump(mode="json")["rules"]
    rewrite(folder, change, {**manifest.recipe, "rules": rules})
    return Rescored(
        accepted=counted["accepted"],
        gained=counted["gained"],
        lost=counted["lost"],
        unfinished=counted["unfinished"],
        rejected=dict(sorted(reasons.items())),
    )
