"""OpenS2V-Eval: what its scripts compute from model outputs, and its totals.

From the scripts of v1.0 (paper, May 2025) and v1.1 (leaderboard since August 2025) and appendix D
of arXiv 2505.20292v4; where they differ the scripts are followed, as the published figures were
made with them. Known defects that the figures depend on, kept here and gone under
`profile.counting_the_missing`:

    - missing videos, failed detections and a Nexus score of exactly 0 drop out of the means
    - Nexus divides a mean by the number of frames with boxes: few detections score higher
    - a face cosine of 0 or less drops out of the curricular mean, and counts as 0 in ArcFace's
    - a metric that no video has has the mean 0, which scales to -1.333 (aesthetic), -0.25 (natural)
    - motion amplitude is signed: opposite motions cancel
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from anyref.data.rules import strided_frames, uniform_frames
from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import PEOPLE_FOLDERS, Benchmark, Case
from anyref.evaluation.metric import Outcome, Skipped
from anyref.evaluation.profiles.profile import Column, Group, Profile
from anyref.evaluation.results import ScoreTable

Version = Literal["v1.0", "v1.1"]
Domain = Literal["Open-Domain", "Human-Domain", "Single-Domain"]

SAMPLED_FRAMES = 32
JUDGED_FRAMES = 16  # get_naturalscore.py; appendix D.4 says 32
FACE_IDS = ("singlehuman", "singleface", "faceobj", "humanobj")
ARTEFACT = 0.025  # a larger step of quality between frames marks both
QUALITY_WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0)  # excellent, good, fair, poor, bad
BOX_CONFIDENCE = 0.6
BOX_TEXT = 0.30

COLUMNS = {
    "aes_score": Column(name="aes_score", floor=4, ceiling=7, low=4, high=7),
    "motion_smoothness": Column(name="motion_smoothness", high=1, absolute=True),
    "motion_amplitude": Column(name="motion_amplitude", high=1, absolute=True),
    "facesim_cur": Column(name="facesim_cur", high=1),
    "gme_score": Column(name="gme_score", high=1),
    "nexus_score": Column(name="nexus_score", ceiling=0.05, high=0.05, drops_zero=True),
    "natural_score": Column(name="natural_score", floor=1, ceiling=5, low=1, high=5),
}
ORDER = tuple(COLUMNS)
WHOLE = (0.16, 0.06, 0.02, 0.20, 0.12, 0.20, 0.24)
HUMAN = (0.18, 0.09, 0.03, 0.25, 0.15, 0.0, 0.30)
WHOLE_1_0 = (0.12, 0.0, 0.12, 0.20, 0.12, 0.20, 0.24)
HUMAN_1_0 = (0.15, 0.0, 0.15, 0.25, 0.15, 0.0, 0.30)
WEIGHTS: dict[tuple[Version, Domain], tuple[float, ...]] = {  # merge_result.py of each version
    ("v1.1", "Open-Domain"): WHOLE,
    ("v1.1", "Single-Domain"): WHOLE,
    ("v1.1", "Human-Domain"): HUMAN,
    ("v1.0", "Open-Domain"): WHOLE_1_0,
    ("v1.0", "Single-Domain"): WHOLE_1_0,
    ("v1.0", "Human-Domain"): HUMAN_1_0,
}


def opens2v(version: Version, domain: Domain) -> Profile:
    """The profile of a version and a domain; both judge faces, only some judge Nexus.

    Raises:
        EvaluationError: for another version or domain.
    """
    if (version, domain) not in WEIGHTS:
        known = ", ".join(sorted({f"{v} {d}" for v, d in WEIGHTS}))
        raise EvaluationError(f"OpenS2V-Eval has no {version} {domain}; it has {known}")
    weights = {n: w for n, w in zip(ORDER, WEIGHTS[version, domain], strict=True) if w}
    return Profile(
        name=f"opens2v-{version}",
        columns=tuple(COLUMNS[name] for name in weights),
        groups=(Group(domain, weights),),
        total_weights={domain: 1.0},
        absent=0.0,
        notes=("videos without a score, and Nexus scores of 0, drop out, as in OpenS2V-Eval",),
    )


def sampled_frames(metric: str, num_frames: int) -> list[int]:
    """The frames that the script of a metric looks at.

    32 from end to end, some repeated where there are fewer; the judge of natural_score sees 16
    from the start on; both motion metrics see all.

    Raises:
        EvaluationError: for another metric. DataError: for no frames.
    """
    if metric not in COLUMNS:
        raise EvaluationError(f"OpenS2V-Eval has no metric {metric!r}; it has {', '.join(ORDER)}")
    if metric.startswith("motion"):
        return list(range(num_frames))
    if metric == "natural_score":
        return strided_frames(num_frames, JUDGED_FRAMES)
    return uniform_frames(num_frames, SAMPLED_FRAMES)


def smoothness_windows(num_frames: int) -> list[tuple[int, int, int]]:
    """The three frames that the smoothness of each frame is rated by (get_motion_smoothness.py).

    The frame between its neighbours; the first frame is alone, the last has the one before twice
    (in a video of two frames, itself).
    """
    windows = [(0, 0, 0), *((t - 1, t, t + 1) for t in range(1, num_frames))][:num_frames]
    if num_frames == 2:
        windows[1] = (0, 1, 1)
    elif num_frames > 2:
        windows[-1] = (num_frames - 2, num_frames - 2, num_frames - 1)
    return windows


def expected_quality(probabilities: Sequence[float]) -> float:
    """Q-Align's rating, 0 to 1, from its probabilities of excellent, good, fair, poor, bad."""
    return sum(p * w for p, w in zip(probabilities, QUALITY_WEIGHTS, strict=True))


def motion_smoothness(ratings: Sequence[float]) -> float:
    """1 less the share of frames beside a step of the rating over 0.025 (get_motion_smoothness.py).

    Raises:
        EvaluationError: for no ratings.
    """
    if not len(ratings):
        raise EvaluationError("0 frames were rated; motion smoothness needs one or more")
    steps = np.nonzero(np.abs(np.diff(np.asarray(ratings, np.float64))) > ARTEFACT)[0]
    artefacts = {int(t) + side for t in steps for side in (0, 1)}
    return 1 - len(artefacts) / len(ratings)


def face_reference(case_id: str, pictures: Sequence[str]) -> int | None:
    """Which picture's face is compared: the first in a folder of people; None for no score.

    Only ids with one of `FACE_IDS` in them are scored: cases of several people never are.
    """
    if not any(word in case_id for word in FACE_IDS):
        return None
    folders = (any(f in picture for f in PEOPLE_FOLDERS) for picture in pictures)
    return next((i for i, of_people in enumerate(folders) if of_people), None)


def curricular_similarity(cosines: Sequence[float | None]) -> float:
    """`cur_score` of a video: the mean of positive cosines, 0 without one (get_facesim.py).

    Args:
        cosines: of the face in each sampled frame to the reference's; None for no face.
    """
    positive = [cosine for cosine in cosines if cosine is not None and cosine > 0]
    return float(np.mean(positive)) if positive else 0.0


def arc_similarity(cosines: Sequence[float | None]) -> float:
    """`arc_score` of a video: the mean where negative cosines are 0; never in a total."""
    seen = [max(0.0, cosine) for cosine in cosines if cosine is not None]
    return float(np.mean(seen)) if seen else 0.0


def nexus_references(case_id: str, labels: Sequence[str]) -> list[tuple[int, str]]:
    """The references that Nexus looks for, by index, and the word each is checked with.

    People are left to the face score in ids with "face", and are "human" in ids with "human"
    (get_nexusscore.py).
    """
    chosen = []
    for index, label in enumerate(labels):
        person = label in ("Man", "Woman")
        if not (person and "face" in case_id):
            chosen.append((index, "human" if person and "human" in case_id else label))
    return chosen


def keeps_box(confidence: float, text_similarity: float, similarity: float) -> bool:
    """Whether a detected box enters the Nexus score (get_nexusscore.py)."""
    return confidence > BOX_CONFIDENCE and text_similarity > BOX_TEXT and similarity != 0


def nexus_score(similarities: Sequence[float], frames_with_boxes: int) -> float | None:
    """Mean similarity of the kept boxes over the number of frames that have any box.

    Args:
        similarities: of kept boxes to their reference. frames_with_boxes: at any reference, kept
            or not; None is returned for 0, where the script fails and leaves the video out.
    """
    if frames_with_boxes < 1:
        return None
    return float(np.mean(similarities)) / frames_with_boxes if len(similarities) else 0.0


def natural_score(answers: Sequence[str | float]) -> float:
    """The mean of the judge's answers to a video, 1 to 5 (merge_result.py).

    Raises:
        EvaluationError: for an answer that is no number ("error"), or none; the script crashes.
    """
    try:
        numbers = [float(answer) for answer in answers]
    except ValueError as error:
        raise EvaluationError(f"the judge answered {error}; ask again") from error
    if not numbers or not np.isfinite(numbers).all():
        raise EvaluationError(f"the judge's answers {list(answers)} are no ratings; ask again")
    return sum(numbers) / len(numbers)


def completed(table: ScoreTable, benchmark: Benchmark) -> ScoreTable:
    """The table with every metric and case, so that figures say what of the benchmark they cover.

    What the benchmark never scores (faces of several people, Nexus without an object) is
    inapplicable; whatever else is not there is missing.
    """
    columns: dict[str, Mapping[tuple[str, int], Outcome]] = {}
    for name in ORDER:
        gaps = {(case.id, 0): _gap(name, case) for case in benchmark.cases}
        columns[name] = {**gaps, **table.outcomes(name)}
    return ScoreTable(columns, table.specs)


def _gap(metric: str, case: Case) -> Skipped:
    if metric == "facesim_cur" and face_reference(case.id, case.pictures) is None:
        return Skipped("OpenS2V-Eval scores no face of this case", "inapplicable")
    if metric == "nexus_score" and not nexus_references(case.id, case.labels):
        return Skipped("OpenS2V-Eval looks for no reference of this case", "inapplicable")
    return Skipped("no score was given", "missing")
