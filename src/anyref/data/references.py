"""From subjects and faces to the references of a record, their pictures and their features.

Axes: K sampled frames, Y X pixels, N references, D features
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.data.crops import Pixels, box_around, crop_of, cut_out, on_grey
from anyref.data.faces import FaceSettings, SeenFace
from anyref.data.labels import Label
from anyref.data.masks import encode
from anyref.data.record import (
    Asset,
    Box,
    FaceScores,
    Origin,
    ReferenceKind,
    SampleReference,
    Scores,
    Span,
)
from anyref.data.stages import Blob
from anyref.data.views import View
from anyref.perception import contracts
from anyref.perception.contracts import FaceEmbedder, Picture, PictureEmbedder

FACE, BACKGROUND = "face", "background"
DETECTED = ("objects", "captioner")  # labels that a detector has looked for or found


@dataclass(frozen=True, kw_only=True, eq=False)
class Draft:
    """A reference before it is written.

    Args:
        picture: RGBA (Y, X, 4). look: RGB, what the picture embedder is to see.
        frame: the sampled one. mask: of the whole frame. seen: its face, or the face that it shows.
    """

    ref_id: str
    entity: int
    kind: ReferenceKind
    label: Label
    frame: int
    picture: NDArray[np.uint8]
    look: Picture
    bbox: Box | None = None
    mask: Pixels | None = None
    scores: Scores = field(default_factory=Scores)
    seen: SeenFace | None = None
    span: Span | None = None
    track: tuple[Box | None, ...] | None = None

    @property
    def blob(self) -> Blob:
        """The picture as PNG."""
        buffer = io.BytesIO()
        Image.fromarray(self.picture).save(buffer, format="PNG")
        return Blob(buffer.getvalue(), "png")

    def reference(
        self, sample: str, asset: Asset, number: int, main: bool, maker: str | None
    ) -> SampleReference:
        """The reference as the record holds it.

        Args:
            sample: id of the record. number: of its frame in the clip.
            main: whether that is the clip's main frame.
            maker: the model that named it, None for none.
        """
        return SampleReference(
            ref_id=self.ref_id,
            kind=self.kind,
            label=self.label.text,
            entity_id=f"{sample}-{self.entity}",
            pair_type="regular" if main else "in_clip_other_frame",
            image=asset,
            origin=Origin(frame=number),
            bbox_xyxy=self.bbox,
            mask=None if self.mask is None else encode(self.mask),
            caption_span=self.span,
            scores=self.scores,
            track=self.track,
            foreign={"anyref": {"label_by": maker, "label_score": round(self.label.score, 4)}},
        )


def subject_draft(
    frame: Picture,
    view: View,
    *,
    place: tuple[int, int],
    label: Label,
    span: Span | None,
    seen: SeenFace | None,
    margin: float,
) -> Draft:
    """The draft of one view of a subject.

    Args:
        place: numbers of the subject and of the view, from 1.

    The detector's confidence is kept where the label is what it was confident of.
    """
    sure = view.score if label.by in DETECTED else None
    return Draft(
        ref_id=f"{place[0]}-{place[1]}",
        entity=place[0],
        kind=label.kind,
        label=label,
        frame=view.frame,
        picture=cut_out(frame, view.pixels, margin),
        look=on_grey(frame, view.pixels),
        bbox=_corners(box_around(view.pixels)),
        mask=view.pixels,
        scores=Scores(
            area_frac=view.measures.area,
            det_conf=None if sure is None else round(sure, 4),
            face=None if seen is None else _face_scores(seen),
        ),
        seen=seen,
        span=span,
    )


def face_draft(
    frame: Picture,
    seen: SeenFace,
    *,
    place: tuple[int, int],
    span: Span | None,
    settings: FaceSettings,
) -> Draft:
    """The draft of a face: its box and a margin, all of it visible.

    Args:
        place: numbers of the subject and of the face, from 1.
    """
    crop = crop_of(frame, seen.face.box, settings.margin)
    opaque = np.full((*crop.shape[:2], 1), 255, np.uint8)
    height, width = frame.shape[:2]
    return Draft(
        ref_id=f"{place[0]}-face-{place[1]}",
        entity=place[0],
        kind="face",
        label=Label(text=FACE, by="faces", score=seen.face.score),
        frame=seen.frame,
        picture=np.dstack([crop, opaque]),
        look=crop,
        bbox=_corners(seen.face.box),
        scores=Scores(
            area_frac=seen.face.box.area / (height * width),
            det_conf=round(seen.face.score, 4),
            face=_face_scores(seen),
        ),
        seen=seen,
        span=span,
    )


def background_draft(
    picture: Picture, frame: int, entity: int, words: str, span: Span | None
) -> Draft:
    """The draft of the background."""
    opaque = np.full((*picture.shape[:2], 1), 255, np.uint8)
    return Draft(
        ref_id=BACKGROUND,
        entity=entity,
        kind="background",
        label=Label(text=words, by="nobody", score=1.0),
        frame=frame,
        picture=np.dstack([picture, opaque]),
        look=picture,
        span=span,
    )


def face_features(
    frames: NDArray[np.uint8], drafts: Sequence[Draft], embedder: FaceEmbedder
) -> NDArray[np.float32]:
    """Features (N, D) of the face that each reference shows, NaN where it shows none.

    Args:
        frames: (K, Y, X, 3).
    """
    seen = {n: draft.seen for n, draft in enumerate(drafts) if draft.seen is not None}
    vectors = embedder.embed(
        [frames[one.frame] for one in seen.values()], [one.face for one in seen.values()]
    )
    rows = np.full((len(drafts), vectors.shape[1]), np.nan, np.float32)
    rows[list(seen)] = vectors
    return rows


def picture_features(
    drafts: Sequence[Draft], middle: Picture, embedder: PictureEmbedder
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (N, D) of the references and (D,) of the clip's middle frame."""
    vectors = embedder.embed([*(draft.look for draft in drafts), middle])
    return vectors[:-1], vectors[-1]


def array_blob(values: NDArray[np.float32]) -> Blob:
    """An array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values, np.float32), allow_pickle=False)
    return Blob(buffer.getvalue(), "npy")


def _face_scores(seen: SeenFace) -> FaceScores:
    return FaceScores(yaw=round(seen.yaw, 1), det=round(seen.face.score, 4))


def _corners(box: contracts.Box) -> Box:
    return round(box.left, 1), round(box.top, 1), round(box.right, 1), round(box.bottom, 1)
