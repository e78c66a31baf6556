"""`anyref data fetch`: the packages that ship the small models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from anyref.cli import progress


def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Which; all that `data build` uses if absent. With --large, changes of the recipe "
            "such as grade.qwen=OWNER/NAME.",
        ),
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="Tell what there is and fetch nothing.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that `data build` does not use, too.")
    ] = False,
    large: Annotated[
        bool, typer.Option("--large", help="The large ones, from the Hugging Face hub: 20 GB.")
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the weights; $ANYREF_CACHE if absent.")
    ] = None,
) -> None:
    """Fetch the small perception models from their packages, each with its checksum.

    Done once; what is there already is not fetched again. Nothing else uses the network.
    """
    from anyref.data.grades import needed_models
    from anyref.perception import sources

    if large:
        _fetch_large(names or [], list_only=list_only)
        return

    folder = sources.default_cache() if cache is None else cache
    chosen = list(names or (sources.SOURCES if everything or list_only else needed_models()))
    for number, name in enumerate(() if list_only else chosen, start=1):
        if not sources.is_fetched(name, folder):
            pin = sources.SOURCES[name].package.pin
            progress.line(f"{number}/{len(chosen)} {name} from {pin}", error=True)
            sources.fetch([name], folder)
        sources.open_weights(name, folder)  # compares checksums
    _print(chosen, folder, checked=not list_only)
    here = sum(sources.is_fetched(name, folder) for name in chosen)
    progress.line(f"{here} of {len(chosen)} models in {folder}")


def _fetch_large(changes: list[str], *, list_only: bool) -> None:
    from anyref.data.engine import load_recipe
    from anyref.perception.large_checkpoints import checkpoint, fetch

    grade = load_recipe(changes=["grade.name=large", *changes]).grade
    for number, (part, source) in enumerate(grade.large_models, start=1):
        known = checkpoint(source)
        place = "" if list_only else f" in {fetch([known])[0]}"
        licence = ": ".join(filter(None, (known.licence, known.doubt)))
        progress.line(f"{number}/{len(grade.large_models)} {part} {source} ({licence}){place}")


def _print(names: list[str], folder: Path, *, checked: bool) -> None:
    from anyref.packages import package_folder
    from anyref.perception import sources

    table = Table(box=None)
    for heading in ("model", "package", "licence", "MiB", "sha256", ""):
        table.add_column(heading, overflow="fold", justify="right" if heading == "MiB" else "left")
    for name in names:
        here = sources.is_fetched(name, folder)
        source = sources.SOURCES[name]
        home = package_folder(source.package, folder)
        size = sum((home / file).stat().st_size for file in source.files) / 2**20 if here else None
        digests = dict(source.package.sha256)
        table.add_row(
            name,
            source.package.pin,
            source.package.licence,
            "" if size is None else f"{size:.1f}",
            " ".join(digests[file][:16] for file in source.files),
            ("checked" if checked else "here") if here else "not fetched",
        )
    console = Console(markup=False, highlight=False)
    console.print(table)
    for name in names:
        if doubt := sources.SOURCES[name].doubt:
            console.print(f"{name}: {doubt}", soft_wrap=True)
