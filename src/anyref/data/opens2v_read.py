"""OpenS2V-5M records as ours: the data set JSON of its pipeline, one record at a time.

The published files are of 32 to 66 GB, so nothing here holds more than one record. A record that
cannot be used is a value that says why, not the end of the file. What our record has no field for
is kept under `foreign["opens2v"]`, so that `opens2v_write.export_record` gives back the
same record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyref.data.json_stream import stream_members
from anyref.data.leftovers import leftovers
from anyref.data.masks import area_fraction
from anyref.data.opens2v_write import CAPTION_MODELS, FOREIGN, pieces_of, skeleton
from anyref.data.record import (
    Asset,
    Caption,
    Mask,
    Origin,
    Quality,
    Sample,
    SampleReference,
    Scores,
    Tags,
    Video,
    sample_id,
)
from anyref.data.rules import label_span, overlap_groups, reference_kind
from anyref.errors import AnyRefError, DataError

GENERATOR = "LaMa"  # made the backgrounds, step 5


@dataclass(frozen=True)
class Rejected:
    """A record that is none of ours, by its key in the file, and why."""

    key: str
    reason: str


def read_dataset(path: str | Path, part: str | None = None) -> Iterator[Sample | Rejected]:
    """The records of a data set JSON, in order.

    Args:
        part: as `import_record`; the file's name without suffix when None, as the data set does.

    Raises:
        DataError: when the file is not one JSON object, see `json_stream.stream_members`.
    """
    part = Path(path).stem if part is None else part
    for key, record in stream_members(path):
        try:
            yield import_record(key, record, part)
        except AnyRefError as error:
            yield Rejected(key, str(error))


def import_record(key: str, record: Any, part: str = "", background: str | None = None) -> Sample:
    """One record of the data set as ours.

    The clip is `face_cut`, else `cut`. Annotations become regular references named by their 1-based
    ids, those with overlapping masks of one entity (`rules.overlap_groups`). Scores that are
    missing stay None.

    Args:
        part: the folder of the data set that holds the video; "" for none.
        background: path of `foreground/<key>.png`, which is the clip's background, painted over.

    Raises:
        DataError: for a record of another form, or without caption; a mask or box that is
            none; or the missing extra `data`.
        TrainingError: for a value that our record refuses.
    """
    root = _object(record, "record")
    metadata = _object(root.get("metadata"), "metadata")
    bare, pieces = _split(root)
    annotation = _object(root.get("annotation", {}), "annotation")
    frame_data = _object(annotation.get("ann_frame_data", {}), "ann_frame_data")
    video = _video(metadata, frame_data, part)
    captions = tuple(_captions(metadata))
    if not captions:
        raise DataError(f"0 captions; one of {', '.join((*CAPTION_MODELS, 'cap'))} is needed")
    tags = _tags(root)
    name = sample_id(str(video.uri), video.start, video.end, video.crop_xyxy)
    references = [
        _reference(str(number), piece, frame_data, video, tags, captions)
        for number, piece in enumerate(pieces, start=1)
    ]
    groups = overlap_groups(references)
    references = [
        reference.model_copy(update={"entity_id": f"{name}-{group + 1}"})
        for reference, group in zip(references, groups, strict=True)
    ]
    sample = Sample(
        id=name,
        source_key=key,
        video=video,
        captions=captions,
        tags=tags,
        references=(*references, *_background(background, name, tags, captions)),
        quality=Quality(
            aesthetic=metadata.get("aesthetic"),
            motion=metadata.get("motion"),
            dover=metadata.get("tech"),
            duration_s=video.num_frames / video.fps,
            background_aesthetic=frame_data.get("background_ase_score"),
        ),
    )
    kept = _kept(sample, references, bare, part)
    return Sample(**dict(sample, foreign={FOREIGN: kept}))


def _kept(
    sample: Sample, references: list[SampleReference], bare: Mapping[str, Any], part: str
) -> dict[str, Any]:
    """The part, the source's path (our uri moves when the clip is packed) and all leftovers."""
    built: Any = skeleton(sample, references)
    del built["metadata"]["path"]
    return {"part": part, **leftovers(bare, built)}


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{name} is a {type(value).__name__}, an object is needed")
    return value


def _split(root: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The record without its annotations, and for each what the three places say of it."""
    if "annotation" not in root:
        return dict(root), []
    annotation = _copy(root, "annotation")
    data = annotation["ann_frame_data"] = _copy(annotation, "ann_frame_data")
    annotated = data.get("annotations", [])
    if not isinstance(annotated, list):
        raise DataError(f"annotations is a {type(annotated).__name__}, a list is needed")
    box_format = data.get("box_format", "xyxy")
    if box_format != "xyxy":
        raise DataError(f"box_format {box_format!r} is not 'xyxy'; convert the boxes")
    if "annotations" in data:
        data["annotations"] = []
    places: dict[str, dict[str, Any]] = {}
    if "mask_map" in annotation:
        places["map"] = annotation["mask_map"] = _copy(annotation, "mask_map")
    if "mask_annotation" in annotation:
        by_frame = annotation["mask_annotation"] = _copy(annotation, "mask_annotation")
        frame = str(data.get("ann_frame_idx", 0))
        if frame in by_frame:
            places["mask"] = by_frame[frame] = _copy(by_frame, frame)
    pieces = []
    for number, said in enumerate(annotated, start=1):
        found = {n: place.pop(str(number)) for n, place in places.items() if str(number) in place}
        found = {"annotation": said, **found}
        pieces.append({n: _object(piece, f"{n} {number}") for n, piece in found.items()})
    return {**root, "annotation": annotation}, pieces


def _copy(parent: Mapping[str, Any], name: str) -> dict[str, Any]:
    return dict(_object(parent.get(name), name))


def _video(metadata: Mapping[str, Any], frame_data: Mapping[str, Any], part: str) -> Video:
    _check_has(metadata, ("path", "fps"), "metadata")
    path, cut = metadata["path"], metadata.get("face_cut", metadata.get("cut"))
    if not isinstance(path, str) or not path:
        raise DataError(f"path {path!r} names no video; give its path in the part's folder")
    start, end = _integers(cut, 2, "face_cut or cut")
    crop = None
    if "crop" in metadata:
        x0, x1, y0, y1 = _integers(metadata["crop"], 4, "crop")
        crop = (float(x0), float(y0), float(x1), float(y1))
    resolution = _object(metadata.get("resolution", {}), "resolution")
    width, height = resolution.get("width", 0), resolution.get("height", 0)
    if crop is not None:
        width, height = x1 - x0, y1 - y0
    return Video(
        uri=f"{part}/{path}" if part else path,
        start=start,
        end=end,
        fps=metadata["fps"],
        num_frames=end - start,
        width=frame_data.get("img_width", width),
        height=frame_data.get("img_height", height),
        crop_xyxy=crop,
    )


def _check_has(said: Mapping[str, Any], names: Sequence[str], place: str) -> None:
    if missing := [name for name in names if name not in said]:
        raise DataError(f"{place} has no {missing[0]}, which is needed")


def _integers(value: Any, count: int, name: str) -> list[int]:
    whole = isinstance(value, list) and all(type(v) is int for v in value)
    if not whole or len(value) != count:
        raise DataError(f"{name} is {value!r:.80}, {count} whole numbers are needed")
    return list(value)


def _captions(metadata: Mapping[str, Any]) -> Iterator[Caption]:
    """The captions of the clip's own faces first, by the order of `CAPTION_MODELS`."""
    for name, model in CAPTION_MODELS.items():
        text = metadata.get(name)
        if isinstance(text, str) and text:
            yield Caption(text=text, model=model)
    general = metadata.get("cap")
    if isinstance(general, list) and all(isinstance(text, str) and text for text in general):
        yield from (Caption(text=text, kind="general") for text in general)


def _tags(root: Mapping[str, Any]) -> Tags:
    said = _object(root.get("word_tags", {}), "word_tags")
    return Tags(**{name: said.get(name, ()) for name in Tags.model_fields})


def _reference(
    number: str,
    piece: Mapping[str, Any],
    frame_data: Mapping[str, Any],
    video: Video,
    tags: Tags,
    captions: tuple[Caption, ...],
) -> SampleReference:
    annotation = piece["annotation"]
    label = annotation.get("class_name")
    if not isinstance(label, str) or not label:
        raise DataError(f"annotation {number} has class_name {label!r}, a word is needed")
    if annotation.get("bbox") is None:
        raise DataError(f"annotation {number} has no bbox, x0 y0 x1 y1 are needed")
    mask = _mask(piece["mask"]) if "mask" in piece else None
    reference = SampleReference(
        ref_id=number,
        kind=reference_kind(label, tags),
        label=label,
        entity_id=number,
        origin=Origin(frame=_frame_in_clip(frame_data, video)),
        bbox_xyxy=annotation["bbox"],
        mask=mask,
        caption_span=label_span(captions[0].text, label),
        scores=Scores(
            aesthetic=annotation.get("aes_score"),
            gme_text=annotation.get("gme_score"),
            area_frac=None if mask is None else area_fraction(mask),
        ),
    )
    kept = leftovers(piece, pieces_of(reference))
    return SampleReference(**dict(reference, foreign={FOREIGN: kept} if kept else None))


def _frame_in_clip(frame_data: Mapping[str, Any], video: Video) -> int:
    frame = frame_data.get("ann_frame_idx", video.start)
    if type(frame) is not int or not video.start <= frame < video.end:
        raise DataError(
            f"ann_frame_idx {frame!r} is not a frame of the clip, {video.start} to {video.end - 1}"
        )
    return frame - video.start


def _mask(said: Mapping[str, Any]) -> Mask:
    _check_has(said, ("size", "counts"), "a mask")
    score = said.get("score")
    return Mask(
        size=said["size"],
        counts=said["counts"],
        score=score[0] if isinstance(score, list) and len(score) == 1 else None,
    )


def _background(
    path: str | None, name: str, tags: Tags, captions: tuple[Caption, ...]
) -> Iterator[SampleReference]:
    if path is None:
        return
    labels = tags.background or ("background",)
    spans = {label: label_span(captions[0].text, label) for label in labels}
    label = next((label for label, span in spans.items() if span), labels[0])
    yield SampleReference(
        ref_id="background",
        kind="background",
        label=label,
        entity_id=f"{name}-background",
        pair_type="generated",
        image=Asset(uri=path),
        origin=Origin(frame=0, generator=GENERATOR),
        caption_span=spans[label],
    )
