"""OpenS2V-5M's cross-clip pairs: a subject of one clip found again in another of the same source.

A file holds {cluster: [pair, ...]}, or one cluster's list alone. Pairs are a relation between
records and stay values of their own, written back as they were read; `add_pairs` makes references
of them. The oldest files name no class ids and no parts of the data set; both are read.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import ConfigDict, Field

from anyref.data.json_stream import stream_members
from anyref.data.opens2v_write import FOREIGN
from anyref.data.record import (
    MAX_REFERENCES,
    Number,
    Origin,
    Record,
    Sample,
    SampleReference,
    Scores,
)
from anyref.errors import DataError, TrainingError
from anyref.media import write_atomically

MAX_SIMILARITY = 0.99  # over it the two pictures are one picture
MAX_LIST_BYTES = 64 * 2**20

Verdict = Literal[
    "used",
    "too similar",
    "same clip",
    "unknown sample",
    "unknown subject",
    "given twice",
    "no room",
]


class CrossPair(Record):
    """One match of step 6 (step6-2_get_cross-frame.py); unknown fields are kept.

    Args:
        cur_id, aft_id: keys of two records, after the part and a slash in newer files.
        cur_class_id, aft_class_id: 1-based annotation of each, as a string; newer files only.
        text_similarity, image_similarity: cosines by GME in fp16, may pass 1.
        cur_frame_idx, aft_frame_idx: annotated frame of each, in its source file.

    Raises:
        TrainingError: for a missing or wrong field.
    """

    model_config = ConfigDict(extra="allow")

    cur_id: str
    aft_id: str
    cur_class_id: str | None = None
    aft_class_id: str | None = None
    cur_class_name: str
    aft_class_name: str
    text_similarity: Number
    image_similarity: Number
    cur_frame_idx: int | None = Field(default=None, ge=0)
    aft_frame_idx: int | None = Field(default=None, ge=0)

    def as_json(self) -> dict[str, Any]:
        """The members that the pair was read from."""
        return self.model_dump(exclude_unset=True)


@dataclass(frozen=True)
class Cluster:
    """The pairs of one source video; name is None in a file of one bare list."""

    name: str | None
    pairs: tuple[CrossPair, ...]


def read_pairs(path: str | Path) -> Iterator[Cluster]:
    """The clusters of a pairs file, in order, one at a time in memory.

    Raises:
        DataError: when the file cannot be read, is of neither form, is a bare list over 64 MiB,
            or a pair is not valid.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            bare = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
        if bare and path.stat().st_size > MAX_LIST_BYTES:
            raise DataError(f"{str(path)!r} is a list over 64 MiB; split it by cluster")
        listed: list[tuple[str | None, Any]] | None = None
        if bare:
            listed = [(None, json.loads(path.read_text(encoding="utf-8-sig")))]
    except DataError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}; check the file") from error
    for name, found in stream_members(path) if listed is None else listed:
        yield Cluster(name, tuple(_pairs(found, f"{str(path)!r}, cluster {name!r}")))


def _pairs(found: Any, place: str) -> Iterator[CrossPair]:
    if not isinstance(found, list):
        raise DataError(f"{place} is a {type(found).__name__}, a list of pairs is needed")
    for number, said in enumerate(found, start=1):
        if not isinstance(said, dict):
            raise DataError(f"{place}, pair {number} is not an object")
        try:
            yield CrossPair(**said)
        except TrainingError as error:
            raise DataError(f"{place}, pair {number}: {error}") from error


def write_pairs(path: str | Path, clusters: Iterable[Cluster]) -> int:
    """Write clusters as a pairs file of the form they came in; how many pairs.

    Raises:
        DataError: for a cluster given twice, or a bare list beside other clusters.
        MediaError: when the folder cannot be written.
    """
    members: dict[str | None, list[dict[str, Any]]] = {}
    for cluster in clusters:
        if cluster.name in members or (members and None in (cluster.name, *members)):
            raise DataError(
                f"cluster {cluster.name!r} is given twice, or beside a list without a name; join "
                "the pairs of one cluster and name it"
            )
        members[cluster.name] = [pair.as_json() for pair in cluster.pairs]
    content: Any = members.get(None, members)
    text = json.dumps(content, indent=4, allow_nan=False)

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_atomically(path, write)
    return sum(len(pairs) for pairs in members.values())


def kept_pair(reference: SampleReference) -> Cluster | None:
    """The pair that a reference was added for, alone in its cluster.

    Raises:
        DataError: when what is kept is none.
    """
    kept: Any = (reference.foreign or {}).get(FOREIGN)
    said = kept.get("pair") if isinstance(kept, dict) else None
    if not isinstance(said, dict):
        return None
    name = kept.get("cluster")
    try:
        return Cluster(name if isinstance(name, str) else None, (CrossPair(**said),))
    except TrainingError as error:
        raise DataError(f"reference {reference.ref_id!r} keeps no valid pair: {error}") from error


def add_pairs(
    samples: Sequence[Sample], clusters: Iterable[Cluster]
) -> tuple[list[Sample], Counter[Verdict]]:
    """Give samples the pictures that pairs found in other clips, each way.

    A pair adds to either clip a "cross_clip" reference: the other clip's picture (none is cut
    here), box, mask, label and kind, and this clip's entity and caption span. The one of the pair's
    `cur` clip keeps the pair, so that an export writes it again. A pair is left out when its image
    similarity is over 0.99, when both ends are one clip, when a clip is not among the samples (or
    an id without part fits several), when a class name without id fits no or several references,
    when it is given twice, and when a sample has 64 references.

    Args:
        samples: of `opens2v_read`; all clips of a cluster at least, see `rules.cluster_name`.

    Returns:
        the samples in their order, and how often each of `Verdict` befell a pair; a pair that had
        room one way only is "used".
    """
    find = _Finder(samples)
    counts: Counter[Verdict] = Counter()
    added: dict[str, list[SampleReference]] = defaultdict(list)
    for name, pair in ((cluster.name, pair) for cluster in clusters for pair in cluster.pairs):
        ends = _ends(pair, find)
        if isinstance(ends, str):
            counts[ends] += 1
            continue
        said: dict[str, Any] = {"text_similarity": pair.text_similarity}
        whole = {**said, "pair": pair.as_json(), **({} if name is None else {"cluster": name})}
        (cur, cur_reference), (aft, aft_reference) = ends
        verdicts = (
            _add(added, cur, cur_reference, aft, aft_reference, pair, whole),
            _add(added, aft, aft_reference, cur, cur_reference, pair, said),
        )
        counts["used" if "used" in verdicts else verdicts[0]] += 1
    return [
        Sample(**dict(sample, references=(*sample.references, *added[sample.id])))
        if added[sample.id]
        else sample
        for sample in samples
    ], counts


End = tuple[Sample, SampleReference]


def _ends(pair: CrossPair, find: _Finder) -> tuple[End, End] | Verdict:
    """Both ends of a pair, or why it is left out."""
    if pair.image_similarity > MAX_SIMILARITY:
        return "too similar"
    if bare_key(pair.cur_id) == bare_key(pair.aft_id):
        return "same clip"
    cur, aft = find.sample(pair.cur_id), find.sample(pair.aft_id)
    if cur is None or aft is None:
        return "unknown sample"
    if cur.id == aft.id:
        return "same clip"
    one = _subject(cur, pair.cur_class_id, pair.cur_class_name)
    other = _subject(aft, pair.aft_class_id, pair.aft_class_name)
    if one is None or other is None:
        return "unknown subject"
    return (cur, one), (aft, other)


class _Finder:
    """Samples by the ids that pairs use, with and without part."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._by_id: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            kept = (sample.foreign or {}).get(FOREIGN)
            part = kept.get("part") if isinstance(kept, dict) else None
            key = sample.source_key or sample.id
            self._by_id[key].append(sample)
            if part:
                self._by_id[f"{part}/{key}"].append(sample)

    def sample(self, name: str) -> Sample | None:
        found = self._by_id.get(name, [])
        return found[0] if len(found) == 1 else None


def bare_key(name: str) -> str:
    """The key of a record in its file, of an id that may name the part before it."""
    return name.rpartition("/")[2]


def _subject(sample: Sample, number: str | None, label: str) -> SampleReference | None:
    """The annotation of that number and name, or the only one of that name."""
    found = [
        reference
        for reference in sample.references
        if reference.pair_type == "regular"
        and reference.label == label
        and number in (None, reference.ref_id)
    ]
    return found[0] if len(found) == 1 else None


def _add(
    added: dict[str, list[SampleReference]],
    sample: Sample,
    own: SampleReference,
    other: Sample,
    shown: SampleReference,
    pair: CrossPair,
    kept: dict[str, Any],
) -> Verdict:
    """Add to `sample` what `other` shows of its subject `own`, if there is room."""
    name = f"{own.ref_id}-{other.id}-{shown.ref_id}"
    taken = {reference.ref_id for reference in (*sample.references, *added[sample.id])}
    if name in taken:
        return "given twice"
    if len(taken) >= MAX_REFERENCES:
        return "no room"
    scores = shown.scores.model_copy(update={"gme_image_to_target": pair.image_similarity})
    added[sample.id].append(
        SampleReference(
            ref_id=name,
            kind=shown.kind,
            label=shown.label,
            entity_id=own.entity_id,
            pair_type="cross_clip",
            image=shown.image,
            origin=Origin(sample_id=other.id, frame=shown.origin.frame),
            bbox_xyxy=shown.bbox_xyxy,
            mask=shown.mask,
            caption_span=own.caption_span,
            scores=Scores(**dict(scores)),
            foreign={FOREIGN: kept},
        )
    )
    return "used"
