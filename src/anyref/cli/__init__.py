"""The `anyref` command. Importing it reads no weights and imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from anyref.cli import progress
from anyref.cli.bench import bench
from anyref.cli.convert import convert
from anyref.cli.data import app as data
from anyref.cli.evaluate import app as evaluate
from anyref.cli.generate import generate
from anyref.cli.lab import app as lab
from anyref.cli.models import models
from anyref.cli.replay import replay
from anyref.cli.serve import serve
from anyref.cli.train import train
from anyref.errors import AnyRefError

app = typer.Typer(
    name="anyref",
    help="Videos of your own references: MAGREF and Kaleido.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (generate, replay, models, convert, train, serve, bench):
    app.command()(command)
for group in (data, evaluate, lab):
    app.add_typer(group)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code.

    0 done, 1 something in a list failed or a replay differs, 2 the input or the environment is at
    fault (one line on stderr), 130 interrupted.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="anyref")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except KeyboardInterrupt:
        return 130
    except (AnyRefError, OSError) as error:
        progress.line(f"anyref: {error}", error=True)
        return 2
    finally:
        if "anyref.pipelines.parallel" in sys.modules:
            from anyref.pipelines import parallel

            parallel.stop()
    return 0
