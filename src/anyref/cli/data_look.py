"""`anyref data report` and `show`: a dataset as a page, a record in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from anyref.cli import progress

if TYPE_CHECKING:
    from anyref.data.record import Sample
    from anyref.data.rows import Row

Dataset = Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of the dataset.")]


def report(
    dataset: Dataset,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The page; in the dataset if absent.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the records that are shown.")] = 0,
    samples: Annotated[int, typer.Option(min=0, max=500, help="Records of a kind to show.")] = 12,
) -> None:
    """Write one page about a dataset: what was rejected and why, measurements, samples, pairs."""
    from anyref.data.report import write_report

    page = write_report(dataset, out, seed=seed, samples=samples)
    progress.line(f"{page} ({page.stat().st_size / 2**20:.1f} MiB)")


def show(
    dataset: Dataset,
    id: Annotated[str, typer.Argument(metavar="ID", help="Of the record.")],  # noqa: A002
    sheet: Annotated[
        Path | None,
        typer.Option("--open-sheet", help="Write its frames, masks and references as a picture."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Tell all about a record: its files, references, numbers, and why it was rejected."""
    from anyref.data import dataset as store
    from anyref.data.stills import record_sheet
    from anyref.errors import DataError
    from anyref.media import check_writable, save_picture

    opened = store.Dataset.open(dataset)
    row = opened.row(id)
    if sheet is not None:
        check_writable(sheet)
        save_picture(sheet, record_sheet(opened, row))
    if as_json:
        if row.record is None:
            raise DataError(f"{id!r} was {row.status} before it had a record; leave --json out")
        typer.echo(row.record)
        return
    _print_row(row, opened.folder)
    if row.record is not None:
        _print_sample(row.sample(), opened.folder)
    if sheet is not None:
        progress.line(f"sheet: {sheet}")


def _say(words: str, value: object) -> None:
    from anyref.data.markup import plain

    if value not in (None, "", ()):
        progress.line(f"{words}: {plain(value, 2000)}")


def _print_row(row: Row, folder: Path) -> None:
    _say("id", row.id)
    _say("source", row.uri)
    why = "" if row.stage is None else f" at {row.stage}: {row.reason}"
    number = "" if row.number is None else f" {row.number:.6g}"
    limit = "" if row.limit is None else f", the limit is {row.limit:.6g}"
    _say("status", f"{row.status}{why}{number}{limit}")
    _say("detail", row.detail)
    if row.stopped is not None:
        _say("stopped after", row.stopped)
    _table(("measurement", "number"), [(k, f"{v:.6g}") for k, v in row.measurements.items()])
    _table(("file of", "path"), [(k, str(folder / uri)) for k, uri in row.assets.items()])


def _print_sample(sample: Sample, folder: Path) -> None:
    video = sample.video
    _say("frames of the source", f"{video.start} to {video.end - 1}")
    size = f"{video.width}x{video.height}, {video.num_frames} frames at {video.fps:g} a second"
    _say("clip", f"{folder / (video.uri or '(none)')} ({size})")
    for caption in sample.captions:
        _say(f"caption ({caption.model or caption.kind})", caption.text)
    text = sample.captions[0].text
    rows = [
        (
            reference.ref_id,
            reference.entity_id,
            reference.kind,
            reference.label,
            reference.pair_type.replace("_", " "),
            "" if reference.caption_span is None else text[slice(*reference.caption_span)],
            "" if reference.origin.frame is None else str(reference.origin.frame),
            reference.origin.sample_id or reference.origin.generator or "",
            reference.image.uri or "",
        )
        for reference in sample.references
    ]
    headings = ("ref", "subject", "kind", "label", "pair", "words", "frame", "from", "picture")
    _table(headings, rows)


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from anyref.data.markup import plain

    if not rows:
        return
    table = Table(box=None)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    Console(markup=False, highlight=False).print(table)
