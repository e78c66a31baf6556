"""Which subjects of different clips are one: faces first, then what they look like.

Agglomerative clustering with average linkage, inside every source first and across sources then.
What speaks against a pair is stronger than what speaks for it, since one wrong subject in a cluster
spoils every pair with it: subjects of one clip are never one, trusted labels must agree, faces that
both can be seen must be near, and where two subjects of a clip could both be meant, neither is.
"""

# Axes: N vectors, D features

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anyref.data.gallery import Gallery, Subject
from anyref.data.neighbours import Edge, mutual_neighbours
from anyref.data.thresholds import Limit, Section
from anyref.perception.contracts import Metric, unit

MAX_ACROSS = 300_000  # identities that are compared across sources, those of most clips first

Member = tuple[int, int]  # a clip, and which of its subjects


class IdentitySettings(Section):
    """How sure one must be that two subjects are one.

    Args:
        face_distance: largest mean distance of faces whose embedder is Euclidean (dlib: the same
            person .25 to .53, 22 strangers from .43, median .75).
        face_similarity: least mean cosine of faces otherwise (MobileFaceNet: the same person .63
            to .91, 22 strangers up to .57).
        similarity: least mean similarity of looks, 0 to 1, see `appearance`. Of all pairs of 90
            cut-outs of an animated film half are under .48 and one in ten over .63. A limit of .6
            makes clusters of 524 pairs, 522 of them of one look, of .65 175 of 177; two squirrels
            of the same fur count as one look here, by name they are two.
        margin: how much less similar any other subject of either clip must be.
        across: what is added to `similarity` between sources.
        colour_share: how much of the similarity the colours of the cut-outs make.
        trusted_label: confidence from which a detector's label is believed; over 1 for never.
        neighbours: how many of the nearest subjects of each are looked at.
        views: how many views of one identity with a face lend their pictures to others.
    """

    face_distance: Limit = 0.42
    face_similarity: Limit = 0.6
    similarity: Limit = 0.63
    margin: Limit = 0.02
    across: Limit = 0.03
    colour_share: Limit = 0.15
    trusted_label: Limit = 0.9
    neighbours: int = 24
    views: int = 10


@dataclass(slots=True)
class Identity:
    """Subjects that are taken for one.

    Args:
        faces, looks: sums of vectors (D,), how many, and the sum of their squared lengths.
    """

    members: list[Member]
    clips: set[int]
    sources: set[str]
    words: set[str]
    faces: _Sum
    looks: _Sum


@dataclass(slots=True)
class _Sum:
    vector: NDArray[np.float32]
    count: int = 0
    squares: float = 0.0

    def __add__(self, other: _Sum) -> _Sum:
        return _Sum(
            self.vector + other.vector, self.count + other.count, self.squares + other.squares
        )

    def distance(self, other: _Sum) -> float:
        """Mean squared distance over all pairs of vectors; infinite without vectors."""
        if not self.count or not other.count:
            return float("inf")
        product = float(self.vector @ other.vector) / (self.count * other.count)
        return self.squares / self.count + other.squares / other.count - 2 * product


@dataclass(frozen=True, kw_only=True)
class _Space:
    """One way to compare. limit: largest mean squared distance inside, and across sources."""

    name: str
    limit: float
    limit_across: float

    def of(self, identity: Identity) -> _Sum:
        found: _Sum = getattr(identity, self.name)
        return found


def find_identities(
    gallery: Gallery, dropped: Iterable[int], settings: IdentitySettings, metric: Metric
) -> list[Identity]:
    """The identities of a dataset, each subject in one; in the order of their first member.

    Args:
        dropped: places of clips that are left out. metric: of the face features.
    """
    faces = settings.face_distance**2
    if metric == "cosine":
        faces = 2 - 2 * settings.face_similarity
    spaces = (
        _Space(name="faces", limit=faces, limit_across=faces),
        _Space(
            name="looks",
            limit=2 - 2 * settings.similarity,
            limit_across=2 - 2 * (settings.similarity + settings.across),
        ),
    )
    by_source: dict[str, list[Identity]] = defaultdict(list)
    left_out = set(dropped)
    for place, clip in enumerate(gallery.clips):
        if place not in left_out:
            for number, subject in enumerate(clip.subjects):
                single = _single(gallery, (place, number), subject, metric)
                by_source[clip.uri].append(single)
    merge = _Merger(settings, faces)
    joined: list[Identity] = []
    for identities in by_source.values():
        for space in spaces:
            identities = merge(identities, space, across=False)  # noqa: PLW2901
        joined += identities
    if len(by_source) > 1:
        for space in spaces:
            joined = merge(joined, space, across=True)
    return sorted(joined, key=lambda identity: identity.members[0])


def _single(gallery: Gallery, member: Member, subject: Subject, metric: Metric) -> Identity:
    looks = gallery.looks(subject.whole)  # (N, D)
    faces = gallery.faces(subject.views)  # (N, D)
    if metric == "cosine":
        faces = unit(faces)
    return Identity(
        members=[member],
        clips={member[0]},
        sources={gallery.clips[member[0]].uri},
        words={subject.word} - {None},  # type: ignore[arg-type]
        faces=_Sum(faces.sum(0), len(faces), float((faces**2).sum())),
        looks=_Sum(looks.sum(0), len(looks), float((looks**2).sum())),
    )


@dataclass(frozen=True)
class _Merger:
    """Joins what is near enough in a space, the nearest first. faces: limit of mean distances."""

    settings: IdentitySettings
    faces: float

    def __call__(self, identities: list[Identity], space: _Space, across: bool) -> list[Identity]:
        limit = space.limit_across if across else space.limit
        taking_part = [i for i, one in enumerate(identities) if space.of(one).count]
        if across and len(taking_part) > MAX_ACROSS:
            taking_part.sort(key=lambda i: -len(identities[i].clips))
            taking_part = sorted(taking_part[:MAX_ACROSS])
        chosen = [identities[i] for i in taking_part]
        near = self._clear(chosen, self._near(chosen, space, limit, across))
        edges = [
            (taking_part[i], taking_part[j])
            for i, j in near
            if self._may_join(chosen[i], chosen[j])
        ]
        return _agglomerate(identities, edges, limit, space.of, self._may_join)

    def _near(
        self, identities: Sequence[Identity], space: _Space, limit: float, across: bool
    ) -> dict[Edge, float]:
        """Mutual neighbours of other clips, across sources of other sources, and how far."""
        if len(identities) < 2:
            return {}
        sums = [space.of(one) for one in identities]
        vectors = np.stack([one.vector / np.float32(one.count) for one in sums])  # (N, D)
        squares = np.array([one.squares / one.count for one in sums], np.float32)  # (N,)
        owners = [min(one.sources) if across else min(one.clips) for one in identities]
        groups = np.unique(np.array(owners), return_inverse=True)[1]  # (N,)
        return mutual_neighbours(vectors, squares, limit, self.settings.neighbours, groups)

    def _clear(
        self, identities: Sequence[Identity], near: Mapping[Edge, float]
    ) -> dict[Edge, float]:
        """Without pairs that another subject of the same clip fits about as well."""
        around: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for (i, j), distance in near.items():
            around[i].append((j, distance))
            around[j].append((i, distance))

        def rivalled(i: int, j: int, distance: float) -> bool:
            return any(
                other != j
                and its - distance < 2 * self.settings.margin
                and not identities[other].clips.isdisjoint(identities[j].clips)
                for other, its in around[i]
            )

        return {
            (i, j): distance
            for (i, j), distance in near.items()
            if not rivalled(i, j, distance) and not rivalled(j, i, distance)
        }

    def _may_join(self, one: Identity, other: Identity) -> bool:
        if not one.clips.isdisjoint(other.clips):
            return False
        if one.words and other.words and one.words != other.words:
            return False
        if one.faces.count and other.faces.count:
            return one.faces.distance(other.faces) <= self.faces
        return True


def _agglomerate(
    identities: Sequence[Identity],
    edges: Iterable[Edge],
    limit: float,
    of: Callable[[Identity], _Sum],
    may_join: Callable[[Identity, Identity], bool],
) -> list[Identity]:
    """Join the two nearest that are linked and may be, until none is within the limit.

    What is joined inherits the links of both; its distance to others is the mean over all pairs of
    vectors (average linkage).
    """
    alive = dict(enumerate(identities))
    links: dict[int, set[int]] = defaultdict(set)
    heap: list[tuple[float, int, int]] = []

    def link(i: int, j: int) -> None:
        links[i].add(j)
        links[j].add(i)
        distance = of(alive[i]).distance(of(alive[j]))
        if distance <= limit:
            heapq.heappush(heap, (distance, i, j))

    for i, j in edges:
        link(i, j)
    number = len(identities)
    while heap:
        _, i, j = heapq.heappop(heap)
        if i not in alive or j not in alive or not may_join(alive[i], alive[j]):
            continue
        joined = _joined(alive.pop(i), alive.pop(j))
        around = sorted((links.pop(i) | links.pop(j)) & alive.keys())
        alive[number] = joined
        for other in around:
            links[other] -= {i, j}
            link(other, number)
        number += 1
    return list(alive.values())


def _joined(one: Identity, other: Identity) -> Identity:
    return Identity(
        members=sorted(one.members + other.members),
        clips=one.clips | other.clips,
        sources=one.sources | other.sources,
        words=one.words | other.words,
        faces=one.faces + other.faces,
        looks=one.looks + other.looks,
    )
