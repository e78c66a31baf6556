"""Are the subjects of the references in the video, each once, itself, and all the time?

All three look at the regions of `sightings`; a region is given to at most one reference per frame.
"""

# Axes: K sampled frames, R references, C regions of a frame

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, MetricSpec, Need, Outcome, Score, Skipped
from anyref.evaluation.metrics.base import GradeMetric, mean, rounded
from anyref.evaluation.metrics.cutouts import Wanted, wanted_of
from anyref.evaluation.metrics.sightings import Matches, matches_of
from anyref.perception.contracts import Perceiver

NEEDS: frozenset[Need] = frozenset({"video", "references"})
NOT_TOLD = 0.9  # cosine of two references from which the features cannot tell them apart
UNDECIDED = 0.5  # entanglement of a reference that has no region of its own
ABSENT, PRESENT = (
    0.4,
    0.65,
)  # cosines of the most alike place where a subject is not, and where it is
NARROW = 0.05  # the least that a cosine is over that of the references, so as not to divide by 0
NOTHING = Skipped("nothing in the sampled frames stands out or is detected", "undetected")
NO_SUBJECTS = Skipped("the case has no reference of a subject", "inapplicable")


class SubjectMetric(GradeMetric):
    """What the metrics of matched subjects need."""

    def uses(self) -> Sequence[Perceiver]:
        """Detector, segmenters, the first embedder, and faces to tell a portrait."""
        grade = self.models
        return grade.objects, grade.masks, grade.people, grade.picture_embedders[0], grade.faces

    def suits(self, case: Case) -> Skipped | None:
        """Cases with an object or a human suit."""
        return None if {*case.kinds} - {"background"} else NO_SUBJECTS

    def matches(self, case: Case, footage: Footage) -> Matches | Skipped:
        """The matches, or why there are none."""
        matches = matches_of(case, footage, self.models)
        return matches if matches.any_region else NOTHING


class SubjectSimilarity(SubjectMetric):
    """Mean over references and sampled frames of the cosine with the reference's own region.

    A human reference that may show no more than a head is also compared with the region's head,
    and the higher cosine counts. It counts 0 where it is negative and where no region is left for
    the reference: with two references and one region, as of two subjects merged, one of them has
    none. (Ours. MAGREF's Subj-Sim and OpenS2V-Eval's NexusScore judge each reference by itself, and
    so cannot tell one subject shown twice from two.)
    """

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return MetricSpec(
            name="subject_similarity",
            about="How alike each reference's subject and its own region of the video are.",
            direction="higher",
            low=0,
            high=1,
            needs=NEEDS,
            grade=self.grade,
            version=2,
        )

    def score(self, case: Case, footage: Footage) -> Outcome:
        """The value, and the mean and the frames found of each reference."""
        matches = self.matches(case, footage)
        if isinstance(matches, Skipped):
            return matches
        own = matches.own  # (K, R)
        details = {
            "references": named(matches.wanted, own.mean(0)),
            "found": named(matches.wanted, (matches.given >= 0).mean(0)),
            "frames": rounded(own.mean(1)),
        }
        return Score(float(own.mean()), details)


class SubjectConsistency(SubjectMetric):
    """How little each reference's own region changes its look over the sampled frames.

    VBench's formula, (max(0, cos(f[i-1], f[i])) + max(0, cos(f[0], f[i]))) / 2 averaged over
    i >= 1, on the region of the reference in place of the whole frame, then averaged over
    references. A frozen video has 1.
    """

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return MetricSpec(
            name="subject_consistency",
            about="How little each subject's look changes over the video.",
            direction="higher",
            low=0,
            high=1,
            needs=NEEDS,
            grade=self.grade,
            version=2,
        )

    def score(self, case: Case, footage: Footage) -> Outcome:
        """The value, and that of each reference with a region in two frames or more."""
        matches = self.matches(case, footage)
        if isinstance(matches, Skipped):
            return matches
        values = {}
        for r in range(len(matches.wanted)):
            regions = [matches.region(k, r) for k in range(len(matches.given))]
            features = [region.feature for region in regions if region is not None]
            if len(features) > 1:
                values[r] = steadiness(np.stack(features))
        if not values:
            return Skipped("no subject is found in two of the sampled frames", "undetected")
        shown = {_key(matches.wanted, r): round(v, 6) for r, v in values.items()}
        return Score(mean(values.values()), {"references": shown})


class Entanglement(SubjectMetric):
    """Whether a subject has the look of another one: 0 itself, 0.5 a blend, 1 the other one.

    For a reference r and its own region, with the cosines s to the references, S between them and
    m = max(s[r], s[q]),

        (1 - min over q of p(m) clip((s[r] - s[q]) / (m - S[r, q]), -1, 1)) / 2

    averaged over references and sampled frames (ours). The fraction is 1 for the reference itself,
    -1 for the other one and 0 for a blend, blurred or sharp; p, which grows from 0 at 0.4 to 1 at
    0.65, says whether any of both is there: what looks like neither counts 0.5. Regions are the
    places that look most like any of the references, as many as there are references, so that one
    subject shown twice takes two of them. A reference without a region counts 0.5. Pairs of
    references whose cosine is over 0.9 are left out. Who stands where is not asked: only the prompt
    could say.
    """

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return MetricSpec(
            name="entanglement",
            about="Whether subjects look like one another: 0 apart, 0.5 blends, 1 replaced.",
            direction="lower",
            low=0,
            high=1,
            needs=NEEDS,
            grade=self.grade,
            version=3,
        )

    def suits(self, case: Case) -> Skipped | None:
        """Cases with two subjects or more suit."""
        if sum(kind != "background" for kind in case.kinds) > 1:
            return None
        return Skipped("the case has fewer than two subjects", "inapplicable")

    def score(self, case: Case, footage: Footage) -> Outcome:
        """The value, and the mean of each reference."""
        mutual = mutual_cosines(wanted_of(case, footage, self.models))
        told = [r for r in range(len(mutual)) if (np.delete(mutual[r], r) < NOT_TOLD).any()]
        if not told:
            return Skipped("the references cannot be told apart by their looks", "inapplicable")
        matches = self.matches(case, footage)
        if isinstance(matches, Skipped):
            return matches
        blends = np.stack([_blends(matches, mutual, r) for r in told])  # (R, K)
        names = {
            _key(matches.wanted, r): v for r, v in zip(told, rounded(blends.mean(1)), strict=True)
        }
        return Score(float(blends.mean()), {"references": names})


def _blends(matches: Matches, mutual: NDArray[np.float32], r: int) -> NDArray[np.float64]:
    """Entanglement of a reference in each frame, (K,)."""
    others = [q for q in range(len(mutual)) if q != r and mutual[r, q] < NOT_TOLD]
    values = np.full(len(matches.given), UNDECIDED)
    for k, column in enumerate(matches.anyones[:, r].tolist()):
        if column >= 0:
            cosines = matches.scores[k][:, column]  # (R,)
            values[k] = (1 - itself(cosines[r], cosines[others], mutual[r, others])) / 2
    return values


def itself(
    own: float, others: NDArray[np.floating[Any]], mutual: NDArray[np.floating[Any]]
) -> float:
    """Whether a region is its reference: 1 itself, -1 another one, 0 a blend or neither of them.

    Args:
        own: cosine of the region and its reference. others: those with other references, (Q,).
        mutual: cosines of the reference and the others, (Q,).
    """
    most = np.maximum(own, others)
    lead = np.clip((own - others) / np.maximum(most - mutual, NARROW), -1, 1)
    there = np.clip((most - ABSENT) / (PRESENT - ABSENT), 0, 1)
    return float((there * lead).min())


def mutual_cosines(wanted: Sequence[Wanted]) -> NDArray[np.float32]:
    """How alike the references are, the best of their pictures: (R, R)."""
    return np.array([[(a.features @ b.features.T).max() for b in wanted] for a in wanted])


def steadiness(features: NDArray[np.float32]) -> float:
    """VBench's consistency of unit vectors (K, D), K of 2 or more."""
    before = np.einsum("kd,kd->k", features[1:], features[:-1])
    first = features[1:] @ features[0]
    return float((np.maximum(before, 0) + np.maximum(first, 0)).mean() / 2)


def named(wanted: Sequence[Wanted], values: Any) -> dict[str, float]:
    """Values by reference, as details have them."""
    return {_key(wanted, r): v for r, v in enumerate(rounded(values))}


def _key(wanted: Sequence[Wanted], r: int) -> str:
    return f"{wanted[r].place + 1} {wanted[r].name}"
