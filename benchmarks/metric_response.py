"""What every metric of the small grade sees: AUC of each metric and each known corruption.

    python benchmarks/metric_response.py [--minutes 8] [--films FOLDER] [--folder CACHE]

Clips of `metric_clips` are scored as they are and after each of `metric_corruptions`. The AUC is
the chance that a clip as it is has a better score than one that is corrupted, of any two clips of
one source (ties count a half); `pairs` the same of one clip before and after. A score that is
skipped counts as the worst, one that does not apply counts not at all. Metrics of subjects, places,
faces and words look at two frames, the first and the last of a clip, the others at all 16.

Everything is kept in the folder: the same command goes on where it was stopped. After `--minutes`
it stops by itself; exit code 3 says that something is left.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from metric_clips import Clip, fetch_films, lab_clips, photo_clips, real_clips, side_by_side
from metric_corruptions import CORRUPTIONS, LOOK, MOTION, SCENE, Corruption
from metric_memory import remembering

from anyref.data.clips import thumbs_of
from anyref.data.looks import stillness
from anyref.evaluation.metric import Footage, Metric, MetricSpec, Score, Skipped, checked
from anyref.evaluation.metrics import metrics_of
from anyref.evaluation.metrics.base import evenly
from anyref.media import open_picture, write_atomically
from anyref.perception.small import Grade, small_grade

VIEWS = 2
SOURCES = "real", "lab", "photo"
LAB_CLIPS = 6  # of one subject, and as many of two
STILL = 0.5  # of the frames: a clip that stands still has no motion to spoil
SCOPES = {
    MOTION: frozenset({
        "motion_amplitude", "motion_smoothness", "frozen_frames", "flicker", "first_frame_flash",
    }),
    LOOK: frozenset({"imaging_quality", "edge_blur", "flicker", "motion_smoothness"}),
}  # fmt: skip
PIXELS = SCOPES[MOTION] | SCOPES[LOOK]
TOGETHER = (("bbb-091", "bbb-408"), ("bbb-109", "bbb-434"), ("bbb-240", "bbb-408"),
            ("bbb-080", "man-a-0"), ("bbb-434", "man-b-0"))  # fmt: skip
FACES_ONLY = ("man-a-1", "man-a-2", "man-a-3", "man-b-1", "bbb-361", "bbb-458")  # of those that
# take long: more clips of the two people, and two clips of two subjects that are not in halves
OUT = Path(__file__).parent / "metric_response.json"
FOLDER = Path.home() / ".cache/anyref/metric-response"


def all_clips(films: Path) -> list[Clip]:
    """Real clips of one subject and of two, and the cutout world's."""
    real = list(real_clips(films))
    named = {clip.name: clip for clip in real}
    pairs = [side_by_side(named[one], named[other]) for one, other in TOGETHER]
    return [*real, *pairs, *lab_clips(LAB_CLIPS, LAB_CLIPS), *photo_clips()]


@dataclass(frozen=True)
class Store:
    """Models, the metrics of them, and where outcomes are kept.

    A corruption that is changed keeps its name, so its outcomes are to be deleted by hand.
    """

    models: Grade
    metrics: Sequence[Metric]
    folder: Path
    until: float


class NoTimeError(Exception):
    """Something has to be measured, and there is no time for it."""


def outcomes(clip: Clip, metrics: Sequence[Metric]) -> dict[str, float | None]:
    """Values by metric; None where it does not apply or is not here."""
    case = clip.case
    whole = Footage(clip.frames, clip.fps, clip.name)
    some = Footage(clip.frames[evenly(len(clip.frames), VIEWS)], clip.fps, clip.name)
    values: dict[str, float | None] = {}
    for metric in metrics:
        name = metric.spec.name
        outcome = metric.applies(case) or metric.score(case, whole if name in PIXELS else some)
        if isinstance(outcome, Skipped):
            given = outcome.cause in ("inapplicable", "unavailable")
            values[name] = None if given else metric.spec.worst
        else:
            scored = checked(metric.spec, outcome)
            assert isinstance(scored, Score)
            values[name] = round(scored.value, 6)
    return values


def kept(
    clip: Clip, what: str, change: Callable[[], Clip | None], scope: str, store: Store
) -> dict[str, float | None]:
    """Outcomes of a changed clip; found again by the clip, the change's name, metrics' versions."""
    asked = [
        m
        for m in store.metrics
        if (m.spec.name not in PIXELS if scope == SCENE else m.spec.name in SCOPES[scope])
    ]
    if clip.name in FACES_ONLY and scope == SCENE:
        asked = [m for m in asked if m.spec.name.startswith("face")]
    if clip.source == "photo":
        asked = [m for m in asked if m.spec.name == "text_relevance"]
    name = what.replace(" ", "-").replace("'", "")
    path = store.folder / f"{name}-{clip.name}-{digest(clip)}.json"
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    missing = [m for m in asked if _key(m.spec) not in known]
    if missing and time.monotonic() > store.until:
        raise NoTimeError
    if missing:
        changed = change()
        found = outcomes(changed, missing) if changed else {}
        known |= {_key(m.spec): found.get(m.spec.name) for m in missing}
        text = json.dumps(known, indent=1)
        write_atomically(path, lambda file: file.write(text.encode()))
    return {m.spec.name: known[_key(m.spec)] for m in asked}


def digest(clip: Clip) -> str:
    """Of a clip's pixels, words and references."""
    made = hashlib.sha256(clip.frames.tobytes() + clip.prompt.encode())
    for reference in clip.references:
        picture = open_picture(reference.images[0])
        made.update(f"{reference.name}{reference.kind}".encode() + picture.tobytes())
    return made.hexdigest()[:12]


def of_views(clip: Clip) -> Clip:
    """The clip of the frames that models look at."""
    return replace(clip, frames=clip.frames[evenly(len(clip.frames), VIEWS)])


def _key(spec: MetricSpec) -> str:
    return f"{spec.name}/{spec.version}"


def suits(corruption: Corruption, clip: Clip) -> bool:
    """Whether a clip has the number of subjects that a corruption needs."""
    if clip.source == "photo" and "text_relevance" not in corruption.sees:
        return False  # they are for what is said in words
    if corruption.name in ("twins", "blend", "one missing") and clip.name in ("bbb-361", "bbb-458"):
        return False  # its two subjects do not stand in halves
    if (
        corruption.scope == SCENE
        and clip.name in FACES_ONLY
        and "face_similarity" not in corruption.sees
    ):
        return False
    if corruption.moves and stillness(thumbs_of(clip.frames)) > STILL:
        return False
    return corruption.subjects in (0, len(clip.identities))


def auc(better: Sequence[float], worse: Sequence[float], direction: str) -> float:
    """Chance that one of the first is better than one of the second."""
    sign = 1 if direction == "higher" else -1
    lead = sign * (np.array(better)[:, None] - np.array(worse)[None])
    return float((lead > 0).mean() + (lead == 0).mean() / 2)


def table(
    rows: Sequence[Mapping[str, Any]], specs: Mapping[str, MetricSpec]
) -> list[dict[str, Any]]:
    """Every corruption and metric, by source: AUC, AUC within pairs, number of clips."""
    cells = []
    for corruption in CORRUPTIONS:
        for name, spec in specs.items():
            for source in SOURCES:
                pairs = [
                    (row["before"].get(name), row["after"].get(name))
                    for row in rows
                    if row["corruption"] == corruption.name and row["source"] == source
                ]
                known = [(a, b) for a, b in pairs if a is not None and b is not None]
                if len(known) < 3:
                    continue
                before, after = (list(some) for some in zip(*known, strict=True))
                within = np.mean([auc([a], [b], spec.direction) for a, b in known])
                cells.append(
                    {
                        "corruption": corruption.name,
                        "metric": name,
                        "source": source,
                        "claimed": corruption.claims(name, source),
                        "auc": round(auc(before, after, spec.direction), 3),
                        "pairs": round(float(within), 3),
                        "clips": len(known),
                        "before": round(float(np.median(before)), 4),
                        "after": round(float(np.median(after)), 4),
                    }
                )
    return cells


def measure(clips: Sequence[Clip], store: Store) -> tuple[list[dict[str, Any]], int]:
    """Rows of clips and corruptions, and how many are left when time is up."""
    rows: list[dict[str, Any]] = []
    left = 0
    for clip in by_turns(clips):
        for corruption in CORRUPTIONS:
            if not suits(corruption, clip):
                continue
            shown = of_views(clip) if corruption.scope == SCENE else clip
            if corruption.base is not None:
                moved = corruption.base(shown, clips, store.models)
                if moved is None:
                    continue
                shown = moved
            row = {"corruption": corruption.name, "clip": clip.name, "source": clip.source}
            make = partial(corruption.change, shown, clips, store.models)
            same = partial(replace, shown)
            try:
                row["before"] = kept(shown, "as it is", same, corruption.scope, store)
                row["after"] = kept(shown, corruption.name, make, corruption.scope, store)
            except NoTimeError:
                left += 1
                continue
            rows.append(row)
    return rows, left


def by_turns(clips: Sequence[Clip]) -> list[Clip]:
    """One clip of each kind after the other, so that what is done so far has some of all."""
    turns: dict[tuple[str, int], int] = {}
    order = []
    for clip in clips:
        kind = (clip.source, len(clip.identities))
        turns[kind] = turns.get(kind, 0) + (clip.name not in FACES_ONLY)
        order.append((turns[kind], clip))
    return [clip for _, clip in sorted(order, key=lambda pair: pair[0])]


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--films", type=Path, default=FOLDER / "films")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    fetch_films(given.films)
    given.folder.mkdir(parents=True, exist_ok=True)
    models = remembering(small_grade(), given.folder / "answers.sqlite")
    store = Store(models, metrics_of(models), given.folder, until)
    rows, left = measure(all_clips(given.films), store)
    specs = {metric.spec.name: metric.spec for metric in store.metrics}
    found = {"cells": table(rows, specs), "rows": rows}
    text = json.dumps(found, indent=1)
    write_atomically(given.out, lambda file: file.write(text.encode() + b"\n"))
    if left:
        sys.exit(3)


if __name__ == "__main__":
    main()
