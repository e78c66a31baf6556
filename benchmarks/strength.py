"""What a reference's strength does to the chosen subject, to the others, and to motion.

    python benchmarks/strength.py WORK [--clips 24] [--families kaleido,magref]

Held-out clips of the cutout world, by turns with three and two subjects and a place; one subject is
chosen (each lane in turn) and given a strength from 0.5 to 4, with every map; the seed stays. Every
video is measured by template matching (anyref.lab): whether the subject asked for is found in its
lane among 20 candidates, how well it matches there, which way everything moves. Records go to
WORK/records.jsonl as they are made, so that a run that was stopped goes on; the means with 95 %
intervals to benchmarks/strength.json, drawn in benchmarks/strength.svg.

Axes: T frames, Y X pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from lab_videos import (
    Laboratory,
    Record,
    asked,
    change_per_frame,
    interval,
    right_places,
    run_missing,
)
from strength_plot import draw

from anyref import Request, generate
from anyref.media import write_atomically
from anyref.models.strength import StrengthMap

STRENGTHS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
MAPS = get_args(StrengthMap)
MEASURES = (
    "chosen_identity",
    "chosen_match",
    "others_identity",
    "others_match",
    "direction",
    "change",
    "background",
)
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Task:
    """One video to make."""

    family: str
    index: int
    map: str
    strength: float

    @property
    def key(self) -> str:
        """Strength 1 is the same video with either map."""
        how = "none" if self.strength == 1.0 else self.map
        return f"{self.family}/{self.index}/{how}/{self.strength}"


def tasks(
    families: list[str], clips: int, strengths: Sequence[float] = STRENGTHS
) -> Iterator[Task]:
    """All videos, clip by clip, so that a run stopped early is balanced."""
    for index in range(clips):
        for family in families:
            for how in MAPS:
                for strength in strengths:
                    yield Task(family, index, how, strength)


def measured(laboratory: Laboratory, task: Task) -> Record:
    """The record of one task."""
    clip, examiner, candidates = laboratory.clip("strength", task.index)
    count = len(clip.actors)
    chosen = task.index // 2 % count
    references = list(clip.references)
    references[chosen] = references[chosen].model_copy(update={"strength": task.strength})
    how = None if task.strength == 1.0 else task.map
    request = Request(
        prompt=clip.prompt, references=tuple(references), seed=task.index, strength_map=how
    )
    frames = generate(laboratory.pipe, request).frames
    scores = examiner.score(frames, clip, candidates)
    right, match = right_places(scores, clip), laboratory.matches(frames, clip)
    rest = [lane for lane in range(count) if lane != chosen]
    return {
        "chosen_identity": float(right[chosen]),
        "chosen_match": match[chosen],
        "others_identity": float(np.mean([right[lane] for lane in rest])),
        "others_match": float(np.mean([match[lane] for lane in rest])),
        "direction": scores.direction,
        "change": change_per_frame(frames),
        "background": scores.background,
    }


def summarise(records: dict[str, Record], families: list[str], clips: int) -> dict[str, Any]:
    """Means by family, map, measure and strength, over the clips whose videos are all there.

    Beside each mean stands that of the difference to strength 1 on the same clips.
    """
    summary: dict[str, Any] = {"strengths": STRENGTHS}
    for family in families:
        keys = {i: [t.key for t in tasks([family], clips) if t.index == i] for i in range(clips)}
        whole = [i for i in range(clips) if all(key in records for key in keys[i])]
        made: dict[str, Any] = {"clips": len(whole)}
        for how in MAPS if whole else ():
            table = np.array(
                [
                    [[records[Task(family, i, how, s).key][m] for i in whole] for s in STRENGTHS]
                    for m in MEASURES
                ]
            )  # (measures, strengths, clips)
            plain = table[:, STRENGTHS.index(1.0)][:, None]
            made[how] = {
                measure: {
                    "mean": [interval(row) for row in table[m]],
                    "against_1": [interval(row) for row in (table - plain)[m]],
                }
                for m, measure in enumerate(MEASURES)
            }
        summary[family] = made
    return summary


def main() -> None:
    """Make what is missing, then summarise."""
    given = asked(clips=24)
    records = run_missing(
        given.work / "records.jsonl",
        tasks(given.families, given.clips),
        lambda task: measured(given.laboratories[task.family], task),
    )
    summary = summarise(records, given.families, given.clips)
    text = json.dumps(summary, indent=1).encode()
    write_atomically(HERE / "strength.json", lambda out: out.write(text))
    picture = draw(summary).encode()
    write_atomically(HERE / "strength.svg", lambda out: out.write(picture))


if __name__ == "__main__":
    main()
