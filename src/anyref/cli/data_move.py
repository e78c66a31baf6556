"""`anyref data export` and `import`: datasets to the formats of others, and from them."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from anyref.cli import progress

EVERY = 500  # records between two lines


class ExportFormat(str, Enum):
    """What a dataset becomes."""

    WEBDATASET = "webdataset"
    OPENS2V = "opens2v"
    MAGREF = "magref"
    KALEIDO = "kaleido"


class ImportFormat(str, Enum):
    """What a dataset is made of."""

    OPENS2V = "opens2v"
    FOLDER = "folder"


def export(
    dataset: Annotated[Path, typer.Argument(help="Folder of the dataset.")],
    out: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format", help="webdataset: shards for anyref train; magref, kaleido: lists."
        ),
    ] = ExportFormat.WEBDATASET,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Of every clip in shards; shorter clips are left out."),
    ] = None,
) -> None:
    """Write a dataset's records in use in another format."""
    from anyref.data.export import export as run

    told = run(dataset, out, cast(Any, form.value), frames=frames, on_record=_reporter())
    for reason, count in told.left_out.items():
        progress.line(f"left out: {count:,} {reason}")
    pairs = f" and {told.pairs:,} pairs" if form is ExportFormat.OPENS2V else ""
    progress.line(f"{told.written:,} records{pairs} in {out}")
    if form is ExportFormat.WEBDATASET:
        progress.line(f"train on them: data.shards=[{out}] in a recipe, see docs/train.md")


def import_dataset(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A folder of clips, or an OpenS2V-5M JSON.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DATASET", help="A folder that does not exist.")
    ],
    form: Annotated[ImportFormat, typer.Option("--format", help="What IN is.")],
    videos: Annotated[
        Path | None, typer.Option(help="Folder of the JSON's videos; its own if absent.")
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="The JSON's pairs across clips, a file such as pairs.json.")
    ] = None,
) -> None:
    """Make a dataset of clips that have texts and references already; no model runs.

    A folder holds NAME.mp4, NAME.txt and pictures NAME.REF.png of what the text names.
    """
    from anyref.data.importing import import_dataset as run

    told = run(
        source, out, cast(Any, form.value), videos=videos, pairs=pairs, on_record=_reporter()
    )
    for reason, count in told.rejected.items():
        progress.line(f"rejected: {count:,} {reason}")
    for verdict, number in told.pairs.items():
        progress.line(f"pairs {verdict}: {number:,}")
    progress.line(f"{told.accepted:,} records in use in {out}")


def _reporter() -> Callable[[int], None]:
    def report(done: int) -> None:
        if done % EVERY == 0:
            progress.line(f"{done:,} records", error=True)

    return report
