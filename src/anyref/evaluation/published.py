"""Figures that suites and papers print, to stand beside ours, marked as published.

`published.json` lists, per profile and table, the columns and one row per model, as printed: over
100 for OpenS2V-Eval, over 1 for MAGREF. Sources: the leaderboards of OpenS2V-Nexus v1.0 and v1.1
(its CSV files), Table 1 of DIAL (arXiv 2609.11507) for the models that it evaluated, Tables 1 to 4
of MAGREF (arXiv 2505.23742v2). Scores of the two OpenS2V-Eval versions are not compared: the judge
of natural_score was asked anew. Rows by others than the OpenS2V team have their own judge runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from anyref.errors import EvaluationError

FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A model's figures as somebody printed them.

    Args:
        profile: the suite, as a `Profile` is named. table: its domain or set.
        values: by column of the profile, scaled to 0..1. total: likewise.
        evaluated_by: who measured. source: where it is printed.
    """

    profile: str
    table: str
    model: str
    values: Mapping[str, float]
    total: float
    evaluated_by: str
    source: str

    @property
    def is_published(self) -> bool:
        """True: a row of this kind is never ours."""
        return True


def published_rows(profile: str, table: str) -> tuple[PublishedRow, ...]:
    """The rows of a profile's table, in the order of their source.

    Raises:
        EvaluationError: for a profile and table that nothing is published of.
    """
    rows = tuple(row for row in _rows() if (row.profile, row.table) == (profile, table))
    if not rows:
        known = ", ".join(sorted({f"{row.profile} {row.table}" for row in _rows()}))
        raise EvaluationError(f"no figures of {profile} {table} are published; there are {known}")
    return rows


@cache
def _rows() -> tuple[PublishedRow, ...]:
    rows = []
    for block in json.loads(FILE.read_text("utf-8")):
        columns = [name for name in block["columns"] if name != "total"]
        for model, evaluated_by, *figures in block["rows"]:
            scaled = dict(zip(block["columns"], (f / block["over"] for f in figures), strict=True))
            rows.append(
                PublishedRow(
                    profile=block["profile"],
                    table=block["table"],
                    model=model,
                    values={name: scaled[name] for name in columns},
                    total=scaled["total"],
                    evaluated_by=evaluated_by,
                    source=block["source"],
                )
            )
    return tuple(rows)
