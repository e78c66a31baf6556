"""`anyref generate --batch`: every entry of a list with one loaded model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from anyref.batch import BatchItem, Format, read_batch
from anyref.cli import production, progress
from anyref.errors import AnyRefError, RequestError
from anyref.media import check_writable
from anyref.request import Request


@dataclass(frozen=True)
class Outcome:
    """What became of one entry: made, skipped or failed."""

    key: str
    status: str
    detail: str


def run_list(
    path: Path, list_format: Format, fields: Mapping[str, Any], out_dir: Path, run: production.Run
) -> bool:
    """Make every video of a list that is not there yet; True when anything failed.

    Raises:
        AnyRefError: when the list, the model or the folder cannot be used; nothing is written.
    """
    items = read_batch(path, list_format, fields)
    named = (item.request.model for item in items if item.request and item.request.model)
    model = run.model or next(named, production.DEFAULT_MODEL)
    engine = replace(run.engine, videos=len(items))
    studio = production.Studio.open(replace(run, model=model, engine=engine))
    for folder in filter(None, (out_dir, run.save_conditioning)):
        check_writable(folder / "video.mp4")
    # all decided before the first video, so that every process decides alike
    planned = [(item, _plan(item, studio, model, out_dir)) for item in items]
    missing = [item for item, outcome in planned if outcome is None]
    made = _make_all(missing, studio, out_dir, run.save_conditioning)
    outcomes = [outcome or made[item.key] for item, outcome in planned]
    _print_table(outcomes)
    return any(outcome.status == "failed" for outcome in outcomes)


def _make_all(
    items: list[BatchItem],
    studio: production.Studio,
    out_dir: Path,
    save_conditioning: Path | None,
) -> dict[str, Outcome]:
    """What became of every entry by key; groups of processes take them in turn."""
    if not items:
        return {}
    from anyref.pipelines import parallel

    if parallel.announced() > 1:
        studio.load()  # who makes which is known then
    turn, count = parallel.video_turn()
    own = {item.key: _make(item, studio, out_dir, save_conditioning) for item in items[turn::count]}
    return {key: outcome for part in parallel.from_all(own) for key, outcome in part.items()}


def _plan(item: BatchItem, studio: production.Studio, model: str, out_dir: Path) -> Outcome | None:
    """The outcome of an entry that needs no work, or None."""
    if item.request is None:
        return _failed(item, f"line {item.line}: {item.error}")
    try:
        _check_model(item.request, model)
        production.check_pictures(item.request)
        studio.check(item.request)
        if studio.has_made(item.request, out_dir / f"{item.key}.mp4"):
            return Outcome(item.key, "skipped", "already made")
        production.check_output(out_dir / f"{item.key}.mp4")
    except (AnyRefError, OSError) as error:
        return _failed(item, f"line {item.line}: {error}")
    return None


def _check_model(request: Request, model: str) -> None:
    if request.model not in (None, model):
        raise RequestError(
            f"asks for model {request.model!r} but this run loads {model!r}; "
            "put it into a list of its own"
        )


def _make(
    item: BatchItem, studio: production.Studio, out_dir: Path, save_conditioning: Path | None
) -> Outcome:
    from anyref.pipelines import parallel

    assert item.request is not None  # planned
    pictures = save_conditioning / item.key if save_conditioning else None
    progress.line(f"{item.key}:", error=True)
    try:
        seconds = studio.make(item.request, out_dir / f"{item.key}.mp4", pictures)
    except AnyRefError as error:
        return _failed(item, str(error))
    except Exception as error:
        if parallel.world_size() > 1:
            raise  # the other processes are waiting in a collective and cannot go on
        return _failed(item, f"{type(error).__name__}: {error}")
    return Outcome(item.key, "made", production.summary(seconds))


def _failed(item: BatchItem, reason: str) -> Outcome:
    progress.line(f"{item.key}: {reason}", error=True)
    return Outcome(item.key, "failed", reason)


def _print_table(outcomes: list[Outcome]) -> None:
    if not progress.prints():
        return
    table = Table("key", "status", "detail", box=None)
    for outcome in outcomes:
        table.add_row(outcome.key, outcome.status, " ".join(outcome.detail.split()))
    counts = {
        status: sum(outcome.status == status for outcome in outcomes)
        for status in ("made", "skipped", "failed")
    }
    Console(markup=False, highlight=False).print(table)
    progress.line(", ".join(f"{count} {status}" for status, count in counts.items()))
