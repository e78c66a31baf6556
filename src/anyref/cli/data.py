"""`anyref data`: your own clips as training shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anyref.cli import progress

app = typer.Typer(name="data", help="Your own clips as training shards.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Your own clips as training shards."""


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
