"""Datasets out of what others have: OpenS2V-5M's JSON with its videos, or a folder of clips."""

# Axes: T frames, Y X pixels

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from anyref import __version__
from anyref.data.dataset import DatasetWriter, StageEntry
from anyref.data.footage import FilmLimits, open_film
from anyref.data.json_stream import stream_members
from anyref.data.lists import write_clip_list
from anyref.data.masks import decode
from anyref.data.opens2v_pairs import Verdict, add_pairs, bare_key, read_pairs
from anyref.data.opens2v_read import import_record
from anyref.data.pack import packed_clips
from anyref.data.record import Asset, Flags, Sample, SampleReference
from anyref.data.rows import Row
from anyref.data.shards import PackedSample
from anyref.data.sources import Source
from anyref.data.stages import part_id
from anyref.errors import AnyRefError, DataError
from anyref.media import encode_video, open_picture

Format = Literal["opens2v", "folder"]
STAGE = "import"
MAX_CLIP_FRAMES = 2000
NO_VIDEO, BAD_RECORD, BAD_VIDEO = "no video", "bad record", "bad video"


@dataclass(kw_only=True)
class Imported:
    """What came of it.

    Args:
        rejected: records that cannot be used, by reason; they are rows too.
        pairs: what became of how many pairs across clips, see `opens2v_pairs.add_pairs`.
    """

    accepted: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    pairs: dict[Verdict, int] = field(default_factory=dict)


def import_dataset(
    source: str | Path,
    out: str | Path,
    form: Format,
    *,
    videos: str | Path | None = None,
    pairs: str | Path | None = None,
    on_record: Callable[[int], None] = lambda done: None,  # noqa: ARG005
) -> Imported:
    """Make a dataset of records that exist already. No model runs.

    Args:
        source: `folder`: of clips with texts and pictures (`anyref.data.lists`); `opens2v`: a data
            set JSON, read one record at a time.
        videos: the folder of the JSON's videos, in folders of its parts or directly; the JSON's
            own folder when None. A record without its video is kept as rejected.
        pairs: the JSON's pairs across clips, which become references of both clips.

    Raises:
        DataError: the input cannot be read, or `out` holds a dataset. TrainingError: a clip of a
            folder that cannot be packed.
    """
    target = Path(out)
    if pairs is not None and form != "opens2v":
        raise DataError(f"pairs {str(pairs)!r} go with opens2v only; leave them out for {form}")
    named = frozenset() if pairs is None else _named(Path(pairs))
    if (target / "manifest.json").exists():
        raise DataError(f"{str(target)!r} holds a dataset; give a folder that does not exist yet")
    stage = StageEntry(name=STAGE, tool="anyref.data.importing", version=__version__)
    writer = DatasetWriter(target, recipe={"import": form}, stages=[stage])
    made = Imported()
    with writer:
        rows = (
            _clip_rows(Path(source), writer)
            if form == "folder"
            else _record_rows(Path(source), Path(videos or Path(source).parent), writer)
        )
        rows = _counted(rows, made, on_record)
        if pairs is not None:
            rows = _paired(rows, Path(pairs), named, made)
        for row in rows:
            writer.add(row)
        if not made.accepted and not made.rejected:
            raise DataError(f"{str(source)!r} names 0 records")
        writer.finish()
    return made


def _counted(
    rows: Iterator[Row], made: Imported, on_record: Callable[[int], None]
) -> Iterator[Row]:
    seen: set[str] = set()
    for done, row in enumerate(rows, start=1):
        if row.id in seen:
            raise DataError(f"record {row.id!r} ({row.uri}) is given twice; leave one out")
        seen.add(row.id)
        if row.status == "accepted":
            made.accepted += 1
        else:
            made.rejected[row.reason or ""] = made.rejected.get(row.reason or "", 0) + 1
        on_record(done)
        yield row


def _named(pairs: Path) -> frozenset[str]:
    """Keys of the clips that a pairs file is about."""
    return frozenset(
        bare_key(name)
        for cluster in read_pairs(pairs)
        for pair in cluster.pairs
        for name in (pair.cur_id, pair.aft_id)
    )


def _paired(
    rows: Iterator[Row], pairs: Path, named: frozenset[str], made: Imported
) -> Iterator[Row]:
    """The rows with references from other clips.

    A pair's clips may lie far apart, so all rows wait in a file; of the named ones what pairs take
    over is held. As in pairs of our own, a mask stays with its clip.
    """
    ends: list[Sample] = []
    with tempfile.TemporaryFile() as waiting:
        for row in rows:
            waiting.write(json.dumps(asdict(row)).encode() + b"\n")
            if row.status == "accepted" and (sample := row.sample()).source_key in named:
                bare = {"mask": None, "track": None}
                references = tuple(r.model_copy(update=bare) for r in sample.references)
                ends.append(sample.model_copy(update={"references": references}))
        given, counts = add_pairs(ends, read_pairs(pairs))
        made.pairs = dict(counts)
        added = {
            sample.id: sample.references[len(end.references) :]
            for sample, end in zip(given, ends, strict=True)
        }
        waiting.seek(0)
        for line in waiting:
            row = Row(**json.loads(line))
            if added.get(row.id):
                sample = row.sample()
                references = (*sample.references, *added[row.id])
                record = sample.model_copy(update={"references": references}).to_json()
                row = replace(row, record=record)
            yield row


def _row(source: Source, sample: Sample, assets: dict[str, Asset]) -> Row:
    return Row(
        id=sample.id,
        source=source.id,
        uri=source.uri,
        assets={name: str(asset.uri) for name, asset in assets.items()},
        record=sample.to_json(),
    )


def _clip_rows(folder: Path, writer: DatasetWriter) -> Iterator[Row]:
    """Rows of a folder's clips; pictures keep their masks as transparency."""
    with tempfile.TemporaryDirectory() as work:
        listing = Path(work) / "clips.jsonl"
        write_clip_list(folder.resolve(), listing)
        for video, packed in packed_clips(listing):
            yield _packed_row(video, packed, writer)


def _packed_row(video: Path, packed: PackedSample, writer: DatasetWriter) -> Row:
    record = packed.record
    assets = {"clip": writer.write_asset(packed.video, "mp4")}
    references = []
    for place, reference in enumerate(record.references):
        mask = packed.mask(place)
        data = packed.references[place]
        if mask is not None:
            picture = packed.picture(place).convert("RGB")
            picture.putalpha(mask)
            data = _png(picture)
        image = assets[f"crop-{reference.ref_id}"] = writer.write_asset(data, "png")
        references.append(reference.model_copy(update={"image": image}))
    clip = record.video.model_copy(update=dict(assets["clip"]))
    sample = record.model_copy(update={"video": clip, "references": tuple(references)})
    return _row(Source.of(video), sample, assets)


def _record_rows(source: Path, videos: Path, writer: DatasetWriter) -> Iterator[Row]:
    """Rows of an OpenS2V-5M JSON."""
    origin, part = Source.of(source), source.stem
    for number, (key, said) in enumerate(stream_members(source)):
        painted = _inside(source.parent, f"foreground/{key}.png")
        try:
            sample = import_record(key, said, part, None if painted is None else str(painted))
        except AnyRefError as error:
            name = part_id(origin.id, STAGE, number)
            bare = Row(id=name, source=origin.id, uri=origin.uri)
            yield _rejected(bare, BAD_RECORD, f"{key}: {error}")
            continue
        yield _imported(origin, sample, videos, part, writer)


def _imported(
    origin: Source, sample: Sample, videos: Path, part: str, writer: DatasetWriter
) -> Row:
    """A record with its clip cut and the pictures of its references, or why it has none."""
    path = (sample.video.uri or "").removeprefix(f"{part}/")
    video = _inside(videos / part, path) or _inside(videos, path)
    if video is None:
        return _rejected(_row(origin, sample, {}), NO_VIDEO, str(sample.video.uri))
    try:
        frames = read_cut(video, sample)  # (T, Y, X, 3)
    except AnyRefError as error:
        return _rejected(_row(origin, sample, {}), BAD_VIDEO, str(error))
    assets = {"clip": writer.write_asset(encode_video(frames, sample.video.fps), "mp4")}
    references = []
    for reference in sample.references:
        picture = _picture_of(reference, frames)
        image = Asset()
        if picture is not None:
            image = assets[f"crop-{reference.ref_id}"] = writer.write_asset(_png(picture), "png")
        references.append(reference.model_copy(update={"image": image}))
    height, width = (side + side % 2 for side in frames.shape[1:3])  # as it was encoded
    clip = {**dict(assets["clip"]), "height": height, "width": width}
    update = {"video": sample.video.model_copy(update=clip), "references": tuple(references)}
    return _row(origin, sample.model_copy(update=update), assets)


def _inside(folder: Path, path: str) -> Path | None:
    """A file below a folder, None when it is not there or elsewhere."""
    try:
        found = (folder / path).resolve()
        return found if found.is_file() and found.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError):  # names that no file can have
        return None


def read_cut(video: Path, sample: Sample) -> np.ndarray:
    """The frames that a record is of, cropped: uint8 (T, Y, X, 3), RGB.

    Raises:
        DataError: over 2000 frames, not a video, too short, or smaller than the record says.
    """
    said = sample.video
    if said.num_frames > MAX_CLIP_FRAMES:
        raise DataError(f"{said.num_frames} frames are over {MAX_CLIP_FRAMES}; cut the clip")
    frames: list[np.ndarray] = []
    with open_film(Source.of(video), FilmLimits()) as film:
        for number, frame in enumerate(film.frames()):
            if number >= said.start:
                shape = film.geometry(frame)
                picture = film.picture(frame, shape, shape.width, shape.height)
                frames.append(_cropped(picture, sample))
            if len(frames) == said.num_frames:
                return np.stack(frames)
    raise DataError(
        f"{video.name!r} ends before frame {said.end}, which the record needs; check the video"
    )


def _cropped(picture: np.ndarray, sample: Sample) -> np.ndarray:
    x0, y0, x1, y1 = (int(v) for v in sample.video.crop_xyxy or (0, 0, *picture.shape[1::-1]))
    height, width = picture.shape[:2]
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise DataError(f"crop {x0} {y0} {x1} {y1} is outside the video of {width}x{height}")
    if (y1 - y0, x1 - x0) != (sample.video.height, sample.video.width):
        raise DataError(
            f"the clip is {x1 - x0}x{y1 - y0}, the record says "
            f"{sample.video.width}x{sample.video.height}; give the video that it was made of"
        )
    return picture[y0:y1, x0:x1]


def _picture_of(reference: SampleReference, frames: np.ndarray) -> Image.Image | None:
    """A reference cut out of its frame by its mask, else its box; or the file that it names."""
    if reference.image.uri is not None:
        with suppress(AnyRefError):
            return open_picture(reference.image.uri)
        return None
    frame = frames[min(reference.origin.frame or 0, len(frames) - 1)]  # (Y, X, 3)
    height, width = frame.shape[:2]
    alpha = np.full((height, width), 255, np.uint8)
    if reference.mask is not None and reference.mask.size == (height, width):
        alpha = decode(reference.mask).astype(np.uint8) * 255
    box = reference.bbox_xyxy or (0, 0, width, height)
    x0, y0 = (max(0, int(v)) for v in box[:2])
    x1, y1 = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    if x1 <= x0 or y1 <= y0 or not alpha[y0:y1, x0:x1].any():
        return None
    picture = Image.fromarray(frame).convert("RGB")
    picture.putalpha(Image.fromarray(alpha))
    return picture.crop((x0, y0, x1, y1))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def _rejected(row: Row, reason: str, detail: str) -> Row:
    """A row that stays in the dataset with the reason why it cannot be used."""
    record = row.record
    if record is not None:
        flags = Flags(filtered_by=STAGE)
        record = row.sample().model_copy(update={"flags": flags}).to_json()
    return replace(
        row,
        status="rejected",
        stage=STAGE,
        reason=reason,
        detail=detail.encode(errors="backslashreplace").decode()[:2000],
        judged=False,
        record=record,
    )
