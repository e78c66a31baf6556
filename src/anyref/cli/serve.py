"""`anyref serve`: videos over HTTP."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anyref.cli import options, progress
from anyref.errors import AnyRefError

if TYPE_CHECKING:
    from anyref.service.settings import Settings

DEFAULT_MODELS = ("tiny-magref", "tiny-kaleido")
DAY_SECONDS = 86_400
NEEDS = ("fastapi", "uvicorn", "sqlalchemy", "multipart", "prometheus_client")

Host = Annotated[str, typer.Option(help="Address to listen on; others than loopback need keys.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A model to serve, repeatable; the first is the default."),
]
Folder = Annotated[Path, typer.Option(help="For the queue and the store, unless told otherwise.")]
Database = Annotated[
    str | None, typer.Option("--queue", metavar="URL", help="postgresql://user@host/name, say.")
]
StoreUrl = Annotated[
    str | None, typer.Option("--store", metavar="URL", help="A folder or an fsspec URL.")
]
Devices = Annotated[
    list[str] | None,
    typer.Option("--device", help="One worker on each, repeatable; every GPU if absent."),
]
Dtype = Annotated[str | None, typer.Option(help="Of the weights; as stored if absent.")]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="auto|24GB|12GB|8GB|PLAN",
        help="Hold each model in so much of a device's memory, at the model's usual size.",
    ),
]
Keys = Annotated[
    Path | None, typer.Option(metavar="FILE", help="API keys, one `name key` per line.")
]
ClientJobs = Annotated[int, typer.Option(min=1, help="Waiting and running videos per client.")]
KeepDays = Annotated[
    float | None,
    typer.Option(min=0.01, help="Videos are removed so many days after their end; else kept."),
]
NoWorkers = Annotated[bool, typer.Option("--no-workers", help="Only the front door.")]
WorkersOnly = Annotated[
    bool, typer.Option("--workers-only", help="Only workers, for a queue that others fill.")
]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8600,
    model: Models = None,
    folder: Folder = Path("service"),
    queue: Database = None,
    store: StoreUrl = None,
    device: Devices = None,
    dtype: Dtype = None,
    memory: Memory = None,
    keys: Keys = None,
    client_jobs: ClientJobs = 50,
    keep_days: KeepDays = None,
    no_workers: NoWorkers = False,
    workers_only: WorkersOnly = False,
) -> None:
    """Serve videos over HTTP, with OpenAI's video interface; Ctrl-C ends it."""
    _check_installed()
    from anyref.service import server
    from anyref.service.access import read_keys
    from anyref.service.settings import (
        LOOPBACK_NAMES,
        Limits,
        ServiceError,
        Settings,
        Times,
        check_exposure,
        default_database,
    )

    options.check_dtype(dtype)
    if no_workers and workers_only:
        raise ServiceError("--no-workers and --workers-only leave nothing; give one of them")
    settings = Settings(
        database=queue or default_database(folder),
        store=store or str((folder / "store").resolve()),
        models=tuple(model or DEFAULT_MODELS),
        devices=() if no_workers else tuple(device or _devices()),
        dtype=dtype,
        memory=memory,
        keys=read_keys(keys) if keys is not None else {},
        hosts=(*LOOPBACK_NAMES, host),
        limits=Limits(client_jobs=client_jobs),
        times=Times(keep=None if keep_days is None else keep_days * DAY_SECONDS),
    )
    _tell_plans(settings)
    workers = f"{len(settings.devices)} on {', '.join(settings.devices) or 'no device'}"
    if workers_only:
        progress.line(f"workers: {workers}; Ctrl-C ends them")
        server.work(settings)
        return
    check_exposure(host, settings.keys)
    progress.line(
        f"http://{host}:{port} (models: {', '.join(settings.models)}; workers: {workers})"
    )
    server.serve(settings, host, port)


def _devices() -> list[str]:
    """Every GPU of this machine, or its CPU."""
    import torch

    return [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]


def _tell_plans(settings: Settings) -> None:
    """How workers will hold each model at its usual size; "auto" each worker finds out itself.

    No GPU is asked, so that this process takes none of its memory.

    Raises:
        ModelError: a word that is unknown, or a budget that a model does not fit.
    """
    if settings.memory is None:
        return
    import torch

    from anyref.pipelines.loading import describe_model, usual_work
    from anyref.pipelines.memory.choosing import Machine, check_asked, choose, this_machine
    from anyref.pipelines.memory.predict import Costs
    from anyref.pipelines.memory.sizes import sizes_of
    from anyref.pipelines.memory.telling import lines
    from anyref.service.catalog import STUB

    check_asked(settings.memory)
    if settings.memory == "auto" or not settings.devices:
        return
    dtype = None if settings.dtype is None else getattr(torch, settings.dtype)
    device, host = settings.devices[0], this_machine("cpu").host
    for model in settings.models:
        if model == STUB:
            continue
        info = describe_model(model)
        sizes = sizes_of(info, None)
        machine = Machine(device, math.inf, host)
        plan, told = choose(settings.memory, Costs(sizes, usual_work(info)), machine, dtype)
        for line in (f"{model}:", *lines(sizes, plan, told, device)):
            progress.line(line, error=True)


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        raise AnyRefError(
            f"anyref serve needs {', '.join(missing)}; install it with pip install 'anyref[serve]'"
        )
