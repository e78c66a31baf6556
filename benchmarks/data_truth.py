"""The data engine against clips whose truth is known: detection, masks, captions, filters, pairs.

    python benchmarks/data_truth.py -n 20 --work /tmp/truth                  # all of it
    python benchmarks/data_truth.py -n 20 --work /tmp/truth --part 1/2 &     # or in slices,
    python benchmarks/data_truth.py -n 20 --work /tmp/truth --part 2/2       # each on a core,
    python benchmarks/data_truth.py --work /tmp/truth --report               # and then the tables

Collections of 24 clips in 6 films, joined by hard cuts: subjects cut out exactly (the cutout world)
travel over photographed places; 8 clips are clean and show three subjects again and again, 2 are
portraits with a thing beside the face, and 14 have one planted defect each, two of every kind. The
engine's own stages, rules and completion run as `anyref data build` runs them, with one stage in
between that notes which frames of the film a clip shows, and keeps what a rule rejects from the
subjects' stage only after all quality stages have measured it.

A collection that is in the work folder already is not done again. Limits are chosen on collections
from 90 on (`--first 90`), in a work folder of their own; the tables never show those.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from truth_films import PER_KIND, Segment, truth_catalog, write_films
from truth_scores import (
    END,
    FIRST,
    crosses,
    faults_of,
    judge_copies,
    likeness_of,
    outcome_of,
    pairs_of,
    rows_of,
)
from truth_table import report

from anyref.data.completion import CompletionSettings, complete
from anyref.data.dataset import Dataset
from anyref.data.engine import EngineRecipe, engine_stages, grade_loader
from anyref.data.pairing import PairSettings
from anyref.data.rows import Row
from anyref.data.runners import run
from anyref.data.stages import Item, Rejection, Result, Stage
from anyref.data.thresholds import Rule
from anyref.lab.catalog import Catalog
from anyref.media import write_atomically

HERE = Path(__file__).parent
SIZES = (384, 768)
SUBJECT_STAGE = "subjects"


def note_span(item: Item) -> Item:
    """Which frames of the film a clip shows, as measurements."""
    video = item.payload["video"]
    return item.measure(**{FIRST: video.start, END: video.end})


def stop_rejected(item: Item, rules: Sequence[Rule]) -> Result:
    """What a rule rejects goes no further."""
    faults = faults_of(item.measurements, rules)
    return Rejection("rules", f"{faults[0]} outside its limits") if faults else item


def truth_stages(recipe: EngineRecipe) -> list[Stage]:
    """The engine's stages, and between quality and subjects two of the benchmark."""
    stages = engine_stages(recipe)
    place = next(n for n, stage in enumerate(stages) if stage.name == SUBJECT_STAGE)
    gate = [
        Stage(name="span", function=note_span, measures=(FIRST, END)),
        Stage(name="rules", function=partial(stop_rejected, rules=recipe.rules)),
    ]
    return [*stages[:place], *gate, *stages[place:]]


def unstopped(recipe: EngineRecipe) -> EngineRecipe:
    """The same rules, but all quality stages measure what one of them rejects."""
    rules = tuple(rule.model_copy(update={"stop": False}) for rule in recipe.rules)
    return recipe.model_copy(update={"rules": rules})


def measure(folder: Path, size: int, number: int, catalog: Catalog) -> dict[str, Any]:
    """Make one collection, run the engine over it, and compare."""
    films, out = folder / "films", folder / "dataset"
    began = time.monotonic()
    segments = write_films(films, size, number, catalog)
    made = time.monotonic()
    recipe = unstopped(EngineRecipe())
    run([films], truth_stages(recipe), out, recipe=recipe)
    ran = time.monotonic()
    complete(out, recipe.completion, load_grade=grade_loader())
    done = time.monotonic()
    result = score(segments, out, recipe.rules)
    loose = CompletionSettings(pairs=PairSettings(at_most=1.0), synthesis=None)
    complete(out, loose, load_grade=grade_loader())
    result["also_alike"] = pairs_of(segments, list(Dataset.open(out).rows()))
    seconds = {"films": made - began, "stages": ran - made, "completion": done - ran}
    return {
        "size": size,
        "collection": number,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        **result,
    }


def score(segments: Sequence[Segment], out: Path, rules: Sequence[Rule]) -> dict[str, Any]:
    """What the dataset holds against the truth."""
    rows = list(Dataset.open(out).rows())
    outcomes = [outcome_of(segment, rows, rules) for segment in segments]
    judge_copies(segments, outcomes, rows)
    joints = [segment for segment in segments if segment.start]
    likeness = likeness_of(segments, rows, partial(_vector, Dataset.open(out)))
    return {
        **likeness,
        "joints": len(joints),
        "crossed": sum(any(crosses(r, s.start) for r in rows_of(s, rows)) for s in joints),
        "outcomes": [asdict(outcome) for outcome in outcomes],
        **pairs_of(segments, rows),
    }


def _vector(dataset: Dataset, row: Row) -> np.ndarray | None:
    """What near-duplicates are compared by: (D,)."""
    uri = row.assets.get("clip-features")
    return None if uri is None else np.load(io.BytesIO(dataset.read(uri)), allow_pickle=False)


def main() -> None:
    """Measure what is not measured yet, and write the tables unless only a part was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=PER_KIND, help="planted clips of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first collection")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="sides of the films")
    parser.add_argument("--part", default="1/1", help="which slice of how many: 2/3")
    parser.add_argument("--work", type=Path, required=True, help="folder of the results so far")
    parser.add_argument("--keep", action="store_true", help="keep films and datasets")
    parser.add_argument("--report", action="store_true", help="only the tables")
    parser.add_argument("-o", "--out", type=Path, default=HERE, help="folder of the tables")
    given = parser.parse_args()
    part, parts = (int(word) for word in given.part.split("/"))
    numbers = range(given.first, given.first - (-given.n // PER_KIND))
    todo = [(size, number) for number in numbers for size in given.sizes]
    catalog = None if given.report else truth_catalog(given.work)
    for place, (size, number) in enumerate(todo if catalog else ()):
        result = given.work / f"{size}-{number:03d}.json"
        if place % parts != part - 1 or result.exists():
            continue
        folder = given.work / f"{size}-{number:03d}"
        shutil.rmtree(folder, ignore_errors=True)
        text = json.dumps(measure(folder, size, number, catalog))
        write_atomically(result, lambda file, text=text: file.write(text.encode()))
        if not given.keep:
            shutil.rmtree(folder)
        print(f"{result}: {json.loads(text)['seconds']}", flush=True)
    if given.report or parts == 1:
        print(report(sorted(given.work.glob("*.json")), given.out))


if __name__ == "__main__":
    main()
