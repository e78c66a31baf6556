"""What a training run left behind."""

from __future__ import annotations

from pathlib import Path

from anyref.training.monitor import read_rows


def curve(folder: Path) -> dict[int, float]:
    """Loss by step."""
    rows = [row for row in read_rows(Path(folder) / "metrics.jsonl") if "loss" in row]
    return {row["step"]: row["loss"] for row in rows}
