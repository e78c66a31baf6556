"""What a record says of a scene: references in order, and a caption that names them.

Axes: K sampled frames, Y X pixels
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from anyref.data.crops import Pixels, without
from anyref.data.describe import TEMPLATE, Described, background_words, describe
from anyref.data.faces import SeenFace, face_faults
from anyref.data.labels import PERSON
from anyref.data.record import Caption, Span
from anyref.data.references import FACE, Draft, background_draft, face_draft, subject_draft
from anyref.data.scene import Scene, SubjectSettings
from anyref.data.tracks import Movement, boxes_of, movement_of
from anyref.data.views import Frames
from anyref.perception.contracts import Description


@dataclass(frozen=True, eq=False)
class Faces:
    """Good faces of one subject, best first.

    Args:
        subject: its number in the scene, from 0; None for somebody who has nothing but a face.
    """

    subject: int | None
    seen: tuple[SeenFace, ...]


class Drafting:
    """The references and the caption of one clip.

    Args:
        sample: id of the record. frames: uint8 (K, Y, X, 3). numbers: of the frames, in the clip.
        length: frames of the clip. description: of a captioner, None for a caption by template.
    """

    def __init__(
        self,
        sample: str,
        frames: Frames,
        scene: Scene,
        settings: SubjectSettings,
        *,
        numbers: Sequence[int],
        length: int,
        description: Description | None = None,
    ) -> None:
        self.sample, self.frames, self.scene, self.settings = sample, frames, scene, settings
        self.numbers, self.length, self.description = numbers, length, description
        self.main = scene.main_frame(len(frames))
        self.dropped: Counter[str] = Counter()  # faces, by reason

    @cached_property
    def hidden(self) -> Pixels:
        """What of the main frame is no background."""
        size = self.frames.shape[1], self.frames.shape[2]
        return self.scene.hidden(self.main, size, self.settings.hidden)

    @property
    def visible(self) -> float:
        """The share of the main frame that is background."""
        return 1 - float(self.hidden.mean())

    @cached_property
    def background(self) -> str | None:
        """Words for the background, None where too little of it is seen."""
        if not self.settings.background or self.visible < self.settings.min_background:
            return None
        return background_words(self.frames[self.main][~self.hidden])

    @cached_property
    def faces(self) -> tuple[Faces, ...]:
        """Good faces by subject; those of nobody by track, after them."""
        groups: dict[tuple[bool, int], list[SeenFace]] = {}
        for seen, owner in zip(self.scene.faces, self.scene.owners, strict=True):
            wrong = next(face_faults(seen, self.settings.faces), None)
            if wrong is not None:
                self.dropped[wrong] += 1
                continue
            key = (True, seen.track) if owner is None else (False, owner)
            groups.setdefault(key, []).append(seen)
        room = self.settings.views.max_subjects - len(self.scene.subjects)
        shown = Counter(seen.track for seen in self.scene.faces)
        least = min(self.settings.views.min_sightings, len(self.frames))
        for key in [key for key in groups if key[0] and shown[key[1]] < least]:
            self.dropped["fleeting"] += len(groups.pop(key))
        lone = sorted(key for key in groups if key[0])
        self.dropped["crowd"] += len(lone[room:])
        made = []
        for key in sorted(groups.keys() - set(lone[room:])):
            best = sorted(groups[key], key=lambda seen: -seen.worth)
            self.dropped["spare"] += len(best[self.settings.max_views :])
            kept = tuple(best[: self.settings.max_views])
            made.append(Faces(subject=None if key[0] else key[1], seen=kept))
        return tuple(made)

    def draft(self) -> tuple[list[Draft], Caption]:
        """The references, subjects first, then faces, then the background; and the caption."""
        caption, spans, ground = self._caption()
        drafts: list[Draft] = []
        for number in range(len(self.scene.subjects)):
            drafts += self._views(number, spans[number])
        alone = len(self.scene.subjects)
        for faces in self.faces:
            place = faces.subject
            if place is None:
                place, alone = alone, alone + 1
            for n, seen in enumerate(faces.seen):
                drafts.append(
                    face_draft(
                        self.frames[seen.frame],
                        seen,
                        place=(place + 1, n + 1),
                        span=spans[place],
                        settings=self.settings.faces,
                    )
                )
        if self.background is not None:
            picture = without(self.frames[self.main], self.hidden)
            drafts.append(background_draft(picture, self.main, alone + 1, self.background, ground))
        return drafts, caption

    def _views(self, number: int, span: Span | None) -> list[Draft]:
        """The views of a subject, that of the main frame first; the first carries the track."""
        subject = self.scene.subjects[number]
        views = sorted(subject.views, key=lambda view: view.frame != self.main)  # stable
        boxes = boxes_of(subject.track, self.numbers, self.length, self.settings.tracks.max_gap)
        made = [
            subject_draft(
                self.frames[view.frame],
                view,
                place=(number + 1, n + 1),
                label=self.scene.labels[number],
                span=span,
                seen=self.scene.face_at(number, view.frame),
                margin=self.settings.crops.margin,
            )
            for n, view in enumerate(views)
        ]
        return [replace(made[0], track=boxes), *made[1:]]

    def _caption(self) -> tuple[Caption, list[Span | None], Span | None]:
        """The caption, the spans of the subjects and of lone faces, and that of the background."""
        lone = [faces.seen[0] for faces in self.faces if faces.subject is None]
        if self.description is not None:
            spans = dict(zip(self.description.subjects, self.description.spans, strict=True))
            said = [spans.get(label.text) for label in self.scene.labels]
            caption = Caption(text=self.description.text, kind="subject_centric")
            return caption, [*said, *(None for _ in lone)], None
        width, height = self.frames.shape[2], self.frames.shape[1]
        subjects = []
        for subject, label in zip(self.scene.subjects, self.scene.labels, strict=True):
            seen = subject.track.at(self.main) or subject.track.sightings[0]
            way = movement_of(subject.track, width, height)
            subjects.append(Described(label=label.text, movement=way, box=seen.box, width=width))
        nothing: Movement | None = None
        subjects += [
            Described(
                label=PERSON if seen.face.score >= self.settings.labels.sure_face else FACE,
                movement=nothing,
                box=seen.face.box,
                width=width,
            )
            for seen in lone
        ]
        text, spans_, ground = describe(self.sample, subjects, self.background)
        return TEMPLATE.model_copy(update={"text": text}), list(spans_), ground
