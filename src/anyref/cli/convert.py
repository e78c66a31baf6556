"""`anyref convert`: official weights to a diffusers folder, and back."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Family(str, Enum):
    """Whose weights they are."""

    MAGREF = "magref"
    KALEIDO = "kaleido"


def convert(
    source: Annotated[
        Path, typer.Argument(help="The published folder (a pipeline folder to go back).")
    ],
    out: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    family: Annotated[
        Family, typer.Option(help="Whose weights they are; the way back knows it itself.")
    ] = Family.MAGREF,
    clip_heads: Annotated[
        int, typer.Option(help="Attention heads of MAGREF's image encoder.")
    ] = 16,
    num_heads: Annotated[
        int | None,
        typer.Option(help="Attention heads of the transformer, where no file says (released: 40)."),
    ] = None,
    allow_missing: Annotated[
        str,
        typer.Option(help="Parts to do without: text_encoder (and tokenizer), image_encoder, vae."),
    ] = "",
    to_official: Annotated[
        bool, typer.Option("--to-official", help="Go back: a pipeline folder to official files.")
    ] = False,
) -> None:
    """Turn official weights into a diffusers folder, or back, bit for bit."""
    from anyref.models import weights

    if to_official:
        weights.to_official(source, out)
        return
    missing = frozenset(part.strip() for part in allow_missing.split(",") if part.strip())
    if family is Family.MAGREF:
        weights.convert_magref(
            source, out, clip_heads=clip_heads, num_heads=num_heads, allow_missing=missing
        )
    else:
        weights.convert_kaleido(source, out, num_heads=num_heads, allow_missing=missing)
