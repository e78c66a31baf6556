"""Checkpoints: whole or absent, readable on any number of processes.

Tensors go through torch.distributed.checkpoint, so a run saved on N processes resumes on M. A
checkpoint is written beside its final name, flushed, and renamed; a kill leaves the one before.
A run folder is your own: its metadata are pickled by torch, do not resume a stranger's.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from filelock import FileLock, Timeout
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException

from anyref.errors import TrainingError
from anyref.pipelines import parallel

PREFIX, PARTIAL, NOTES = "step-", "partial-", "notes.json"
LOCK = ".lock"


@contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Hold a run folder against a second run; a killed run lets go of it.

    Raises:
        TrainingError: when another run holds it.
    """
    if int(os.environ.get("RANK", "0")):  # the first process holds it for all
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout as error:
        raise TrainingError(
            f"another run is at work in {str(folder)!r}; wait for it, stop it, or choose another "
            "folder"
        ) from error
    except OSError as error:
        raise TrainingError(f"run folder {str(folder)!r} cannot be used: {error}") from error
    with lock:
        yield


def newest(folder: Path) -> Path | None:
    """The complete checkpoint of the highest step, or None."""
    found = [path for path in folder.glob(f"{PREFIX}*") if (path / NOTES).is_file()]
    return max(found, key=lambda path: int(path.name.removeprefix(PREFIX)), default=None)


def save(
    folder: Path, step: int, tensors: Mapping[str, Any], notes: Mapping[str, Any], keep: int
) -> Path:
    """Write one checkpoint on all processes together, then remove the oldest beyond `keep`.

    Args:
        tensors: state dictionaries by part. notes: JSON values, written on the first process.

    Raises:
        TrainingError: when it cannot be written; the checkpoints before stay.
    """
    final, partial = folder / f"{PREFIX}{step:08d}", folder / f"{PARTIAL}{step:08d}"

    def begin() -> None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)

    def finish() -> None:
        (partial / NOTES).write_text(json.dumps(dict(notes), indent=1), encoding="utf-8")
        _flush(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        _flush_folder(folder)
        _remove_old(folder, keep)

    try:
        parallel.from_main(begin)
        state_dict_saver.save(
            dict(tensors), checkpoint_id=partial, no_dist=not dist.is_initialized()
        )
        parallel.from_main(finish)
    except (OSError, CheckpointException, RuntimeError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        last = newest(folder)
        raise TrainingError(
            f"checkpoint of step {step} cannot be written to {str(folder)!r}: {_reason(error)}; "
            f"the last good one is {last.name if last else 'none'}, make room and start again"
        ) from error
    return final


def load(path: Path, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Fill state dictionaries in place; the checkpoint's notes.

    Raises:
        TrainingError: when it cannot be read or does not fit the model.
    """
    try:
        state_dict_loader.load(dict(tensors), checkpoint_id=path, no_dist=not dist.is_initialized())
        return json.loads((path / NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError, CheckpointException, RuntimeError) as error:
        raise TrainingError(
            f"checkpoint {str(path)!r} does not load: {_reason(error)}; remove it to resume from "
            "the one before, or choose another folder"
        ) from error


def _reason(error: BaseException) -> str:
    """The innermost message, on one line."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return " ".join(str(error).split())[:300] or type(error).__name__


def _remove_old(folder: Path, keep: int) -> None:
    steps = sorted(path for path in folder.glob(f"{PREFIX}*") if (path / NOTES).is_file())
    for path in [*steps[:-keep], *folder.glob(f"{PARTIAL}*")]:
        (path / NOTES).unlink(missing_ok=True)  # first, so a kill never leaves half a checkpoint
        shutil.rmtree(path, ignore_errors=True)


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
