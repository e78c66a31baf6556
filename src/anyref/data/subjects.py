"""The stage that turns a clip into a record: subjects, faces, background, caption.

Axes: K sampled frames, Y X pixels, N references, D features
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import get_args

from anyref.data import record
from anyref.data.crops import Fault
from anyref.data.drafting import Drafting
from anyref.data.faces import FaceFault, SeenFace
from anyref.data.labels import namer_among
from anyref.data.references import Draft, array_blob, face_features, picture_features
from anyref.data.scene import Look, SubjectSettings
from anyref.data.soundness import SoundnessFault
from anyref.data.stages import Blob, Item, Stage
from anyref.data.thresholds import Rule
from anyref.data.views import Frames
from anyref.perception.contracts import Description, ModelCard
from anyref.perception.small import Grade

__all__ = ["SUBJECT_RULES", "SubjectFinder", "SubjectSettings", "subject_stages"]

REASONS: tuple[str, ...] = (
    *get_args(Fault), "fleeting", "crowd", "overlap", *get_args(SoundnessFault), "spare", "label",
    "faceless", "over_face", *get_args(FaceFault),
)  # fmt: skip
MEASURES: tuple[str, ...] = (
    "subjects", "references", "faces", "largest_area", "background_visible", "references_dropped",
    *(f"dropped_{reason}" for reason in REASONS),
)  # fmt: skip
SUBJECT_RULES: tuple[Rule, ...] = (Rule(measurement="subjects", at_least=1),)


def subject_stages(settings: SubjectSettings, load_grade: Callable[[], Grade]) -> list[Stage]:
    """The stages from a clip's sampled frames to its record.

    Args:
        load_grade: makes the models; picklable.
    """
    return [
        Stage(
            name="subjects",
            load=partial(SubjectFinder, settings, load_grade),
            measures=MEASURES,
            tool="anyref",
            version="1",
            settings=settings.model_dump(mode="json"),
        )
    ]


class SubjectFinder:
    """The function of the stage: an item with `frames` gets a record.

    Takes from the payload `frames`, `frame_numbers` and `video`; leaves `features` (N, D),
    `face-features`, `clip-features` (D,) and a `crop-<ref_id>` per reference; drops `frames`.
    """

    def __init__(self, settings: SubjectSettings, load_grade: Callable[[], Grade]) -> None:
        self.settings = settings
        self.grade = load_grade()

    def __call__(self, item: Item) -> Item:
        """The item with its record; the same for the same item.

        Raises:
            PerceptionError: when a model's weights are not fetched. KeyError: without the payload.
        """
        frames: Frames = item.payload["frames"]
        numbers: Sequence[int] = item.payload["frame_numbers"]
        video: record.Video = item.payload["video"]
        description = self._description(frames)
        scene = Look(frames, self.grade, self.settings, description).scene()
        drafting = Drafting(
            item.id,
            frames,
            scene,
            self.settings,
            numbers=numbers,
            length=video.num_frames,
            description=description,
        )
        drafts, caption = drafting.draft()
        blobs = [draft.blob for draft in drafts]
        references = []
        for draft, blob in zip(drafts, blobs, strict=True):
            maker = self._maker(draft)
            main = draft.frame == drafting.main
            number = numbers[draft.frame]
            references.append(draft.reference(item.id, blob.asset, number, main, maker))
        made = record.Sample(
            id=item.id,
            video=video,
            captions=(self._signed(caption, description),),
            references=tuple(references),
            faces=tuple(_face_of(seen, numbers) for seen in scene.faces),
            quality=record.Quality(duration_s=round(video.num_frames / video.fps, 3)),
        )
        crops = {f"crop-{draft.ref_id}": blob for draft, blob in zip(drafts, blobs, strict=True)}
        dropped = scene.dropped + drafting.dropped
        numbers_of = _measurements(drafts, len(scene.faces), drafting.visible, dropped)
        held = item.hold(**crops, **self._features(frames, drafts)).measure(**numbers_of)
        return held.drop("frames").record_as(made)

    def _description(self, frames: Frames) -> Description | None:
        if self.grade.captioner is None:
            return None
        (description,) = self.grade.captioner.describe([list(frames)])
        return description

    def _signed(self, caption: record.Caption, description: Description | None) -> record.Caption:
        """The caption with the model that wrote it."""
        if description is None or self.grade.captioner is None:
            return caption
        card = self.grade.captioner.card
        return caption.model_copy(
            update={"model": f"{card.name}/{card.version}", "sha": card.sha256 or None}
        )

    def _maker(self, draft: Draft) -> str | None:
        """Name and version of the model that gave a reference its label; None for no model."""
        grade = self.grade
        namer = namer_among(grade.picture_embedders)
        models = {
            "objects": grade.objects,
            "pictures": namer,
            "captioner": grade.captioner,
            "faces": grade.faces,
        }
        model = models.get(draft.label.by)
        if model is None:
            return None
        card: ModelCard = model.card
        return f"{card.name}/{card.version}"

    def _features(self, frames: Frames, drafts: Sequence[Draft]) -> Mapping[str, Blob]:
        middle = frames[len(frames) // 2]
        looks, clip = picture_features(drafts, middle, self.grade.picture_embedders[0])
        faces = face_features(frames, drafts, self.grade.face_embedders[0])
        arrays = {"features": looks, "face-features": faces, "clip-features": clip}
        return {name: array_blob(values) for name, values in arrays.items()}


def _measurements(
    drafts: Sequence[Draft], faces: int, visible: float, dropped: Counter[str]
) -> dict[str, float]:
    """What the rules look at; everything that was dropped, by reason."""
    shown = [draft for draft in drafts if draft.kind != "background"]
    areas = [draft.scores.area_frac or 0.0 for draft in shown if draft.kind != "face"]
    return {
        "subjects": len({draft.entity for draft in shown}),
        "references": len(drafts),
        "faces": faces,
        "largest_area": max(areas, default=0.0),
        "background_visible": visible,
        "references_dropped": dropped.total(),
        **{f"dropped_{reason}": dropped[reason] for reason in REASONS},
    }


def _face_of(seen: SeenFace, numbers: Sequence[int]) -> record.Face:
    box = seen.face.box
    return record.Face(
        frame=numbers[seen.frame],
        track_id=seen.track,
        bbox_xyxy=(box.left, box.top, box.right, box.bottom),
        kps=seen.face.landmarks,
        score=seen.face.score,
    )
