"""What the clips of a dataset show, as far as clips have to be compared: no pixels, no captions.

Clips are put in an order of their own (path of the source, first frame, id), so that nothing that
follows depends on the order of the rows. Vectors and the text of references lie in files meanwhile.
"""

# Axes: N references, D features, C colour bins

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anyref.data.appearance import COLOUR_BINS, SAMPLED, Appearance, Vectors, count_colours
from anyref.data.dataset import read_asset, write_asset
from anyref.data.duplicates import LAYOUT, fingerprint
from anyref.data.neighbours import VectorFile
from anyref.data.record import Asset, Origin, Sample, SampleReference
from anyref.data.rows import Row
from anyref.errors import DataError
from anyref.perception.contracts import unit

CLIP_FEATURES, FEATURES, FACES, COLOURS = "clip-features", "features", "face-features", "colours"
SUBJECTS = frozenset({"human", "face", "object"})
OWN = frozenset({"regular", "in_clip_other_frame"})


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """A picture of a subject.

    Args:
        portrait: whether it is a picture of the face alone.
        look: place of its vectors. face: place of its face's vector; None without a face.
        text: first byte and length of what a pair takes over of the reference.
    """

    ref_id: str
    main: bool
    portrait: bool
    look: int
    face: int | None
    text: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One subject of one clip.

    Args:
        word: its label where that can be trusted.
    """

    entity_id: str
    word: str | None
    views: tuple[View, ...]

    @property
    def whole(self) -> tuple[View, ...]:
        """Its views that are not of the face alone; all, where there are only such."""
        return tuple(view for view in self.views if not view.portrait) or self.views


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A clip. start, end: frames of the source. middle: place of its vector."""

    id: str
    uri: str
    start: int
    end: int
    middle: int | None
    subjects: tuple[Subject, ...]
    backgrounds: tuple[Asset, ...]

    def overlaps(self, other: Clip) -> bool:
        """Whether both show some of the same frames."""
        return self.uri == other.uri and self.start < other.end and other.start < self.end


class Gallery:
    """The clips of a dataset, a context manager; `add` them all, then `arrange` once.

    Args:
        folder: of the dataset. trusted: how sure of a label a detector must be, 0 to 1.
        colours: whether colours are counted; they need every picture to be read.
    """

    def __init__(self, folder: Path, trusted: float, colours: bool = True) -> None:
        self.folder, self.trusted = folder, trusted
        self.clips: list[Clip] = []
        self._files = ExitStack()
        self.clip_features, self._features, self._colours, self._faces = (
            self._files.enter_context(VectorFile(folder, kind))
            for kind in (np.float16, np.float16, np.float16, np.float32)
        )
        self._texts = self._files.enter_context(tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
        self._length = 0
        self._count_colours = colours
        self.colours: dict[str, str] = {}
        self._appearance: Appearance | None = None

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def add(self, row: Row, sample: Sample) -> None:
        """A clip and its subjects; a clip whose stages left no features shows no subjects.

        Raises:
            DataError: an asset that is missing or damaged, features of another number of
                references, or of another model than before.
        """
        middle = self._fingerprint(row)
        references = sample.references
        features = self._read(row, FEATURES)
        subjects: tuple[Subject, ...] = ()
        if features is not None and len(references):
            faces = self._read(row, FACES)
            for name, rows in ((FEATURES, features), (FACES, faces)):
                if rows is not None and (rows.ndim != 2 or len(rows) != len(references)):
                    raise DataError(
                        f"{row.id!r} has {name} {rows.shape} for {len(references)} references; "
                        "make it again"
                    )
            subjects = self._subjects(
                references, features, faces, self._colours_of(row, references)
            )
        self.clips.append(
            Clip(
                id=row.id,
                uri=row.uri,
                start=sample.video.start,
                end=sample.video.end,
                middle=None if middle is None else self.clip_features.add(unit(middle[None])),
                subjects=subjects,
                backgrounds=tuple(
                    Asset(**dict(r.image))
                    for r in references
                    if r.kind == "background" and r.image.uri is not None
                ),
            )
        )

    def arrange(self, colour_share: float) -> None:
        """Put the clips in order, after the last."""
        self.clips.sort(key=lambda clip: (clip.uri, clip.start, clip.end, clip.id))
        looks = [v.look for clip in self.clips for s in clip.subjects for v in s.views]
        sampled = looks[:: max(1, -(-len(looks) // SAMPLED))]
        share = colour_share if self._count_colours else 0.0
        self._appearance = Appearance.fit(self._features.take(sampled), share)

    def looks(self, views: Iterable[View]) -> Vectors:
        """What the views look like: unit vectors (N, D) of `Appearance`."""
        places = [view.look for view in views]
        assert self._appearance is not None, "arrange first"
        return self._appearance.describe(self._features.take(places), self._colours.take(places))

    def features(self, views: Iterable[View]) -> Vectors:
        """The embedder's own unit vectors (N, D) of the views."""
        return self._features.take([view.look for view in views])

    def faces(self, views: Iterable[View]) -> Vectors:
        """The vectors (N, D) of the faces of views that have one, as the embedder gave them."""
        return self._faces.take([view.face for view in views if view.face is not None])

    def reference(self, view: View) -> SampleReference:
        """What a pair takes over of a view: all but its mask, its track and its caption span."""
        start, length = view.text
        self._texts.seek(start)
        return SampleReference(**json.loads(self._texts.read(length)))

    def _subjects(
        self,
        references: Sequence[SampleReference],
        features: NDArray[np.floating],
        faces: NDArray[np.floating] | None,
        colours: Vectors,
    ) -> tuple[Subject, ...]:
        views: dict[str, list[View]] = {}
        words: dict[str, str | None] = {}
        for number, reference in enumerate(references):
            vector = features[number]
            if not _shows_subject(reference) or not np.isfinite(vector).all() or not vector.any():
                continue
            self._colours.add(colours[number : number + 1])
            face = None if faces is None else faces[number]
            has_face = face is not None and bool(np.isfinite(face).all())
            view = self._view(reference, vector, face if has_face else None)
            views.setdefault(reference.entity_id, []).append(view)
            if words.get(reference.entity_id) is None:
                words[reference.entity_id] = self._word(reference)
        return tuple(
            Subject(entity_id=entity, word=words[entity], views=tuple(found))
            for entity, found in views.items()
        )

    def _word(self, reference: SampleReference) -> str | None:
        if reference.kind == "face" or (reference.scores.det_conf or 0.0) < self.trusted:
            return None
        return reference.label.casefold()

    def _view(
        self,
        reference: SampleReference,
        vector: NDArray[np.floating],
        face: NDArray[np.floating] | None,
    ) -> View:
        look = self._features.add(unit(vector[None]))
        kept = {"mask": None, "track": None, "caption_span": None}
        text = reference.model_copy(update=kept).model_dump_json(exclude_none=True).encode()
        self._texts.seek(self._length)
        self._texts.write(text)
        place, self._length = (self._length, len(text)), self._length + len(text)
        return View(
            ref_id=reference.ref_id,
            main=reference.pair_type == "regular",
            portrait=reference.kind == "face",
            look=look,
            face=None if face is None else self._faces.add(face[None]),
            text=place,
        )

    def _colours_of(self, row: Row, references: Sequence[SampleReference]) -> Vectors:
        """A row (C,) per reference, from the row's asset or counted now."""
        if not self._count_colours:
            return np.zeros((len(references), 1), np.float32)
        known = self._read(row, COLOURS)
        if known is not None and known.shape == (len(references), COLOUR_BINS):
            self.colours[row.id] = row.assets[COLOURS]
            return known
        counted = np.zeros((len(references), COLOUR_BINS), np.float16)
        for number, reference in enumerate(references):
            if _shows_subject(reference):
                counted[number] = count_colours(read_asset(self.folder, reference.image))
        buffer = io.BytesIO()
        np.save(buffer, counted, allow_pickle=False)
        self.colours[row.id] = str(write_asset(self.folder, buffer.getvalue(), "npy").uri)
        return counted.astype(np.float32)

    def _fingerprint(self, row: Row) -> NDArray[np.floating] | None:
        """What near-duplicates are compared by; of a dataset without layouts the features alone."""
        features, layout = self._read(row, CLIP_FEATURES), self._read(row, LAYOUT)
        return features if features is None or layout is None else fingerprint(features, layout)

    def _read(self, row: Row, name: str) -> NDArray[np.floating] | None:
        uri = row.assets.get(name)
        if uri is None:
            return None
        data = read_asset(self.folder, uri)
        try:
            array = np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"{name} of {row.id!r} is no array ({error}); make it again") from error
        return np.asarray(array, np.float32)


def _shows_subject(reference: SampleReference) -> bool:
    """Whether it is a stored picture of a subject, and of this clip."""
    ours = reference.kind in SUBJECTS and reference.pair_type in OWN
    return ours and reference.image.uri is not None


def origin_of(clip: Clip, reference: SampleReference) -> Origin:
    """Where the picture comes from, for a pair."""
    return Origin(sample_id=clip.id, frame=reference.origin.frame)
