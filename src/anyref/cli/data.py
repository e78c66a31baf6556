"""`anyref data`: videos to datasets, datasets to shards, and looking at both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anyref.cli import progress
from anyref.cli.data_build import build, rescore
from anyref.cli.data_fetch import fetch
from anyref.cli.data_look import report, show
from anyref.cli.data_move import export, import_dataset

app = typer.Typer(
    name="data",
    help="Videos to datasets of clips, captions, references and pairs; datasets to shards.",
    no_args_is_help=True,
)
for command in (fetch, build, report, show, rescore, export):
    app.command()(command)
app.command(name="import")(import_dataset)


@app.command()
def pack(
    listing: Annotated[
        Path, typer.Argument(help='JSONL: {"video": ..., "prompt": ..., "references": [...]}.')
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the shards.")],
    fps: Annotated[float | None, typer.Option(help="Frames per second to keep.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames to keep.")] = None,
) -> None:
    """Pack clips, their captions and pictures of their subjects into shards for anyref train."""
    from anyref.data.pack import pack_clips

    count = pack_clips(listing, out, fps=fps, num_frames=frames)
    progress.line(f"{count} clips in {out}")
