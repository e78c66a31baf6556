"""The videos of a benchmark, made with a model; those that are there are not made again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyref.cli import production, progress
from anyref.cli.evaluate_makers import Maker
from anyref.data.markup import plain
from anyref.errors import AnyRefError, EvaluationError
from anyref.evaluation.benchmark import Benchmark, Case
from anyref.evaluation.videos import Sample
from anyref.media import check_writable
from anyref.request import Request

SEED_BYTES = 4
MAX_WORDS = 1_000  # letters of a fault


def case_seed(seed: int, case_id: str, take: int) -> int:
    """The noise of a video: the same for every model, another for every case and take."""
    digest = hashlib.sha256(f"{seed}/{case_id}/{take}".encode()).digest()
    return int.from_bytes(digest[:SEED_BYTES], "big")


def make_videos(
    benchmark: Benchmark,
    folder: Path,
    maker: Maker,
    *,
    fields: Mapping[str, Any],
    takes: int = 1,
    seed: int = 0,
) -> None:
    """Make what is missing of ID.mp4 and, for several takes, ID-1.mp4, ID-2.mp4 ...

    A case that cannot be made is said on stderr; it costs no other case.

    Args:
        fields: of every request, in place of what the benchmark says.

    Raises:
        AnyRefError: when the model or the folder cannot be used, or a take has a case's name.
    """
    wanted = [(case, take) for case in benchmark.cases for take in range(takes)]
    for case, take in wanted:
        if take and _name(case, take) in benchmark:
            raise EvaluationError(
                f"take {take} of case {case.id!r} would have the name of another case; give "
                "--takes 1 or other ids"
            )
    check_writable(folder / "video.mp4")
    counts = {"made": 0, "there already": 0, "not made": 0}
    for place, (case, take) in enumerate(wanted, start=1):
        name = f"{_name(case, take)}.mp4"
        try:
            request = _request(case, (case.id, take), fields, seed)
            production.check_pictures(request)
            maker.check(request)
            if maker.has_made(request, folder / name):
                counts["there already"] += 1
                continue
            progress.line(f"{name} ({place} of {len(wanted)}):", error=True)
            maker.make(request, folder / name)
            counts["made"] += 1
        except (AnyRefError, OSError) as error:
            if int(os.environ.get("WORLD_SIZE", "1")) > 1:
                raise  # the other processes are waiting in a collective and cannot go on
            progress.line(f"{name}: {plain(error, MAX_WORDS)}", error=True)
            counts["not made"] += 1
    progress.line(", ".join(f"{count} {words}" for words, count in counts.items()))


def _name(case: Case, take: int) -> str:
    return f"{case.id}-{take}" if take else case.id


def _request(case: Case, sample: Sample, fields: Mapping[str, Any], seed: int) -> Request:
    """The case's request with the noise of the video."""
    if case.request is None or case.fault:
        raise EvaluationError(f"the case is faulty: {case.fault}")
    update = dict(fields)
    if "seed" not in case.request.model_fields_set:
        update["seed"] = case_seed(seed, *sample)
    elif sample[1]:
        update["seed"] = (case.request.seed + sample[1]) % 2**63
    return case.request.model_copy(update=update)
