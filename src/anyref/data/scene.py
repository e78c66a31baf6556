"""Looking at a clip: who is in it, what they are called, and which views of them are good.

Axes: K sampled frames, Y X pixels, V views, G words
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import model_validator

from anyref.data.crops import CropSettings, Pixels, crop_of, widened
from anyref.data.faces import (
    FaceSettings,
    SeenFace,
    covers_face,
    face_faults,
    owners_of,
    seen_faces,
)
from anyref.data.labels import Label, LabelSettings, label_of, namer_among
from anyref.data.record import MAX_REFERENCES
from anyref.data.soundness import SoundnessSettings, covered, stable
from anyref.data.thresholds import Section
from anyref.data.tracks import Track, TrackSettings
from anyref.data.views import (
    PERSON,
    Frames,
    Subject,
    View,
    ViewSettings,
    chosen_tracks,
    detections,
    embedded,
    masked,
    view_frames,
    views_of,
    with_salient,
    without_overlap,
)
from anyref.perception.contracts import Description, Mask
from anyref.perception.small import Grade

MAYBE_SUBJECT = 0.2  # what stands out this much is not taken for background


class SubjectSettings(Section):
    """How subjects are found, and what a reference has to be.

    Args:
        max_views: references of one subject, and of one face.
        background: keep the main frame without its subjects as a reference of the background.
        min_background: share of that frame that has to be visible.
        hidden: how far around subjects the background is painted over, in frame diagonals.
    """

    views: ViewSettings = ViewSettings()
    tracks: TrackSettings = TrackSettings()
    crops: CropSettings = CropSettings()
    labels: LabelSettings = LabelSettings()
    faces: FaceSettings = FaceSettings()
    soundness: SoundnessSettings = SoundnessSettings()
    max_views: int = 4
    background: bool = True
    min_background: float = 0.5
    hidden: float = 0.015

    @model_validator(mode="after")
    def _fits_a_record(self) -> SubjectSettings:
        most = 2 * self.views.max_subjects * self.max_views + 1  # faces have views too
        if most > MAX_REFERENCES:
            raise ValueError(
                f"{self.views.max_subjects} subjects of {self.max_views} views may give {most} "
                f"references, over the {MAX_REFERENCES} of a record; lower one of the two"
            )
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What was found in a clip.

    Args:
        tracks: all of them, also those whose views were dropped. labels: one per subject.
        softs: what stands out, by sampled frame. faces: all that the detector is sure of.
        owners: of each face, the number of its subject, None for nobody's.
        dropped: by reason.
    """

    tracks: tuple[Track, ...]
    subjects: tuple[Subject, ...]
    labels: tuple[Label, ...]
    softs: dict[int, Mask]
    faces: tuple[SeenFace, ...]
    owners: tuple[int | None, ...]
    dropped: Counter[str]

    def face_at(self, subject: int, frame: int) -> SeenFace | None:
        """The surest face of a subject in a sampled frame."""
        mine = [
            seen
            for seen, owner in zip(self.faces, self.owners, strict=True)
            if owner == subject and seen.frame == frame
        ]
        return max(mine, key=lambda seen: seen.face.score, default=None)

    def main_frame(self, count: int) -> int:
        """The sampled frame that shows most subjects, then the largest, then near the middle."""
        views = [view for subject in self.subjects for view in subject.views]
        if not views:
            best = max(self.faces, key=lambda seen: seen.worth, default=None)
            return count // 2 if best is None else best.frame
        number = Counter(view.frame for view in views)
        area: Counter[int] = Counter()
        for view in views:
            area[view.frame] += round(view.measures.area * view.pixels.size)
        return min(number, key=lambda k: (-number[k], -area[k], abs(k - count // 2), k))

    def hidden(self, frame: int, size: tuple[int, int], margin: float) -> Pixels:
        """Everything in a sampled frame that is or may be a subject, and some way around it.

        Args:
            size: rows and columns. margin: that way, in frame diagonals.
        """
        pixels = np.zeros(size, bool)
        if frame in self.softs:
            pixels |= self.softs[frame] > MAYBE_SUBJECT
        for subject in self.subjects:
            for view in subject.views:
                if view.frame == frame:
                    pixels |= view.pixels
        boxes = [seen.face.box for seen in self.faces if seen.frame == frame]
        cut = {id(subject.track) for subject in self.subjects}
        for track in self.tracks:
            seen = track.at(frame)
            if seen is not None and (id(track) not in cut or seen.mask is None):
                boxes.append(seen.box)
        for box in boxes:
            pixels[box.pixels(pixels)] = True
        return widened(pixels, margin) if pixels.any() else pixels


class Look:
    """One clip, looked at with the models of a grade.

    Args:
        frames: uint8 (K, Y, X, 3). description: of a captioner; then its phrases are what is looked
            for, and what stands out without one is not.
    """

    def __init__(
        self,
        frames: Frames,
        grade: Grade,
        settings: SubjectSettings,
        description: Description | None = None,
    ) -> None:
        self.frames, self.grade, self.settings = frames, grade, settings
        self.description = description
        self.dropped: Counter[str] = Counter()

    def scene(self) -> Scene:
        """Find subjects and faces, name them, and keep the good views."""
        tracks, softs, by_box = self._tracks()
        views = views_of(self.frames, tracks, softs, by_box, self.settings.crops, self.dropped)
        views = without_overlap(views, self.settings.views, self.dropped)
        views = covered(self.frames, views, self.settings.soundness, self.dropped)
        views = self._stable(tracks, views, softs)
        faces, owners = self._faces(tracks)
        labels: list[Label] = []
        for number, track in enumerate(tracks):
            mine = [one for one, owner in zip(faces, owners, strict=True) if owner == number]
            label, views[number] = self._named(track, views[number], mine)
            views[number] = self._by_faces(label, views[number], mine, faces)
            labels.append(label)
        kept = [number for number, some in enumerate(views) if some]
        self.dropped["spare"] += sum(max(0, len(views[n]) - self.settings.max_views) for n in kept)
        place = {number: new for new, number in enumerate(kept)}
        return Scene(
            tracks=tuple(tracks),
            subjects=tuple(
                Subject(track=tracks[n], views=tuple(views[n][: self.settings.max_views]))
                for n in kept
            ),
            labels=tuple(labels[n] for n in kept),
            softs=softs,
            faces=tuple(faces),
            owners=tuple(None if owner is None else place.get(owner) for owner in owners),
            dropped=self.dropped,
        )

    def _stable(
        self, tracks: Sequence[Track], views: Sequence[Sequence[View]], softs: dict[int, Mask]
    ) -> list[list[View]]:
        """Views that further looks agree with; of people a detector is sure enough without."""
        people = [track.sightings[0].label == PERSON for track in tracks]
        others = [() if person else some for person, some in zip(people, views, strict=True)]
        kept = stable(
            self.frames, others, softs, self.grade.masks, self.settings.soundness, self.dropped
        )
        return [
            list(some) if person else good
            for person, some, good in zip(people, views, kept, strict=True)
        ]

    def _tracks(self) -> tuple[list[Track], dict[int, Mask], dict[tuple[int, int], Mask]]:
        """Tracks, what stands out by sampled frame, and masks by track and sampled frame."""
        frames, settings, grade = self.frames, self.settings, self.grade
        words = None
        if self.description is not None:
            words = [list(self.description.subjects)] * len(frames)
        found = grade.objects.detect(list(frames), words)
        sightings = detections(frames, found, settings.views, settings.tracks.same_overlap)
        at = view_frames(frames, sightings, settings.views.views)
        softs: dict[int, Mask] = {}
        if settings.views.salient and self.description is None:
            softs = dict(zip(at, grade.masks.segment([frames[k] for k in at]), strict=True))
        for k, soft in softs.items():
            sightings[k] = with_salient(sightings[k], k, soft, settings.views, settings.crops)
        sightings = embedded(frames, sightings, grade.picture_embedders[0])
        diagonal = math.hypot(*frames.shape[1:3])
        tracks = chosen_tracks(sightings, diagonal, settings.views, settings.tracks, self.dropped)
        segmenters = {True: grade.people, False: grade.masks}
        return tracks, softs, masked(frames, tracks, at, segmenters, settings.views)

    def _faces(self, tracks: Sequence[Track]) -> tuple[list[SeenFace], list[int | None]]:
        """Faces that the detector is sure of, and the number of the track of each."""
        found = self.grade.faces.detect(list(self.frames))
        least = self.settings.faces.min_score
        sure = [tuple(face for face in faces if face.score >= least) for faces in found]
        self.dropped["face_unsure"] += sum(len(f) for f in found) - sum(len(f) for f in sure)
        faces = seen_faces(self.frames, sure, self.settings.tracks)
        return faces, owners_of(faces, tracks)

    def _named(
        self, track: Track, views: list[View], faces: Sequence[SeenFace]
    ) -> tuple[Label, list[View]]:
        """A track's label, and the views that agree with it."""
        if self.description is not None:
            text = track.sightings[0].label or self.description.subjects[0]
            return Label(text=text, by="captioner", score=1.0), views
        settings = self.settings.labels
        namer = namer_among(self.grade.picture_embedders)
        boxes = [seen.box for view in views if (seen := track.at(view.frame)) is not None]
        crops = [
            crop_of(self.frames[view.frame], box) for view, box in zip(views, boxes, strict=True)
        ]
        words: tuple[str, ...] = ()
        chances = np.zeros((len(crops), 0), np.float32)  # (V, G)
        if namer is not None:
            words, chances = namer.words, namer.name(crops)
        good = [one for one in faces if next(face_faults(one, self.settings.faces), None) is None]
        face = max((one.face.score for one in good), default=0.0)
        label = label_of(track, words, chances, face=face, settings=settings)
        if label.text not in words:
            return label, views
        fits = (chances[:, words.index(label.text)] >= settings.view_agreement).tolist()
        self.dropped["label"] += len(views) - sum(fits)
        return label, [view for view, fit in zip(views, fits, strict=True) if fit]

    def _by_faces(
        self,
        label: Label,
        views: Sequence[View],
        own: Sequence[SeenFace],
        faces: Sequence[SeenFace],
    ) -> list[View]:
        """Views without people who show no face, and without objects that are a face."""
        settings, kept = self.settings.faces, []
        for view in views:
            here = [one.face.box for one in faces if one.frame == view.frame]
            if label.kind == "human":
                if settings.required and all(one.frame != view.frame for one in own):
                    self.dropped["faceless"] += 1
                    continue
            elif any(covers_face(view.pixels, box, settings.max_overlap) for box in here):
                self.dropped["over_face"] += 1
                continue
            kept.append(view)
        return kept
