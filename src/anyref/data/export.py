"""A dataset in the formats of others: training shards, OpenS2V-5M, evaluation lists.

    webdataset   shards that `anyref train` reads
    opens2v      clips.json, its videos in clips/, and the pairs across clips in pairs.json
    magref       list.txt of `key@@prompt@@pictures`, and pictures/
    kaleido      list.txt of `prompt@@pictures`, and pictures/

Only records in use are written.
"""

# Axes: T frames, Y X pixels

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from anyref.data.dataset import Dataset
from anyref.data.lists import ListEntry, save_entry, write_kaleido_list, write_magref_list
from anyref.data.opens2v_pairs import Cluster, CrossPair, kept_pair, write_pairs
from anyref.data.opens2v_write import FOREIGN, write_dataset
from anyref.data.record import Sample, SampleReference
from anyref.data.rules import cluster_name
from anyref.data.shards import PackedSample, ShardWriter, open_png
from anyref.errors import DataError, TrainingError
from anyref.media import encode_video, write_atomically

Format = Literal["webdataset", "opens2v", "magref", "kaleido"]
FORMATS: tuple[Format, ...] = ("webdataset", "opens2v", "magref", "kaleido")
CLIPS, PAIRS, LIST = "clips", "pairs.json", "list.txt"
MAX_LISTED = 8  # pictures in a line of a list

NO_REFERENCE = "without a reference picture"
TOO_SHORT = "shorter than the frames asked for"
NO_RECORD = "without a record"


@dataclass(kw_only=True)
class Exported:
    """What was written.

    Args:
        left_out: why records in use were not, with how many.
        pairs: across clips, in OpenS2V's form.
    """

    written: int = 0
    left_out: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    pairs: int = 0


def export(
    folder: str | Path,
    out: str | Path,
    form: Format = "webdataset",
    *,
    frames: int | None = None,
    on_record: Callable[[int], None] = lambda done: None,  # noqa: ARG005
) -> Exported:
    """Write a dataset in another format.

    Args:
        out: a folder that does not exist yet, or is empty.
        frames: of every clip in shards the first so many, and no shorter clips, so that all can
            share a batch; every clip at its own length when None.
        on_record: is told how many records are done.

    Raises:
        DataError: no dataset, a damaged one, a folder that holds something, or a record that the
            format cannot hold. TrainingError, MediaError: a picture or clip that cannot be read
            or written.
    """
    dataset, target = Dataset.open(folder), Path(out)
    if target.is_dir() and any(target.iterdir()):
        raise DataError(f"{str(target)!r} is not empty; give a folder that does not exist yet")
    if frames is not None and form != "webdataset":
        raise DataError(f"frames {frames} go with webdataset only; leave them out for {form}")
    if frames is not None and frames < 1:
        raise DataError(f"{frames} frames are no clip; ask for at least 1")
    exported = Exported()
    if form == "webdataset":
        _write_shards(dataset, target, frames, exported, on_record)
    elif form == "opens2v":
        _write_opens2v(dataset, target, exported, on_record)
    else:
        _write_list(dataset, target, form, exported, on_record)
    return exported


def _samples(dataset: Dataset, exported: Exported) -> Iterator[Sample]:
    """Records in use."""
    for row in dataset.rows("accepted"):
        if row.record is None:
            exported.left_out[NO_RECORD] += 1
        else:
            yield row.sample()


def _write_shards(
    dataset: Dataset,
    target: Path,
    frames: int | None,
    exported: Exported,
    on_record: Callable[[int], None],
) -> None:
    with ShardWriter(target) as writer:
        for sample in _samples(dataset, exported):
            if frames is not None and sample.video.num_frames < frames:
                exported.left_out[TOO_SHORT] += 1
                continue
            packed = pack_sample(dataset, sample)
            if not packed.references:
                exported.left_out[NO_REFERENCE] += 1
                continue
            writer.write(packed if frames is None else shortened(packed, frames))
            exported.written += 1
            on_record(exported.written)
    if not exported.written:
        raise DataError(f"0 records of {str(dataset.folder)!r} can be written{_why(exported)}")


def _why(exported: Exported) -> str:
    told = ", ".join(f"{count} {reason}" for reason, count in exported.left_out.items())
    return f" ({told or '0 are in use'}); see why with `anyref data report`"


def pack_sample(dataset: Dataset, sample: Sample) -> PackedSample:
    """A record with its clip and the pictures of its references, as shards hold it.

    References of every pair type come with caption spans and tracks; a mask is written where the
    picture has transparency. Those without a picture are left out. The reference of a subject that
    has a span comes first, as training takes a subject's words and track from its first one.

    Raises:
        DataError: an asset that is missing or damaged. TrainingError: a picture that is no PNG.
    """
    kept = [reference for reference in sample.references if reference.image.uri is not None]
    subjects = list(dict.fromkeys(reference.entity_id for reference in sample.references))
    kept.sort(key=lambda r: (subjects.index(r.entity_id), r.caption_span is None))  # stable
    pictures = tuple(dataset.read(reference.image) for reference in kept)
    masks = {}
    for place, (reference, data) in enumerate(zip(kept, pictures, strict=True)):
        mask = silhouette(data, f"{sample.id}, {reference.ref_id}")
        if mask is not None:
            masks[place] = mask
    return PackedSample(
        record=sample.model_copy(update={"references": tuple(kept)}),
        video=read_clip(dataset, sample),
        references=pictures,
        masks=masks,
    )


def read_clip(dataset: Dataset, sample: Sample) -> bytes:
    """The bytes of a record's clip.

    Raises:
        DataError: not in the dataset, or damaged.
    """
    if sample.video.uri is None:
        raise DataError(f"record {sample.id!r} has no clip in the dataset; make the dataset again")
    return dataset.read(sample.video.uri)


def silhouette(png: bytes, name: str) -> bytes | None:
    """The mask that a picture's transparency is, as a PNG: white where alpha is over 127 of 255.

    None for an opaque picture, and for one that is transparent everywhere.

    Raises:
        TrainingError: not a readable PNG.
    """
    picture = open_png(png, name)
    if "A" not in picture.getbands():
        return None
    try:
        alpha = picture.getchannel("A").point(lambda level: 255 * (level > 127))
    except OSError as error:
        raise TrainingError(f"{name} is not a readable PNG ({error})") from error
    if alpha.getextrema() in ((255, 255), (0, 0)):
        return None
    buffer = io.BytesIO()
    alpha.save(buffer, format="PNG")
    return buffer.getvalue()


def shortened(packed: PackedSample, num_frames: int) -> PackedSample:
    """The first frames of a sample; the clip is encoded anew when it is longer.

    Raises:
        TrainingError: the clip cannot be read.
    """
    record, video = packed.record, packed.record.video
    if video.num_frames == num_frames:
        return packed
    frames: np.ndarray = packed.frames()[:num_frames]  # (T, Y, X, 3)
    references = tuple(
        reference.model_copy(update={"track": reference.track and reference.track[:num_frames]})
        for reference in record.references
    )
    span = max(1, round((video.end - video.start) * num_frames / video.num_frames))
    cut = video.model_copy(update={"num_frames": num_frames, "end": video.start + span})
    faces = tuple(face for face in record.faces if face.frame < num_frames)
    update = {"video": cut, "references": references, "faces": faces}
    return PackedSample(
        record=record.model_copy(update=update),
        video=encode_video(frames, video.fps),
        references=packed.references,
        masks=packed.masks,
    )


@dataclass(frozen=True, slots=True)
class _End:
    """An annotation, as pairs name it: key of the record and number in it."""

    key: str
    number: str
    entity: str
    label: str
    frame: int
    uri: str | None


def _write_opens2v(
    dataset: Dataset, target: Path, exported: Exported, on_record: Callable[[int], None]
) -> None:
    ends: dict[str, list[_End]] = {}

    def records() -> Iterator[Sample]:
        for sample in _samples(dataset, exported):
            ends[sample.id] = list(_ends(sample))
            exported.written += 1
            on_record(exported.written)
            # an imported record names a video of OpenS2V-5M, which users of that data set have
            foreign = FOREIGN in (sample.foreign or {})
            yield sample if foreign else _with_own_clip(dataset, sample, target)

    write_dataset(target / f"{CLIPS}.json", records())
    clusters: dict[str, list[CrossPair]] = defaultdict(list)
    seen: set[tuple[str, ...]] = set()
    for sample in _samples(dataset, Exported()):
        name = cluster_name(sample.source_key or sample.id)
        for kept in filter(None, map(kept_pair, sample.references)):
            clusters[kept.name or name] += kept.pairs
        for one, other, likeness in _matches(sample, ends):
            both = tuple(sorted((f"{one.key}/{one.number}", f"{other.key}/{other.number}")))
            if both not in seen:  # either clip has the other's picture
                seen.add(both)
                clusters[name].append(_pair(one, other, likeness))
    named = [Cluster(name, tuple(found)) for name, found in sorted(clusters.items()) if found]
    exported.pairs = write_pairs(target / PAIRS, named)


def _annotations(sample: Sample) -> list[SampleReference]:
    """The boxed references of one frame: what the format's annotations can hold."""
    boxed = [r for r in sample.references if r.pair_type == "regular" and r.bbox_xyxy is not None]
    return [r for r in boxed if r.origin.frame == boxed[0].origin.frame]


def _with_own_clip(dataset: Dataset, sample: Sample, target: Path) -> Sample:
    """The record of the clip alone: its file written, frames counted from its own start."""
    data = read_clip(dataset, sample)
    name = f"{sample.id}.mp4"
    write_atomically(target / CLIPS / name, lambda file: file.write(data))
    own = {"uri": name, "sha256": None, "start": 0, "end": sample.video.num_frames}
    video = sample.video.model_copy(update={**own, "crop_xyxy": None})
    return sample.model_copy(update={"video": video, "references": tuple(_annotations(sample))})


def _ends(sample: Sample) -> Iterator[_End]:
    for number, reference in enumerate(_annotations(sample), start=1):
        yield _End(
            key=sample.source_key or sample.id,
            number=str(number),
            entity=reference.entity_id,
            label=reference.label,
            frame=reference.origin.frame or 0,
            uri=reference.image.uri,
        )


def _matches(sample: Sample, ends: Mapping[str, list[_End]]) -> Iterator[tuple[_End, _End, float]]:
    """Both ends and the similarity of the pairs that the format can hold.

    Both ends are annotated, and labelled alike: it wants the similarity of the labels by a model,
    and of equal labels it is 1.
    """
    for reference in sample.references:
        likeness = reference.scores.gme_image_to_target
        imported = FOREIGN in (reference.foreign or {})  # see `kept_pair`
        if reference.pair_type != "cross_clip" or likeness is None or imported:
            continue
        own = [end for end in ends.get(sample.id, ()) if end.entity == reference.entity_id]
        others = ends.get(reference.origin.sample_id or "", ())
        shown = [end for end in others if end.uri == reference.image.uri]
        if own and shown and own[0].label == shown[0].label:
            yield own[0], shown[0], likeness


def _pair(cur: _End, aft: _End, likeness: float) -> CrossPair:
    return CrossPair(
        cur_id=cur.key,
        aft_id=aft.key,
        cur_class_id=cur.number,
        aft_class_id=aft.number,
        cur_class_name=cur.label,
        aft_class_name=aft.label,
        text_similarity=1.0,
        image_similarity=likeness,
        cur_frame_idx=cur.frame,
        aft_frame_idx=aft.frame,
    )


def _write_list(
    dataset: Dataset,
    target: Path,
    form: Format,
    exported: Exported,
    on_record: Callable[[int], None],
) -> None:
    entries: list[ListEntry] = []
    for sample in _samples(dataset, exported):
        packed = pack_sample(dataset, sample)
        if not packed.references:
            exported.left_out[NO_REFERENCE] += 1
            continue
        entries.append(save_entry(_first_subjects(packed), target))
        exported.written += 1
        on_record(exported.written)
    write = write_magref_list if form == "magref" else write_kaleido_list
    write(target / LIST, entries)


def _first_subjects(packed: PackedSample) -> PackedSample:
    """At most as many subjects as a line can hold."""
    subjects = list(dict.fromkeys(r.entity_id for r in packed.record.references))[:MAX_LISTED]
    kept = [k for k, r in enumerate(packed.record.references) if r.entity_id in subjects]
    references = tuple(packed.record.references[k] for k in kept)
    return PackedSample(
        record=packed.record.model_copy(update={"references": references}),
        video=packed.video,
        references=tuple(packed.references[k] for k in kept),
    )
