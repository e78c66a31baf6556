"""`anyref lab`: clips of the cutout world, to train on and to measure models with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console
from rich.table import Table

from anyref.cli import progress
from anyref.cli.options import LoraTexts, parse_loras
from anyref.errors import LabError

app = typer.Typer(
    name="lab",
    help="The cutout world: clips with ground truth, to train on and to measure models with.",
    no_args_is_help=True,
)

ROWS = {
    "identity": "identity (of 20)",
    "both": "all right",
    "swapped": "swapped",
    "merged": "merged",
    "direction": "direction (track)",
    "change": "direction (change)",
    "background": "background",
    "reference_background": "  its reference",
    "pose": "reference's pose",
    "pose_chance": "  share of cycle",
}
RATES = frozenset(ROWS) - {"background", "reference_background"}
COLUMNS = ("model", "ceiling", "floor")
LINES = 20  # of progress at most

ONLY = "Subjects that may appear, by reference name; all of the split if absent."
Split = Annotated[str, typer.Option(metavar="train|validation|test", help="Which identities.")]


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Option(help="A shipped name, a model folder, or ground-truth (the instrument).")
    ],
    subjects: Annotated[str, typer.Option(help="Subjects per clip, such as 1,2,3.")] = "1,2,3",
    clips: Annotated[
        int, typer.Option("-n", "--clips", help="Clips per number of subjects.")
    ] = 100,
    split: Split = "test",
    steps: Annotated[int | None, typer.Option(min=1, max=1000, help="Denoising steps.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws clips and noise.")] = 0,
    size: Annotated[int | None, typer.Option(help="Frame side, the model's own if absent.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames, the model's own if absent.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; an unfinished one is finished.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of one thread each.")] = 1,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...")] = None,
    wrong_references: Annotated[
        bool, typer.Option(help="Show the model another clip's pictures: what words alone give.")
    ] = False,
    only: Annotated[str | None, typer.Option(metavar="NAME,...", help=ONLY)] = None,
    lora: LoraTexts = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Measure a model on held-out clips: identity, places, motion, background, poses."""
    from anyref.lab.evaluation import evaluate as run
    from anyref.lab.evaluation import make_protocol

    numbers = _numbers(subjects)
    protocol = make_protocol(
        model,
        size=size,
        num_frames=frames,
        split=_checked_split(split),
        seed=seed,
        steps=steps,
        wrong_references=wrong_references,
        cast=_names(only),
        loras=parse_loras(lora or ()),
    )
    folder = out or Path("lab-evaluation") / Path(model).name
    results = run(
        protocol,
        folder,
        subjects=numbers,
        clips=clips,
        workers=workers,
        device=device,
        on_clip=_reporter(),
    )
    if as_json:
        typer.echo(json.dumps(results, indent=2))
        return
    _print(results, folder)


@app.command()
def shards(
    folder: Annotated[Path, typer.Argument(help="Where the shards go.")],
    clips: Annotated[int, typer.Option("-n", "--clips", help="How many clips.")] = 20_000,
    split: Split = "train",
    mix: Annotated[
        str, typer.Option(metavar="SUBJECTS=SHARE,...", help="Shares by number of subjects.")
    ] = "1=0.6,2=0.4",
    size: Annotated[int, typer.Option(help="Frame side in pixels.")] = 96,
    frames: Annotated[int, typer.Option(help="Frames per clip.")] = 17,
    seed: Annotated[int, typer.Option(min=0, help="Draws the clips.")] = 0,
    only: Annotated[str | None, typer.Option(metavar="NAME,...", help=ONLY)] = None,
    processes: Annotated[int, typer.Option(min=1, help="How many work at once.")] = 2,
) -> None:
    """Compose clips and write them as shards to train on; keeps the shards that are there."""
    from anyref.lab.shards import write_lab_shards

    paths = write_lab_shards(
        folder,
        clips=clips,
        split=cast(Any, _checked_split(split)),
        world_weights=_mix(mix),
        size=size,
        num_frames=frames,
        seed=seed,
        cast=_names(only),
        processes=processes,
        on_shard=lambda path: progress.line(str(path), error=True),
    )
    progress.line(f"{folder} ({clips} clips in {len(paths)} shards)")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part in ("1", "2", "3") for part in parts):
        raise LabError(f"subjects {text!r} are not 1, 2 or 3 with commas; write --subjects 1,2,3")
    return tuple(sorted({int(part) for part in parts}))


def _checked_split(split: str) -> str:
    from anyref.lab.catalog import Split as Splits

    if split not in get_args(Splits):
        raise LabError(f"split {split!r} is none of {', '.join(get_args(Splits))}; name one")
    return split


def _mix(text: str) -> dict[int, float]:
    """Shares by number of subjects of `1=0.6,2=0.4`."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {int(number): float(share) for number, share in pairs}
    except ValueError as error:
        raise LabError(f"mix {text!r} is not SUBJECTS=SHARE; write --mix 1=0.6,2=0.4") from error


def _reporter() -> Callable[[int, int], None]:
    """Says now and then how many clips are done and how long the rest will take."""
    started, before = time.perf_counter(), [-1]

    def report(done: int, total: int) -> None:
        if before[0] < 0:
            before[0] = done - 1  # found in the folder
        if done % max(1, total // LINES) and done != total:
            return
        each = (time.perf_counter() - started) / (done - before[0])
        progress.line(
            f"clip {done}/{total}, {each:.1f} s each, {each * (total - done):.0f} s left",
            error=True,
        )

    return report


def _print(results: Mapping[str, Any], folder: Path) -> None:
    console = Console(markup=False, highlight=False)
    for number, metrics in results["subjects"].items():
        table = Table(box=None)
        for heading in (f"{number} subject{'s' if number != '1' else ''}", *COLUMNS, "n"):
            table.add_column(heading, no_wrap=True)
        for metric, words in ROWS.items():
            cells = metrics[metric]
            if cells["model"] is not None:
                shown = [_cell(metric, cells.get(column)) for column in COLUMNS]
                table.add_row(words, *shown, str(cells["model"]["count"]))
        console.print(table)
        console.print()
    if results["vae_psnr"] is not None:
        low, high = (results["vae_psnr"][end] for end in ("low", "high"))
        console.print(
            f"VAE reconstruction {results['vae_psnr']['value']:.1f} dB ({low:.1f}-{high:.1f})"
        )
    seconds = results["seconds"]
    console.print(
        f"{seconds['make']:.1f} s to make a clip, {seconds['measure']:.1f} s to measure it; "
        f"intervals are of 95 %; {folder}"
    )


def _cell(metric: str, estimate: Mapping[str, float] | None) -> str:
    if estimate is None:
        return "-"
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if metric in RATES:
        return f"{value:.0%} ({low:.0%}-{high:.0%})"
    return f"{value:.2f} ({low:.2f}..{high:.2f})"
