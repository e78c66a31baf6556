"""What strength does where it has something to decide: the picture is not what the words say.

    python benchmarks/strength_contested.py WORK [--clips 8] [--families kaleido,magref]

As benchmarks/strength.py, but the chosen reference shows a subject of another clip, under the name
and the words of its own. Measured in its lane by template matching: how well the picture's subject
is found there, how well the one that the words name, and the others in theirs. Records go to
WORK/contested.jsonl, means with 95 % intervals and differences to strength 1 to
benchmarks/strength_contested.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lab_videos import Laboratory, Record, asked, change_per_frame, interval, run_missing
from strength import MAPS, Task, tasks

from anyref import Request, generate
from anyref.media import write_atomically

STRENGTHS = (0.25, 1.0, 2.0, 4.0, 8.0)
MEASURES = ("picture", "words", "others", "change")
HERE = Path(__file__).parent


def measured(laboratory: Laboratory, task: Task) -> Record:
    """The record of one task."""
    clip, _, _ = laboratory.clip("strength", task.index)
    count = len(clip.actors)
    chosen = task.index // 2 % count
    identities = {laboratory.subjects[actor.key].identity for actor in clip.actors}
    other = next(
        (key, reference.images)
        for later in range(task.index + 1, task.index + 20)
        for key, reference in _shown(laboratory, later)
        if laboratory.subjects[key].identity not in identities
    )
    references = list(clip.references)
    references[chosen] = references[chosen].model_copy(
        update={"strength": task.strength, "images": other[1]}
    )
    how = None if task.strength == 1.0 else task.map
    request = Request(
        prompt=clip.prompt, references=tuple(references), seed=task.index, strength_map=how
    )
    frames = generate(laboratory.pipe, request).frames
    matches = laboratory.matches(frames, clip)
    return {
        "picture": laboratory.match(frames, other[0], chosen, count),
        "words": matches[chosen],
        "others": float(np.mean([m for lane, m in enumerate(matches) if lane != chosen])),
        "change": change_per_frame(frames),
    }


def _shown(laboratory: Laboratory, index: int) -> Iterator[tuple[str, Any]]:
    clip, _, _ = laboratory.clip("strength", index)
    for actor, reference in zip(clip.actors, clip.references, strict=False):
        yield actor.key, reference


def summarise(records: dict[str, Record], families: list[str], clips: int) -> dict[str, Any]:
    """Means over clips, and of the difference to strength 1 on the same clips."""
    summary: dict[str, Any] = {"strengths": STRENGTHS, "clips": clips}
    for family in families:
        summary[family] = {}
        for how in MAPS:
            made = {
                m: np.array(
                    [
                        [records[Task(family, i, how, s).key][m] for i in range(clips)]
                        for s in STRENGTHS
                    ]
                )  # (strengths, clips)
                for m in MEASURES
            }
            summary[family][how] = {
                m: {
                    "mean": [interval(row) for row in values],
                    "against_1": [interval(row - values[STRENGTHS.index(1.0)]) for row in values],
                }
                for m, values in made.items()
            }
    return summary


def main() -> None:
    """Make what is missing, then summarise."""
    given = asked(clips=8)
    records = run_missing(
        given.work / "contested.jsonl",
        tasks(given.families, given.clips, STRENGTHS),
        lambda task: measured(given.laboratories[task.family], task),
    )
    text = json.dumps(summarise(records, given.families, given.clips), indent=1).encode()
    write_atomically(HERE / "strength_contested.json", lambda out: out.write(text))


if __name__ == "__main__":
    main()
