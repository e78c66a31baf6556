"""Training state on disk: whole or absent, never half."""

from __future__ import annotations

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from anyref.errors import TrainingError
from anyref.media import write_atomically


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers and containers of them; a kill leaves the previous file."""
    write_atomically(path, lambda file: torch.save(state, file))


def load_state(path: Path) -> dict[str, Any] | None:
    """The state at `path`, or None when there is none. Nothing but tensors is unpickled.

    Raises:
        TrainingError: when the file cannot be read.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, UnpicklingError) as error:
        raise TrainingError(f"training state {str(path)!r} cannot be read: {error}") from error
    return dict(state)


def append_metrics(path: Path, row: dict[str, float]) -> None:
    """Add one line to a JSONL file of numbers."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of `append_metrics`; a line cut short by a kill is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
