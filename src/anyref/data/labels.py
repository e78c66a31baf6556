"""What a subject is called, by which model, and whether that can be believed.

A detector trained on photographs gives drawn and rendered animals wrong names at scores up to 1, so
a score alone is not believed: an animal's name needs a classifier that agrees, a person needs a
face. What nobody can name is a "character" when it looks alive, else an "object".

Axes: V views, G words
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from anyref.data.record import ReferenceKind
from anyref.data.thresholds import Section
from anyref.data.tracks import Track
from anyref.perception.contracts import PictureEmbedder, PictureNamer

PERSON, CHARACTER, OBJECT = "person", "character", "object"
ANIMALS = frozenset(
    ["bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"]
)
LIVING = ANIMALS | {PERSON, "teddy bear"}
HUMAN = frozenset(
    ("person", "man", "woman", "boy", "girl", "child", "baby", "lady", "gentleman", "people")
)
AFTER_NOUN = frozenset(("in", "with", "on", "at", "of", "wearing", "holding", "from", "by"))


class LabelSettings(Section):
    """Whose word counts.

    Args:
        trusted_score: a detector's best score from which its label may be believed.
        majority: share of the sightings that have to say so.
        agreement: probability that the classifier has to give the detector's animal (.39 and more
            for a rendered bird; .21 to .39 where rendered rabbits and squirrels are called birds,
            dogs and horses).
        named: probability from which the classifier's own word is taken; .55 to .67 are as often
            wrong as right in an animated film.
        sure_face: score of a face that makes a person of what the classifier takes for an animal;
            faces of rendered animals get up to .91.
        alive: sum of all its animals from which a subject is no thing and no person.
        view_agreement: probability of the label under which a single view of it is dropped.
    """

    trusted_score: float = 0.8
    majority: float = 0.6
    agreement: float = 0.35
    named: float = 0.7
    sure_face: float = 0.92
    alive: float = 0.3
    view_agreement: float = 0.02


@dataclass(frozen=True, kw_only=True)
class Label:
    """A subject's name.

    Args:
        by: who gave it: "objects", "pictures", "captioner", "faces" or "nobody".
        score: theirs, 0 to 1.
    """

    text: str
    by: str
    score: float

    @property
    def kind(self) -> ReferenceKind:
        """Human when the noun is one for a person ("the old man in a blue coat"), else object."""
        words = self.text.lower().split()
        noun = next((n for n, word in enumerate(words) if n and word in AFTER_NOUN), len(words))
        return "human" if words[noun - 1] in HUMAN else "object"


def namer_among(embedders: Sequence[PictureEmbedder]) -> PictureNamer | None:
    """The first of the picture embedders that can name pictures."""
    able = (m for m in embedders if {"name", "words"} <= set(dir(type(m))))
    return cast("PictureNamer | None", next(able, None))


def label_of(
    track: Track,
    words: Sequence[str],
    probabilities: NDArray[np.float32],
    *,
    face: float,
    settings: LabelSettings,
) -> Label:
    """Name a subject.

    Args:
        words: those of the classifier. probabilities: (V, G) of the subject's views; without a
            classifier (V, 0). face: score of the best good face in its box, 0 for none.
    """
    mean = probabilities.mean(0) if len(probabilities) else np.zeros(len(words))  # (G,)
    named = dict(zip(words, mean.tolist(), strict=True))
    alive = sum(named.values()) >= settings.alive
    human = face >= settings.sure_face or (face > 0 and not alive)
    said, score = _majority(track, settings)
    if said is not None:
        if said == PERSON:
            believed = human or (score >= settings.trusted_score and not alive)
        else:
            fits = named.get(said, 0.0) >= settings.agreement
            believed = score >= settings.trusted_score and (
                fits or (said not in LIVING and not alive)
            )
        if believed:
            return Label(text=said, by="objects", score=score)
    best = max(named, key=lambda word: named[word], default=None)
    if best is not None and named[best] >= settings.named:
        return Label(text=best, by="pictures", score=named[best])
    if human and said not in ANIMALS:
        return Label(text=PERSON, by="faces", score=face)
    return Label(text=CHARACTER if alive or said in LIVING else OBJECT, by="nobody", score=0.0)


def _majority(track: Track, settings: LabelSettings) -> tuple[str | None, float]:
    """What the detector mostly says and its best score; None where it does not make up its mind."""
    votes: Counter[str] = Counter()
    for seen in track.sightings:
        if seen.label is not None:
            votes[seen.label] += 1
    if not votes:
        return None, 0.0
    label, count = min(votes.items(), key=lambda pair: (-pair[1], pair[0]))
    if count < settings.majority * votes.total():
        return None, 0.0
    return label, max(seen.score for seen in track.sightings if seen.label == label)
