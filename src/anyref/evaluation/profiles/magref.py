"""The evaluation of the MAGREF paper (arXiv 2505.23742v2, section 4.1 and appendix C).

The total is the plain mean of the metrics, four for a single identity and six for several
subjects. The paper's 120 cases and its evaluation code were not released. That its aesthetic score
is scaled as OpenS2V-Eval scales it, from 4..7 to 0..1, is inferred from the printed figures.
"""

from __future__ import annotations

from typing import Literal

from anyref.errors import EvaluationError
from anyref.evaluation.profiles.profile import Column, Group, Profile

NAME = "magref"
SINGLE = ("id_sim", "aesthetic", "motion", "gme_score")
MULTI = ("id_sim", "subj_sim", "bg_sim", "aesthetic", "motion", "gme_score")
IDENTITY_STRIDE = 16  # "every 16th frame" (appendix C)

MagrefSet = Literal["single-id", "multi-subject"]


def magref(table: MagrefSet) -> Profile:
    """The profile of one of the paper's two tables."""
    names = {"single-id": SINGLE, "multi-subject": MULTI}[table]
    scales = {"aesthetic": Column(name="aesthetic", floor=4, ceiling=7, low=4, high=7)}
    return Profile(
        name=NAME,
        columns=tuple(scales.get(name, Column(name=name)) for name in names),
        groups=(Group(table, dict.fromkeys(names, 1.0), len(names)),),
        total_weights={table: 1.0},
        notes=("frames without a face are left out of id_sim, as in the paper",),
    )


def identity_frames(num_frames: int) -> list[int]:
    """The frames whose faces are compared: every 16th, from the first on.

    Raises:
        EvaluationError: for no frames.
    """
    if num_frames < 1:
        raise EvaluationError(f"{num_frames} frames cannot be sampled; a video has one or more")
    return list(range(0, num_frames, IDENTITY_STRIDE))
