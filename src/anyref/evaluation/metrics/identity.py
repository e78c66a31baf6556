"""Is every person of the references in the video, by their face?

Faces are found in up to twelve frames at full size. Two recognisers judge by themselves; report
both (they do not see the same, and neither is as good as ArcFace or CurricularFace).
"""

# Axes: K sampled frames, R references, C faces of a frame, D features, Y X pixels

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, MetricSpec, Outcome, Score, Skipped
from anyref.evaluation.metrics.base import GradeMetric, rounded, sampled
from anyref.evaluation.metrics.sightings import assign
from anyref.media import open_reference_pictures
from anyref.perception.contracts import (
    Face,
    FaceEmbedder,
    Features,
    Metric,
    Perceiver,
    Picture,
    compare,
)

NUM_FRAMES = 12
PADDING = 0.25  # of the sides, grey, around a picture whose face fills it: OpenS2V-Eval's retry
GREY = 128
SURE = 0.9  # score of the detector for the face of a reference: measured .92 to .95 on photographs
# of adults, also turned and cut, and .69 to .89 on drawn people, whom no recogniser knows
FIRST, SECOND = "face_similarity", "face_similarity_second"
NO_FACE = Skipped(
    f"no human reference shows a face that the detector is {SURE:.0%} sure of, as it is of "
    "photographed ones",
    "inapplicable",
)


@dataclass(frozen=True, eq=False)
class FaceSimilarity(GradeMetric):
    """Mean over human references and sampled frames of the likeness to the reference's own face.

    In a frame every face belongs to at most one reference, so that the sum is largest; a reference
    without a face of its own counts 0 there. Likeness is max(0, cosine), or max(0, 1 - distance)
    for a recogniser that gives distances: 0.4 to 0.7 for one person then, and below for others.

    OpenS2V-Eval's FaceSim takes the first human reference, the largest face, and leaves out frames
    without a face; ours takes all and leaves out none. `seen` in the details is the mean over
    frames in which a reference has a face.

    Faces of references count only where the detector is sure of them: recognisers know photographs,
    and a cartoon's face that is found in its large picture is not found in the video.

    Args:
        number: which of the grade's recognisers.
    """

    number: int = 0
    modules = ("cv2", "dlib", "ai_edge_litert")

    @property
    def spec(self) -> MetricSpec:
        """What it says of itself."""
        return MetricSpec(
            name=(FIRST, SECOND)[self.number],
            about=f"How alike people's faces are to the references, recogniser {self.number + 1}.",
            direction="higher",
            low=0,
            high=1,
            needs=frozenset({"video", "references"}),
            grade=self.grade,
            version=2,
        )

    def uses(self) -> Sequence[Perceiver]:
        """The face detector and the recogniser."""
        return self.models.faces, self.recogniser

    @property
    def recogniser(self) -> FaceEmbedder:
        """The model that compares faces."""
        return self.models.face_embedders[self.number]

    def suits(self, case: Case) -> Skipped | None:
        """Cases with a human reference suit."""
        if "human" in case.kinds:
            return None
        return Skipped("the case has no human reference", "inapplicable")

    def score(self, case: Case, footage: Footage) -> Outcome:
        """The value; of each reference its mean, its mean where seen, and how often it is seen."""
        known = footage.once("known faces", lambda: self._known(case))
        if not any(known.values()):
            return NO_FACE
        frames, found = footage.once("faces", lambda: self._found(footage))
        if not any(found):
            return Skipped("no face is found in the sampled frames", "undetected")
        names = [name for name, faces in known.items() if faces]
        wanted = [self._embed(known[name]) for name in names]
        own = np.zeros((len(frames), len(names)))
        seen = np.zeros(own.shape, bool)
        for k, faces in enumerate(found):
            if faces:
                likeness = alike(wanted, self._embed(faces), self.recogniser.metric)  # (R, C)
                for r, column in enumerate(assign(likeness)):
                    seen[k, r] = column >= 0
                    own[k, r] = likeness[r, column] if column >= 0 else 0
        shown = own.sum(0) / np.maximum(seen.sum(0), 1)
        details = {
            "references": dict(zip(names, rounded(own.mean(0)), strict=True)),
            "seen": dict(zip(names, rounded(shown), strict=True)),
            "found": dict(zip(names, rounded(seen.mean(0)), strict=True)),
            "faceless": [name for name, faces in known.items() if not faces],
        }
        return Score(float(own.mean()), details)

    def _found(self, footage: Footage) -> tuple[NDArray[np.uint8], list[list[Located]]]:
        frames = sampled(footage, NUM_FRAMES)
        faces = self.models.faces.detect(list(frames))
        return frames, [
            [Located(frame, face) for face in some]
            for frame, some in zip(frames, faces, strict=True)
        ]

    def _known(self, case: Case) -> dict[str, list[Located]]:
        """The largest sure face of each picture, by reference."""
        assert case.request is not None
        known = {}
        for place, reference in enumerate(case.request.references):
            if reference.kind == "human":
                pictures = [np.asarray(p) for p in open_reference_pictures(reference)]
                name = f"{place + 1} {reference.name or ''}".strip()
                known[name] = [one for p in pictures if (one := self._largest(p)) is not None]
        return known

    def _largest(self, picture: Picture) -> Located | None:
        for shown in (picture, padded(picture)):
            (faces,) = self.models.faces.detect([shown])
            for face in faces:
                if face.score >= SURE:
                    return Located(shown, face)
        return None

    def _embed(self, faces: Sequence[Located]) -> Features:
        """(C, D)."""
        return self.recogniser.embed([f.picture for f in faces], [f.face for f in faces])


@dataclass(frozen=True, eq=False)
class Located:
    """A face and the picture that it is in."""

    picture: Picture
    face: Face


def padded(picture: Picture) -> Picture:
    """The picture with a grey border, so that a face that fills it is found."""
    rows, columns = (round(PADDING * side) for side in picture.shape[:2])
    wide = [(rows, rows), (columns, columns), (0, 0)]
    return np.pad(picture, wide, constant_values=GREY)


def alike(wanted: Sequence[Features], faces: Features, metric: Metric) -> NDArray[np.float32]:
    """Likeness 0 to 1 of references, best of their pictures, and faces (C, D): (R, C)."""
    values = [compare(one, faces, metric) for one in wanted]
    if metric == "euclidean":
        values = [1 - value for value in values]
    return np.stack([value.max(0) for value in values]).clip(0, 1)
