"""Our records as OpenS2V-5M records: one object of metadata, tags and one annotated frame by key.

The format is that of the data set's JSON after step 5 of its pipeline, with its own spellings
("ase"), crops as [x0, x1, y0, y1], masks under 1-based ids in strings, and frame numbers of the
source file. What a record has no field for comes from its `foreign["opens2v"]`, see `leftovers`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from anyref.data.leftovers import Json, restore
from anyref.data.record import Caption, Sample, SampleReference, Video
from anyref.errors import DataError
from anyref.media import write_atomically

FOREIGN = "opens2v"
# metadata field of a caption: the model that wrote it; captions of no such model go into "cap"
CAPTION_MODELS = {
    "face_cap_qwen": "Qwen2.5-VL-7B",
    "face_cap_glm": "GLM",
    "face_cap_Aria": "Aria",
}


def write_dataset(path: str | Path, samples: Iterable[Sample]) -> int:
    """Write records as one data set JSON, one at a time in memory; how many.

    Raises:
        DataError: as `export_record`, or for a key given twice.
        MediaError: when the folder cannot be written.
    """
    keys: set[str] = set()

    def write(file: BinaryIO) -> None:
        file.write(b"{")
        for sample in samples:
            key, record = export_record(sample)
            if key in keys:
                raise DataError(
                    f"key {key!r} is given twice; give samples of one part, or other source_keys"
                )
            file.write(b",\n" if keys else b"\n")
            keys.add(key)
            file.write(f"{json.dumps(key)}: {json.dumps(record, allow_nan=False)}".encode())
        file.write(b"\n}\n")

    write_atomically(path, write)
    return len(keys)


def export_record(sample: Sample) -> tuple[str, Json]:
    """The key and the record of a sample; equal to what `opens2v_read.import_record` read.

    References of this clip's own annotated frame become annotations. The others are elsewhere in
    the format: pictures of other clips in the pairs (`opens2v_pairs`), made ones in folders.

    Raises:
        DataError: when annotated references are of several frames, or one has no box.
    """
    kept = (sample.foreign or {}).get(FOREIGN, {})
    if not isinstance(kept, dict):
        raise DataError(f"foreign[{FOREIGN!r}] of sample {sample.id!r} is not an object")
    annotated = [
        reference
        for reference in sample.references
        if reference.pair_type == "regular" and reference.origin.sample_id is None
    ]
    record: Any = restore(skeleton(sample, annotated), kept)
    for number, reference in enumerate(annotated, start=1):
        _add(record, str(number), pieces_with_leftovers(reference), sample.id)
    return sample.source_key or sample.id, record


def skeleton(sample: Sample, annotated: Iterable[SampleReference] = ()) -> Json:
    """The record without its annotations, from our fields alone.

    Raises:
        DataError: when the references are of several frames.
    """
    video, quality = sample.video, sample.quality
    frames = {reference.origin.frame or 0 for reference in annotated} or {0}
    if len(frames) > 1:
        raise DataError(
            f"sample {sample.id!r} has references of frames {sorted(frames)}; OpenS2V annotates "
            "one frame, export one frame's"
        )
    frame = video.start + frames.pop()
    metadata: Json = {
        "cut": [video.start, video.end],
        "crop": _crop(video),
        "tech": quality.dover,
        "motion": quality.motion,
        "fps": video.fps,
        "num_frames": video.num_frames,
        "resolution": {"height": video.height, "width": video.width},
        "path": video.uri or f"{sample.id}.mp4",
        "aesthetic": quality.aesthetic,
        "face_cut": [video.start, video.end],
    }
    tags = sample.tags
    frame_data: Json = {
        "ann_frame_idx": frame,
        "annotations": [],
        "box_format": "xyxy",
        "img_width": video.width,
        "img_height": video.height,
        "background_ase_score": quality.background_aesthetic,
    }
    return {
        "metadata": _present({**metadata, **_captions(sample.captions)}),
        "word_tags": {
            "background": list(tags.background),
            "subject": list(tags.subject),
            "object": list(tags.object),
        },
        "annotation": {
            "ann_frame_data": _present(frame_data),
            "mask_map": {},
            "mask_annotation": {str(frame): {}},
        },
    }


def pieces_of(reference: SampleReference) -> Json:
    """What three places of a record say of one reference: "annotation", "map" and "mask"."""
    annotation: Json = {
        "class_name": reference.label,
        "bbox": None if reference.bbox_xyxy is None else list(reference.bbox_xyxy),
        "gme_score": reference.scores.gme_text,
        "aes_score": reference.scores.aesthetic,
    }
    pieces: Json = {
        "annotation": _present(annotation),
        "map": {"class_name": reference.label},
    }
    mask = reference.mask
    if mask is not None:
        score: Json = {} if mask.score is None else {"score": [mask.score]}
        pieces["mask"] = {"size": list(mask.size), "counts": mask.counts, **score}
    return pieces


def pieces_with_leftovers(reference: SampleReference) -> Json:
    """`pieces_of` with what the reference's own `foreign` holds."""
    kept = (reference.foreign or {}).get(FOREIGN)
    return restore(pieces_of(reference), kept if isinstance(kept, dict) else {})


def _add(record: Any, number: str, pieces: Mapping[str, Any], name: str) -> None:
    if "bbox" not in pieces["annotation"]:
        raise DataError(
            f"reference {number} of sample {name!r} has no bbox_xyxy, an OpenS2V annotation has; "
            "box it, or leave the reference out"
        )
    annotation = record.setdefault("annotation", {})
    data = annotation.setdefault("ann_frame_data", {})
    data.setdefault("annotations", []).append(pieces["annotation"])
    if "map" in pieces:
        annotation.setdefault("mask_map", {})[number] = pieces["map"]
    if "mask" in pieces:
        masks = annotation.setdefault("mask_annotation", {})
        masks.setdefault(str(data.get("ann_frame_idx", 0)), {})[number] = pieces["mask"]


def _crop(video: Video) -> list[Any]:
    x0, y0, x1, y1 = video.crop_xyxy or (0, 0, video.width, video.height)
    return [int(v) if float(v).is_integer() else v for v in (x0, x1, y0, y1)]


def _captions(captions: Iterable[Caption]) -> Json:
    fields: Json = {}
    others: list[Any] = []
    names = {model: name for name, model in CAPTION_MODELS.items()}
    for caption in captions:
        name = names.get(caption.model or "")
        if name is None or name in fields:
            others.append(caption.text)
        else:
            fields[name] = caption.text
    return fields | ({"cap": others} if others else {})


def _present(members: Json) -> Json:
    return {key: value for key, value in members.items() if value is not None}
