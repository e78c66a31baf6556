"""Pictures of a subject that other clips show of it.

A model that only ever sees a subject as the clip itself shows it learns to copy the picture. So a
subject gets pictures from other clips: the most similar ones, of which it is surest, but none that
is nearly the same picture, and each from another clip: a face for a face, a cut-out for a cut-out.
"""

# Axes: N own views, M views that others lend, D features

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anyref.data.gallery import Clip, Gallery, View
from anyref.data.identities import Identity, Member
from anyref.data.neighbours import Vectors
from anyref.data.thresholds import Limit, Section

COMPANY = 256  # members of an identity that look for pictures among themselves


class PairSettings(Section):
    """Which pictures of another clip a subject gets.

    Args:
        at_least: least similarity of looks, 0 to 1, unless both show a face.
        at_most: largest cosine of the embedder's features. Pictures of one take at nearly the same
            moment have .82 to .91 by EfficientNet-Lite0.
        per_reference: how many pictures each main view gets at most.
    """

    at_least: Limit = 0.65
    at_most: Limit = 0.9
    per_reference: int = 4


@dataclass(frozen=True, slots=True)
class Pair:
    """A view of a clip, and one of another clip that shows the same.

    Args:
        similarity: cosine of the embedder's features.
    """

    own: str
    clip: int
    view: View
    similarity: float


def find_pairs(
    gallery: Gallery, identities: Iterable[Identity], settings: PairSettings, views: int
) -> dict[int, list[Pair]]:
    """The pictures that each clip gets, by its place.

    Of an identity with more than 256 subjects, such as a host of many shows, those look for
    pictures among themselves that are next to each other in the order of the clips: cost then grows
    with the number of subjects and not with its square.

    Args:
        views: how many views of an identity with a face lend their pictures.
    """
    found: dict[int, list[Pair]] = defaultdict(list)
    for identity in identities:
        if len(identity.clips) < 2:
            continue
        parts = -(-len(identity.members) // COMPANY)
        for part in np.array_split(np.arange(len(identity.members)), parts):
            members = [identity.members[index] for index in part]
            for place, pairs in _pairs_among(gallery, members, settings, views).items():
                found[place] += pairs
    return dict(found)


_Lender = tuple[int, View]


def _pairs_among(
    gallery: Gallery, members: Sequence[Member], settings: PairSettings, views: int
) -> Mapping[int, list[Pair]]:
    """All members against all views that they lend."""
    clips = gallery.clips
    lenders: list[_Lender] = [
        (place, view) for place, number in members for view in clips[place].subjects[number].views
    ]
    own = [lender for lender in lenders if lender[1].main]
    lenders = _spread(lenders, views)
    if not own or not lenders:
        return {}
    looks = _products(gallery.looks, own, lenders)  # (N, M)
    same = _products(gallery.features, own, lenders)  # (N, M)
    faces = np.array([view.face is not None for _, view in lenders])  # (M,)
    portraits = np.array([view.portrait for _, view in lenders])  # (M,)
    found: dict[int, list[Pair]] = defaultdict(list)
    for row, (place, view) in enumerate(own):
        sure = looks[row] >= settings.at_least  # (M,)
        if view.face is not None:
            sure |= faces
        allowed = sure & (same[row] <= settings.at_most) & (portraits == view.portrait)
        columns = _best(looks[row], allowed, place, lenders, clips)[: settings.per_reference]
        found[place] += [
            Pair(view.ref_id, lenders[column][0], lenders[column][1], float(same[row, column]))
            for column in columns
        ]
    return found


def _spread(lenders: list[_Lender], views: int) -> list[_Lender]:
    """All views without a face, and of those with one so many, evenly spread over the clips."""
    with_face = [index for index, (_, view) in enumerate(lenders) if view.face is not None]
    if len(with_face) <= views:
        return lenders
    even = np.linspace(0, len(with_face) - 1, views).round().astype(int)
    dropped = set(with_face) - {with_face[index] for index in even}
    return [lender for index, lender in enumerate(lenders) if index not in dropped]


def _products(
    vectors_of: Callable[[Iterable[View]], Vectors], own: list[_Lender], lenders: list[_Lender]
) -> Vectors:
    first, second = (vectors_of([view for _, view in some]) for some in (own, lenders))
    return first @ second.T  # (N, M)


def _best(
    similarity: Vectors,
    allowed: np.ndarray,
    place: int,
    lenders: Sequence[_Lender],
    clips: Sequence[Clip],
) -> list[int]:
    """Columns from the most similar on, one per clip, none of a clip with common frames."""
    order = np.lexsort((np.arange(len(lenders)), -similarity))
    taken: list[int] = []
    seen: set[int] = {place}
    for column in order.tolist():
        other = lenders[column][0]
        if allowed[column] and other not in seen and not clips[place].overlaps(clips[other]):
            seen.add(other)
            taken.append(column)
    return taken
