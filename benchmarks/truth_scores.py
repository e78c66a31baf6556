"""What the data engine made of a collection, against the truth: one `Outcome` per clip, and pairs.

Axes: Y X pixels
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from truth_faces import overlap
from truth_films import Segment

from anyref.data.describe import MOVES
from anyref.data.labels import CHARACTER, HUMAN, OBJECT, PERSON
from anyref.data.masks import decode
from anyref.data.record import Box, Sample, SampleReference
from anyref.data.rows import Row
from anyref.data.thresholds import Rule

FIRST, END = "first_frame", "end_frame"  # of the film; what the benchmark's own stage measures
OWN = {  # whose limits a planted defect has to break
    "blur": {"blur", "sharpness", "naturalness"},
    "darkness": {"brightness", "dark_frames"},
    "watermark": {"watermark_edges", "watermark_text", "text_area"},
    "static": {"still_frames", "motion_amplitude"},
}
SHOWN = ("regular", "in_clip_other_frame")  # pictures of the clip itself
SUBJECTS = ("human", "object")
SAME = 0.5  # IoU of a found mask and a true one
OVER_FACE = 0.25  # IoU of an object's mask and a face's box
NEAR = 2  # frames that a cut may be off


@dataclass(kw_only=True)
class Outcome:
    """What became of a segment.

    Args:
        rows: clips made of it. whole: one clip, which shows nearly all of it and nothing else.
        accepted, stage: in use, or what rejected it. faults: measurements outside their limits.
        copied: whether another segment is a copy of it.
        caught, own: planted defects: not in use, rejected by its own filter; None if not judged.
        found: IoU with the truth of every subject found (0: no subject). missed: subjects.
        spans: per subject found, whether the caption names it where its span says.
        moves: what the caption says of a subject's way and the truth.
        names: the label, the true name, and whether one is in the other; None for no name.
    """

    kind: str
    variant: str
    film: str
    rows: int = 0
    whole: bool = False
    accepted: bool = False
    stage: str | None = None
    faults: list[str] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)
    copied: bool = False
    caught: bool | None = None
    own: bool | None = None
    found: list[float] | None = None
    missed: int = 0
    spans: list[bool] = field(default_factory=list)
    moves: list[tuple[str | None, str]] = field(default_factory=list)
    names: list[tuple[str, str, bool | None]] = field(default_factory=list)


def faults_of(numbers: Mapping[str, float], rules: Iterable[Rule]) -> list[str]:
    """The measurements that are outside their limits."""
    judged = [(rule, rule.judge("", numbers.get(rule.measurement))) for rule in rules]
    return sorted({rule.measurement for rule, rejection in judged if rejection is not None})


def rows_of(segment: Segment, rows: Iterable[Row]) -> list[Row]:
    """The clips that show a segment, the one that shows most of it first."""
    near = [(_common(segment, row), row) for row in rows if PurePath(row.uri).name == segment.film]
    return [row for common, row in sorted(near, key=lambda p: -p[0]) if common > NEAR]


def _common(segment: Segment, row: Row) -> float:
    if FIRST not in row.measurements:
        return 0.0
    first, end = row.measurements[FIRST], row.measurements[END]
    return min(end, segment.end) - max(first, segment.start)


def crosses(row: Row, frame: int) -> bool:
    """Whether a clip goes on over a cut of the film."""
    first, end = row.measurements.get(FIRST, frame), row.measurements.get(END, frame)
    return first < frame - NEAR < frame + NEAR < end


def outcome_of(segment: Segment, rows: Sequence[Row], rules: Sequence[Rule]) -> Outcome:
    """Judge one segment by the clips that show it; duplicates are judged by `judge_copies`."""
    made = Outcome(kind=segment.kind, variant=segment.variant, film=segment.film)
    mine = rows_of(segment, rows)
    made.rows = len(mine)
    if mine:
        row = mine[0]
        inside = not any(crosses(row, joint) for joint in (segment.start, segment.end))
        shown = _common(segment, row) / (segment.end - segment.start)
        made.whole = len(mine) == 1 and inside and shown > 0.8
        made.accepted, made.stage = row.status == "accepted", row.stage
        made.faults = faults_of(row.measurements, rules)
        made.numbers = {name: round(value, 5) for name, value in row.measurements.items()}
        if row.record is not None and segment.kind == "clean":
            look_at(made, row.sample(), segment)
    _judge(made, segment, mine)
    return made


def _judge(made: Outcome, segment: Segment, mine: Sequence[Row]) -> None:
    kind = segment.kind
    if kind == "cut" and segment.cut is not None:
        over = [row for row in mine if crosses(row, segment.cut)]
        made.caught = all(row.status == "rejected" for row in over)
        made.own = not over or "cut_inside" in made.faults
    elif kind == "face":
        judged = bool(mine) and mine[0].record is not None
        made.own = not _covering(mine[0].sample(), segment) if judged else None
        made.caught = not made.accepted or made.own
    elif kind in OWN:
        made.caught = not any(row.status == "accepted" for row in mine)
        made.own = bool(OWN[kind] & set(made.faults)) if mine else None


def frame_of(reference: SampleReference, sample: Sample, segment: Segment) -> int:
    """The frame of a segment that a reference was cut from."""
    video = sample.video
    step = (video.end - 1 - video.start) / max(1, video.num_frames - 1)
    frame = round(video.start + (reference.origin.frame or 0) * step) - segment.start
    return min(max(frame, 0), segment.end - segment.start - 1)


def _resized(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask (Y, X) in other rows and columns, the nearest pixels."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[rows][:, columns]


def _iou(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    union = int((one | two).sum())
    return int((one & two).sum()) / union if union else 0.0


def _true_masks(
    reference: SampleReference, sample: Sample, segment: Segment
) -> dict[str, NDArray[np.bool_]]:
    """The figures' masks in the frame of a reference, in the clip's size, by key."""
    frame, size = frame_of(reference, sample, segment), (sample.video.height, sample.video.width)
    return {f.key: _resized(decode(f.masks[frame]), size) for f in segment.figures}


def ious_of(sample: Sample, segment: Segment) -> dict[str, dict[str, float]]:
    """IoU of each subject found with each figure, by entity and key."""
    found: dict[str, dict[str, float]] = {}
    for reference in shown(sample):
        if reference.kind in SUBJECTS and reference.mask and reference.entity_id not in found:
            pixels = decode(reference.mask)
            true = _true_masks(reference, sample, segment)
            found[reference.entity_id] = {key: _iou(pixels, mask) for key, mask in true.items()}
    return found


def shown(sample: Sample) -> list[SampleReference]:
    """The references that the clip itself shows."""
    return [reference for reference in sample.references if reference.pair_type in SHOWN]


def matched(ious: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[str, float]]:
    """Each figure to one subject found at most, the best first: key and IoU by entity."""
    pairs = sorted(
        ((value, entity, key) for entity, some in ious.items() for key, value in some.items()),
        key=lambda pair: (-pair[0], pair[1:]),
    )
    taken: dict[str, tuple[str, float]] = {}
    for value, entity, key in pairs:
        if value >= SAME and entity not in taken and key not in {k for k, _ in taken.values()}:
            taken[entity] = key, value
    return taken


def look_at(made: Outcome, sample: Sample, segment: Segment) -> None:
    """Note which subjects were found, and what the caption says of them."""
    ious = ious_of(sample, segment)
    match = matched(ious)
    made.found = [round(match[e][1], 4) if e in match else 0.0 for e in ious]
    made.missed = len(segment.figures) - len(match)
    firsts = {e: next(r for r in shown(sample) if r.entity_id == e) for e in ious}
    text = sample.captions[0].text
    spans = [r.caption_span for r in firsts.values()]
    figures = {figure.key: figure for figure in segment.figures}
    for entity, reference in firsts.items():
        span = reference.caption_span
        named = span is not None and text[slice(*span)].lower() == reference.label.lower()
        made.spans.append(named and spans.count(span) == 1)
        if entity in match:
            figure = figures[match[entity][0]]
            made.moves.append((None if span is None else said(text[span[1] :]), figure.motion))
            made.names.append((reference.label, figure.name, fits(reference.label, figure.name)))


def said(rest: str) -> str | None:
    """The way that a caption gives a subject, read on from its label; None for none."""
    for movement, phrases in MOVES.items():
        if any(rest.startswith(f" {phrase}") for phrase in phrases):
            return None if movement is None else movement.value
    return None


def fits(label: str, name: str) -> bool | None:
    """Whether a label is a name of the thing, by common words; None for a label that names none."""
    if label in (CHARACTER, OBJECT):
        return None
    words = set(name.lower().split())
    return bool(words & set(label.lower().split())) or (label == PERSON and bool(words & HUMAN))


def _covering(sample: Sample, segment: Segment) -> bool:
    """Whether an object that lies over the face is kept as a reference."""
    assert segment.faces is not None
    for reference in shown(sample):
        if reference.kind == "object" and reference.mask is not None:
            face = _face(reference, sample, segment)
            if overlap(decode(reference.mask), face) > OVER_FACE:
                return True
    return False


def _face(reference: SampleReference, sample: Sample, segment: Segment) -> Box:
    """The true face in the frame of a reference, pixels of the clip."""
    assert segment.faces is not None
    rows, _ = segment.figures[0].masks[0].size
    x0, y0, x1, y1 = segment.faces[frame_of(reference, sample, segment)]
    scale = sample.video.height / rows
    return x0 * scale, y0 * scale, x1 * scale, y1 * scale


def key_of(reference: SampleReference, sample: Sample, segment: Segment) -> str | None:
    """Which figure or person a reference shows; None for neither."""
    true = _true_masks(reference, sample, segment)
    if reference.mask is not None:
        pixels = decode(reference.mask)
        ious = {key: _iou(pixels, mask) for key, mask in true.items()}
        best = max(ious, key=lambda key: ious[key], default=None)
        if best is not None and ious[best] >= SAME:
            return best
    box = reference.bbox_xyxy
    if box is None:
        return None
    if segment.faces is not None:
        x0, y0, x1, y1 = _face(reference, sample, segment)
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        return segment.person if box[0] <= x <= box[2] and box[1] <= y <= box[3] else None
    if reference.mask is not None:
        return None
    row, column = round((box[1] + box[3]) / 2), round((box[0] + box[2]) / 2)
    height, width = sample.video.height, sample.video.width
    row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    return next((key for key, mask in true.items() if mask[row, column]), None)


def judge_copies(
    segments: Sequence[Segment], outcomes: Sequence[Outcome], rows: Sequence[Row]
) -> None:
    """Duplicates: caught when of the original and the copy one is rejected as such.

    Not judged where a filter had taken one of them before.
    """
    places = {segment.spec.seed: place for place, segment in enumerate(segments)}
    for place, segment in enumerate(segments):
        if segment.spec.copy_of is None:
            continue
        both = [place, places[segment.spec.copy_of]]
        outcomes[both[1]].copied = True
        mine = [rows_of(segments[n], rows)[:1] for n in both]
        stages = [row.stage for some in mine for row in some]
        made = outcomes[place]
        if len(stages) == 2 and set(stages) <= {None, "duplicates"}:
            made.own = "duplicates" in stages
        made.caught = sum(outcomes[n].accepted for n in both) < 2


def likeness_of(
    segments: Sequence[Segment],
    rows: Sequence[Row],
    vector: Callable[[Row], NDArray[np.float32] | None],
) -> dict[str, list[float]]:
    """Cosines of clips: `copies` of those with their originals, `strangers` the ten highest else.

    Args:
        vector: what near-duplicates are compared by, (D,); None for a clip without.
    """
    known: dict[str, tuple[Segment, NDArray[np.float32]]] = {}
    for segment in segments:
        for row in rows_of(segment, rows)[:1]:
            found = vector(row)
            if found is not None:
                known[segment.spec.seed] = segment, found / np.linalg.norm(found)
    copies, strangers = [], []
    for (one, first), (two, second) in combinations(known.values(), 2):
        cosine = round(float(first @ second), 4)
        origins = {s.spec.copy_of or s.spec.seed for s in (one, two)}
        (copies if len(origins) == 1 else strangers).append(cosine)
    return {"copies": copies, "strangers": sorted(strangers, reverse=True)[:10]}


def pairs_of(segments: Sequence[Segment], rows: Sequence[Row]) -> dict[str, Any]:
    """Pairs across clips against the truth.

    Returns:
        pairs: own key, key of the picture, similarity; wanted: per figure that another clip in use
        shows too, whether it was found here and there, and whether it got a right picture.
    """
    clips = {row.id: (row, segment) for row, segment in _in_use(segments, rows)}
    keys: dict[str, dict[str, str | None]] = {}
    for name, (row, segment) in clips.items():
        sample = row.sample()
        own = [r for r in shown(sample) if r.kind != "background"]
        keys[name] = {str(r.image.uri): key_of(r, sample, segment) for r in own}
    pairs, wanted = [], []
    for name, (row, segment) in clips.items():
        right = set()
        for reference, own_key in _given(row.sample(), keys[name]):
            other = keys.get(reference.origin.sample_id or "", {}).get(str(reference.image.uri))
            pairs.append((own_key, other, reference.scores.gme_image_to_target))
            right |= {own_key} if own_key == other else set()
        for figure in segment.figures if segment.kind == "clean" else ():
            others = [n for n, (_, s) in clips.items() if n != name and s.kind == "clean"
                      and figure.key in {f.key for f in s.figures}]  # fmt: skip
            if others:
                here = figure.key in keys[name].values()
                there = any(figure.key in keys[n].values() for n in others)
                wanted.append((here and there, figure.key in right))
    return {"pairs": pairs, "wanted": wanted}


def _in_use(segments: Sequence[Segment], rows: Sequence[Row]) -> Iterator[tuple[Row, Segment]]:
    for segment in segments:
        for row in rows_of(segment, rows)[:1]:
            if row.status == "accepted" and row.record is not None:
                yield row, segment


def _given(
    sample: Sample, keys: Mapping[str, str | None]
) -> Iterator[tuple[SampleReference, str | None]]:
    """Pictures from other clips, each with what its subject is here."""
    names: dict[str, str | None] = {}
    for reference in shown(sample):
        if keys.get(str(reference.image.uri)) is not None:
            names.setdefault(reference.entity_id, keys[str(reference.image.uri)])
    for reference in sample.references:
        if reference.pair_type == "cross_clip":
            yield reference, names.get(reference.entity_id)
