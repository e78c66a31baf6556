"""The places: is it the one that was asked for, does it stay, does it come from a reference?

Subjects are painted over from around them (Telea 2004) before a frame is compared, so that they
count neither way. A place is described as a subject is, by features and colours.
"""

# Axes: K sampled frames, N pictures, D features

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.data.crops import Pixels, widened, without
from anyref.errors import AnyRefError
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, MetricSpec, Outcome, Score, Skipped
from anyref.evaluation.metrics.base import GradeMetric, mean, rounded
from anyref.evaluation.metrics.cutouts import describe_places, wanted_of
from anyref.evaluation.metrics.parts import has_scenery
from anyref.evaluation.metrics.sightings import scene_of
from anyref.evaluation.metrics.subject import steadiness
from anyref.media import open_reference_pictures
from anyref.perception.contracts import Perceiver, Picture
from anyref.perception.small import Grade

MARGIN = 0.015  # of the diagonal, painted over around subjects
MOST = 0.9  # of a picture that may be subject; what is left of more is no place
FULL = Skipped("subjects fill the sampled frames; no background is left", "undetected")


class BackgroundMetric(GradeMetric):
    """What the metrics of places need."""

    def uses(self) -> Sequence[Perceiver]:
        """Detector, segmenters, the first embedder, and faces, which tell a portrait."""
        grade = self.models
        return grade.objects, grade.masks, grade.people, grade.picture_embedders[0], grade.faces

    def places(self, footage: Footage) -> NDArray[np.float32]:
        """The sampled frames without subjects: unit vectors (K, D), K of those that have some."""

        def make() -> NDArray[np.float32]:
            scene = scene_of(footage, self.models)
            return places(list(scene.frames), list(scene.hidden), self.models)

        return footage.once("places", make)


class BackgroundSimilarity(BackgroundMetric):
    """Mean over background references and sampled frames of the cosine with the place shown.

    Subjects are removed from both. The best picture of a reference counts, and 0 for a negative
    cosine. (Ours, after MAGREF's BG-Sim, whose formula is not published.)
    """

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return MetricSpec(
            name="background_similarity",
            about="How alike the place of the video and the background reference are.",
            direction="higher",
            low=0,
            high=1,
            needs=frozenset({"video", "references"}),
            grade=self.grade,
        )

    def suits(self, case: Case) -> Skipped | None:
        """Cases with a background reference suit."""
        if "background" in case.kinds:
            return None
        return Skipped("the case has no background reference", "inapplicable")

    def score(self, case: Case, footage: Footage) -> Outcome:
        """The value, and that of each background reference."""
        shown = self.places(footage)  # (K, D)
        if not len(shown):
            return FULL
        assert case.request is not None
        values = []
        for reference in case.request.references:
            if reference.kind == "background":
                pictures = [np.asarray(p) for p in open_reference_pictures(reference)]
                softs = self.models.masks.segment(pictures)
                wanted = places(pictures, [_some(soft > 0.5) for soft in softs], self.models)
                values.append(float((wanted @ shown.T).max(0).clip(0, 1).mean()))
        return Score(mean(values), {"references": rounded(values)})


class BackgroundConsistency(BackgroundMetric):
    """How little the place changes over the sampled frames.

    VBench's formula (see `SubjectConsistency`) on frames without subjects, where VBench takes the
    whole frame. A frozen video has 1.
    """

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return MetricSpec(
            name="background_consistency",
            about="How little the place changes over the video, subjects removed.",
            direction="higher",
            low=0,
            high=1,
            needs=frozenset({"video"}),
            grade=self.grade,
        )

    def score(self, case: Case, footage: Footage) -> Outcome:  # noqa: ARG002 - of the contract
        """The value."""
        shown = self.places(footage)
        if len(shown) < 2:
            return FULL
        return Score(steadiness(shown))


class Decoupling(BackgroundMetric):
    """How free the video is of the places that the subjects' references were taken in.

    1 minus the cosine of the reference's place, its subject removed, and the video's, averaged
    over sampled frames (0 for a negative one); the mean over references whose picture shows a
    place. (Ours, for the aim that Kaleido states without a formula.)
    """

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return MetricSpec(
            name="decoupling",
            about="How unlike the video's place and the places in subjects' references are.",
            direction="higher",
            low=0,
            high=1,
            needs=frozenset({"video", "references"}),
            grade=self.grade,
        )

    def suits(self, case: Case) -> Skipped | None:
        """Cases with a subject whose picture shows more than a plain ground suit."""
        if any(_shows_place(case)):
            return None
        return Skipped(
            "no subject's reference shows a place; nothing can come along", "inapplicable"
        )

    def score(self, case: Case, footage: Footage) -> Outcome:
        """The value, and the cosine of each reference."""
        if not any(len(places) for places in scenery_of(case, footage, self.models).values()):
            return Skipped("subjects fill their references; no place is left", "inapplicable")
        shown = self.places(footage)
        if not len(shown):
            return FULL
        alike = scenery_cosines(case, footage, self.models, shown)
        cosines = {str(place + 1): round(value, 6) for place, value in alike.items()}
        return Score(1 - mean(alike.values()), {"cosines": cosines})


def scenery_cosines(
    case: Case, footage: Footage, models: Grade, shown: NDArray[np.float32]
) -> dict[int, float]:
    """How alike a subject's reference's place and the video's (K, D) are, 0 to 1, by reference.

    References on a plain ground, and all of an empty video, are left out.
    """
    return {
        place: float((wanted @ shown.T).max(0).clip(0, 1).mean())
        for place, wanted in scenery_of(case, footage, models).items()
        if len(wanted) and len(shown)
    }


def scenery_of(case: Case, footage: Footage, models: Grade) -> dict[int, NDArray[np.float32]]:
    """The places of each subject's pictures: unit vectors (N, D) by reference, N of those that
    show more than a plain ground and the subject.
    """

    def make() -> dict[int, NDArray[np.float32]]:
        found = {}
        for one in wanted_of(case, footage, models):
            some = [cutout for cutout in one.cutouts if cutout.has_scenery]
            found[one.place] = places([c.picture for c in some], [c.pixels for c in some], models)
        return found

    return footage.once("scenery", make)


def places(
    pictures: Sequence[Picture], hidden: Sequence[Pixels], models: Grade
) -> NDArray[np.float32]:
    """Unit vectors (N, D) of pictures without what is hidden, of those that leave enough."""
    kept = []
    for picture, mask in zip(pictures, hidden, strict=True):
        wide = widened(mask, MARGIN) if mask.any() else mask
        if wide.mean() <= MOST:
            kept.append(without(picture, wide) if wide.any() else picture)
    return describe_places(kept, models.picture_embedders[0])


def _some(mask: Pixels) -> Pixels:
    """A mask, or none where almost all of a place stands out."""
    return mask if mask.mean() <= MOST / 2 else np.zeros_like(mask)


def _shows_place(case: Case) -> list[bool]:
    """For each subject's picture that can be read whether it shows more than a plain ground."""
    shows = []
    for reference in case.request.references if case.request else ():
        if reference.kind != "background" and reference.mask is None:
            try:
                pictures: list[Image.Image] = open_reference_pictures(reference)
            except AnyRefError:
                continue
            shows += [has_scenery(np.asarray(picture)) for picture in pictures]
    return shows
