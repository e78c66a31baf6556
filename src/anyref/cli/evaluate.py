"""`anyref evaluate`: score the videos of a benchmark; `anyref evaluate run` makes them first."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from anyref.cli import options, production, progress
from anyref.cli.evaluate_fetch import fetch
from anyref.errors import AnyRefError, EvaluationError

PROFILES = "strict|opens2v-v1.0|opens2v-v1.1|vbench|vbench-i2v|magref"


class _ScoresByDefault(TyperGroup):
    """A group where what is no command is the folder that `score` is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["score", *args]
        return super().parse_args(ctx, args)


CRASHED = 3

app = typer.Typer(
    name="evaluate",
    cls=_ScoresByDefault,
    help="Score the videos of a benchmark: anyref evaluate RESULTS --benchmark NAME|FILE. Its "
    "options are those of score: anyref evaluate score --help. A folder named "
    "run, score or fetch is ./run.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(fetch)


def _crash_is_told(command: Callable[..., None]) -> Callable[..., None]:
    """The command, with an exit code of its own for a crash: 1 is a figure under its limit."""

    @functools.wraps(command)
    def told(*args: Any, **given: Any) -> None:
        try:
            command(*args, **given)
        except (AnyRefError, OSError, typer.Exit, typer.Abort):
            raise
        except Exception as error:
            traceback.print_exc()
            raise typer.Exit(CRASHED) from error

    return told


BenchmarkName = Annotated[
    str,
    typer.Option(
        "--benchmark", metavar="NAME|FILE", help="anyref-120, anyref-lab, or a file of requests."
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(help="Where the benchmark's pictures' paths start; its folder if absent."),
]
ProfileText = Annotated[
    str, typer.Option("--profile", metavar=PROFILES, help="Whose arithmetic makes the figures.")
]
MetricNames = Annotated[
    str | None, typer.Option("--metrics", metavar="NAME,...", help="Of the metrics; all if absent.")
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, max=256, help="Processes; as many as cores, at most 4 on this machine."),
]
Address = Annotated[
    str | None, typer.Option(help="Of a Ray cluster that scores; auto finds it, local starts one.")
]
Compare = Annotated[
    Path | None, typer.Option(metavar="OTHER_RESULTS", help="Another model's videos of the cases.")
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC=VALUE", help="Exit with 1 if the figure is lower; repeatable."),
]
Seed = Annotated[int, typer.Option(min=0, help="Draws resamples, and the noise of videos.")]
Large = Annotated[
    list[str] | None,
    typer.Option(
        "--large",
        metavar="PART=SOURCE",
        help="Score by the field's own models instead: dinov2, clip, aesthetics, arcface.",
    ),
]
Weights = Annotated[
    Path | None, typer.Option("--cache", help="Folder of the weights; $ANYREF_CACHE if absent.")
]


@app.command()
@_crash_is_told
def score(
    results: Annotated[
        Path, typer.Argument(help="Folder of videos named ID.mp4, or of a suite's score files.")
    ],
    benchmark: BenchmarkName,
    profile: ProfileText = "strict",
    metrics: MetricNames = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of the report; evaluation/RESULTS.")
    ] = None,
    workers: Workers = None,
    address: Address = None,
    compare: Compare = None,
    fail_under: FailUnder = None,
    seed: Seed = 0,
    root: Root = None,
    cache: Weights = None,
    large: Large = None,
    device: options.Device = None,
) -> None:
    """Score videos that are there: a table, report.html, report.md, results.json, results.csv.

    With a suite's profile also suite/, the files that its own scripts write.

    Stop it as you like: the same command goes on where it was. Exit code 1: a figure is under its
    limit of --fail-under; 2: the input is at fault; 3: a crash.
    """
    from anyref.cli import evaluate_job as jobs
    from anyref.evaluation.run_profile import name_of

    cases, name = jobs.benchmark_of(benchmark, root), jobs.profile_name(profile)
    source = jobs.source_of(results, cases, name)
    other = None if compare is None else jobs.source_of(compare, cases, name)
    given = {"--metrics": metrics, "--large": large, "--workers": workers, "--address": address}
    jobs.check_sources(source, other, given)
    if device is not None and not large:
        raise EvaluationError(
            f"device {device!r} is of large models; give --large, or leave it out"
        )
    backbones = jobs.backbones_of(large or (), device)
    measured = None
    if not jobs.holds_scores(source):
        measured = jobs.metrics_of(metrics, cache, backbones, name)
    on = backbones.device if backbones else "cpu"
    folder = out or Path("evaluation") / name_of(results)
    job = jobs.job_of(cases, name, measured, fail_under or (), folder, workers, seed, address, on)
    if jobs.finish(job, source, other):
        raise typer.Exit(1)


@app.command()
@_crash_is_told
def run(
    model: Annotated[
        str,
        typer.Option(help="A shipped name, a model folder, copy-paste, or text-only:MODEL."),
    ],
    benchmark: BenchmarkName,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of videos and the report.")],
    profile: ProfileText = "strict",
    metrics: MetricNames = None,
    takes: Annotated[int, typer.Option(min=1, max=100, help="Videos per case.")] = 1,
    size: options.Size = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of each video.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, max=1000, help="Denoising steps.")] = None,
    workers: Workers = None,
    address: Address = None,
    compare: Compare = None,
    fail_under: FailUnder = None,
    seed: Seed = 0,
    root: Root = None,
    cache: Weights = None,
    large: Large = None,
    lora: options.LoraTexts = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
) -> None:
    """Make the videos of a benchmark with a model, those that are there not again; score them.

    A video's noise depends on --seed, its case's id and its take alone, unless the case has a seed
    of its own. A case that the model cannot make is said, and its video counts as missing.

    Two baselines stand beside models: copy-paste holds the references still on their background,
    text-only:MODEL is a model that is not shown the references.
    """
    from anyref.cli import evaluate_job as jobs
    from anyref.cli.evaluate_makers import maker_of, name_of
    from anyref.cli.evaluate_run import make_videos

    options.check_dtype(dtype)
    fields = options.request_fields(
        size=size,
        layout=None,
        offset=None,
        no_shuffle=False,
        num_frames=frames,
        num_inference_steps=steps,
    )
    maker = maker_of(production.Run(model, dtype, device, loras=options.parse_loras(lora or ())))
    cases, name = jobs.benchmark_of(benchmark, root), jobs.profile_name(profile)
    other = None if compare is None else jobs.source_of(compare, cases, name)
    if other is not None and jobs.holds_scores(other):
        raise EvaluationError(f"{str(compare)!r} holds scores; compare with a folder of videos")
    backbones = jobs.backbones_of(large or (), device)
    measured = jobs.metrics_of(metrics, cache, backbones, name)
    on = backbones.device if backbones else "cpu"
    job = jobs.job_of(cases, name, measured, fail_under or (), out, workers, seed, address, on)
    videos = out / "videos" / name_of(model)
    make_videos(cases, videos, maker, fields=fields, takes=takes, seed=seed)
    if progress.prints() and jobs.finish(job, jobs.source_of(videos, cases, "strict"), other):
        raise typer.Exit(1)
