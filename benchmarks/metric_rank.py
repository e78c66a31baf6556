"""Do our metrics rank videos of the cutout world as template matching does?

    python benchmarks/metric_rank.py [--minutes 30] [--folder CACHE] [--out FILE]

Makes the videos of `metric_outputs`, three frames of each are scored, and Spearman's rank
correlation with the truth is taken, with an interval from resampling clips; `thirds` is the AUC of
the third of the videos with the highest truth against the lowest. `blind` is the same without the
segmenter and the detector, by the places alone that references propose: that takes minutes where
the segmenter takes an hour. `fresh` are the videos of clips on which no constant of a metric was
chosen; they come first. Everything that is done is kept in the folder: the same command goes on
where it was stopped. After `--minutes` it stops by itself, exit code 3 says that something is left.
"""

# Axes: T frames

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from metric_memory import remembering
from metric_outputs import TUNED, Judge, Output, Studio, plan, studio
from numpy.typing import NDArray

from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, Score
from anyref.evaluation.metrics.cutouts import cut_references
from anyref.evaluation.metrics.subject import Entanglement, SubjectSimilarity
from anyref.media import write_atomically
from anyref.perception.contracts import Mask, Picture
from anyref.perception.small import Grade, small_grade
from anyref.request import Request

VIEWS = 3  # of the five frames that template matching looks at: first, middle, last
BLIND_VIEWS = 5  # all of them
RESAMPLES = 1000
PAIRS = (
    ("subject_similarity", "match", +1),
    ("subject_similarity", "found", +1),
    ("entanglement", "entangled", +1),
)
OUT = Path(__file__).parent / "metric_rank.json"
FOLDER = Path.home() / ".cache/anyref/metric-rank"


def ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 1, the mean of the ranks for ties."""
    values = np.asarray(values, float)
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Pearson's correlation of ranks; 0 where one side is all the same."""
    a, b = ranks(one), ranks(other)
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def interval(rows: Sequence[Mapping[str, Any]], metric: str, truth: str) -> list[float]:
    """2.5 and 97.5 percentiles of the correlation over clips drawn with replacement."""
    draw = np.random.default_rng(0)
    clips = sorted({row["clip"] for row in rows})
    by_clip = {clip: [row for row in rows if row["clip"] == clip] for clip in clips}
    found = []
    for _ in range(RESAMPLES):
        some = [row for clip in draw.choice(clips, len(clips)) for row in by_clip[clip]]
        found.append(spearman([r[metric] for r in some], [r[truth] for r in some]))
    return [round(float(v), 3) for v in np.percentile(found, (2.5, 97.5))]


def thirds(values: Sequence[float], truths: Sequence[float]) -> float:
    """Chance that a video of the third with the highest truth has more than one of the lowest."""
    order = np.argsort(truths, kind="stable")
    count = max(1, len(order) // 3)
    low, high = (np.asarray(values)[some] for some in (order[:count], order[-count:]))
    lead = high[:, None] - low[None]
    return float((lead > 0).mean() + (lead == 0).mean() / 2)


def correlations(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of every pair, over all videos and by number of subjects."""
    result: dict[str, Any] = {}
    parts = {
        "all": list(rows),
        "one subject": [row for row in rows if row["subjects"] == 1],
        "two subjects": [row for row in rows if row["subjects"] == 2],
        "fresh": [row for row in rows if row["clip"] >= TUNED],
    }
    for metric, truth, _ in PAIRS:
        for part, some in parts.items():
            known = [row for row in some if row[truth] is not None]
            if known:
                result.setdefault(f"{metric} ~ {truth}", {})[part] = {
                    "rho": round(
                        spearman([r[metric] for r in known], [r[truth] for r in known]), 3
                    ),
                    "interval": interval(known, metric, truth),
                    "thirds": round(
                        thirds([r[metric] for r in known], [r[truth] for r in known]), 3
                    ),
                    "videos": len(known),
                }
    return result


def make(output: Output, maker: Studio, judge: Judge, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A video (T, Y, X, 3) and its truth, made at the first call."""
    video, said = folder / f"{output.name}.npz", folder / f"{output.name}.json"
    if not video.is_file():
        frames = maker.make(output)
        write_atomically(video, lambda file: np.savez_compressed(file, frames=frames))
    frames = np.load(video, allow_pickle=False)["frames"]
    if not said.is_file():
        truth = asdict(judge.truth(frames, maker.clip(output.clip), output.clip))
        write_atomically(said, lambda file: file.write(json.dumps(truth).encode()))
    return frames, json.loads(said.read_text("utf-8"))


@dataclass(frozen=True)
class Blind:
    """A segmenter and a detector to which nothing stands out."""

    model: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def segment(self, pictures: Sequence[Picture], boxes: Any = None) -> list[Mask]:  # noqa: ARG002
        """Empty masks."""
        return [np.zeros(picture.shape[:2], np.float32) for picture in pictures]

    def detect(self, pictures: Sequence[Picture], words: Any = None) -> list[Any]:  # noqa: ARG002
        """Nothing."""
        return [() for _ in pictures]


def score(
    output: Output, frames: Any, maker: Studio, models: Grade, *, blind: bool
) -> dict[str, float]:
    """Values by metric; what is skipped counts as the worst, as in the strict profile.

    Args:
        blind: nothing stands out in the frames; references are cut out as ever.
    """
    clip = maker.clip(output.clip)
    case = Case(id=output.name, request=Request(prompt=clip.prompt, references=clip.references))
    picks = np.linspace(0, len(frames) - 1, BLIND_VIEWS if blind else VIEWS).round().astype(int)
    footage = Footage(frames[picks], 8.0, output.name)
    footage.once("wanted", lambda: cut_references(case, models))
    if blind:
        nobody = Blind(models.masks)
        models = replace(models, masks=nobody, objects=Blind(models.objects), people=nobody)
    values = {}
    for metric in (SubjectSimilarity(models), Entanglement(models)):
        if metric.applies(case) is None:
            outcome = metric.score(case, footage)
            value = outcome.value if isinstance(outcome, Score) else metric.spec.worst
            values[metric.spec.name] = round(float(value), 6)
    return values


def main() -> None:
    """Make, score, correlate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    maker, judge = studio()
    models = remembering(small_grade(), given.folder / "answers.sqlite")
    found: dict[str, Any] = {}
    left = 0
    for name, blind in (("blind", True), ("videos", False)):
        rows = []
        for output in sorted(plan(), key=lambda output: output.clip < TUNED):
            if time.monotonic() - begun > 60 * given.minutes:
                left += 1
                continue
            frames, truth = make(output, maker, judge, given.folder)
            row = {"clip": output.clip, "way": output.way, "subjects": 1 + output.clip % 2}
            rows.append(row | truth | score(output, frames, maker, models, blind=blind))
        found[f"correlations of {name}"] = correlations(rows)
        found[name] = rows
    text = json.dumps(found, indent=1)
    write_atomically(given.out, lambda file: file.write(text.encode() + b"\n"))
    if left:
        sys.exit(3)


if __name__ == "__main__":
    main()
