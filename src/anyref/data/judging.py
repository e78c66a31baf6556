"""What the rules say of a row, at the end of a run and whenever they change."""

from __future__ import annotations

from dataclasses import replace

from anyref.data.record import Flags
from anyref.data.rows import UNFINISHED, Row
from anyref.data.stages import Rejection
from anyref.data.thresholds import Judge


def rejected(row: Row, why: Rejection) -> Row:
    """A row with the reason for which it is not in use."""
    return replace(
        row,
        status="rejected",
        stage=why.stage,
        reason=why.reason,
        detail=why.detail,
        number=None if why.number is None else float(why.number),
        limit=None if why.limit is None else float(why.limit),
    )


def judged(row: Row, judge: Judge) -> Row:
    """A row as the rules have it now; as it is where a stage itself rejected it.

    One that passes, but that older rules stopped before all stages had run, is rejected as
    unfinished.
    """
    if not row.judged:
        return row
    failed = judge.verdict(row.measurements, row.stopped)
    if failed is None and row.stopped is not None:
        failed = Rejection(row.stopped, UNFINISHED)
    record = row.record
    if record is not None:
        flags = Flags(filtered_by=None if failed is None else failed.stage)
        record = row.sample().model_copy(update={"flags": flags}).to_json()
    clean = replace(
        row,
        status="accepted",
        stage=None,
        reason=None,
        detail=None,
        number=None,
        limit=None,
        record=record,
    )
    return clean if failed is None else rejected(clean, failed)
