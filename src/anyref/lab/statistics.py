"""Means of per-clip values with 95 % intervals, and the table of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Z = 1.959964  # 97.5 % of the standard normal distribution
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` clips and its 95 % interval."""

    value: float
    low: float
    high: float
    count: int

    def overlaps(self, other: Estimate) -> bool:
        """Whether the intervals have a point in common."""
        return self.low <= other.high and other.low <= self.high


def wilson(successes: float, count: int) -> tuple[float, float]:
    """Wilson's score interval of a rate (Wilson 1927), `count` at least 1."""
    rate = successes / count
    centre = rate + Z**2 / (2 * count)
    spread = Z * math.sqrt(rate * (1 - rate) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def bootstrap(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean of (n,) values, clips drawn with replacement."""
    rng = np.random.default_rng(seed)
    means = rng.choice(values, (RESAMPLES, len(values))).mean(1)  # (RESAMPLES,)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def estimate(values: Iterable[float | None], seed: int = 0) -> Estimate | None:
    """The mean of the values that are not None: Wilson's interval for 0s and 1s, else bootstrap.

    None when there is no value.
    """
    known = np.array([value for value in values if value is not None], np.float64)
    if not len(known):
        return None
    if np.isin(known, (0.0, 1.0)).all():
        low, high = wilson(float(known.sum()), len(known))
    else:
        low, high = bootstrap(known, seed)
    return Estimate(float(known.mean()), low, high, len(known))


def summarise(
    records: Sequence[Mapping[str, Any]], metrics: Sequence[str], columns: Sequence[str]
) -> dict[str, Any]:
    """Estimates by number of subjects, metric and column, from the records of clips.

    Args:
        records: with `subjects`, `seconds`, `reference_background`, perhaps `vae_psnr`, and the
            values of every metric under each column that was measured.
    """
    by_subjects: dict[str, Any] = {}
    for n in sorted({record["subjects"] for record in records}):
        chosen = [record for record in records if record["subjects"] == n]
        table: dict[str, Any] = {
            metric: {
                column: _plain(record[column][metric] for record in chosen if column in record)
                for column in columns
            }
            for metric in metrics
        }
        copied = _plain(record["reference_background"] for record in chosen)
        by_subjects[str(n)] = {**table, "reference_background": {"model": copied}}
    return {
        "subjects": by_subjects,
        "vae_psnr": _plain(record.get("vae_psnr") for record in records),
        "seconds": {
            part: float(np.mean([record["seconds"][part] for record in records]))
            for part in ("make", "measure")
        },
    }


def _plain(values: Iterable[float | None]) -> dict[str, float] | None:
    known = estimate(values)
    return None if known is None else asdict(known)
