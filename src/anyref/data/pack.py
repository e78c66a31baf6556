"""Your own clips as training shards, from a list of what they show.

One JSON object per line: the fields of a request and the video that fulfils it.

    {"video": "park.mp4", "prompt": "@fido runs through a park",
     "references": [{"name": "fido", "images": ["fido1.jpg", "fido2.jpg"], "text": "a brown dog"}]}

Several images of a reference are pictures of the same subject; training draws from them. A picture
in the place of the video is a clip of one frame. Paths start from the list's folder.
"""

# Axes: T frames, Y X pixels

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anyref import __version__
from anyref.batch import with_absolute_pictures
from anyref.data.captions import spell_out
from anyref.data.record import (
    Caption,
    Provenance,
    Sample,
    SampleReference,
    Split,
    Video,
    sample_id,
)
from anyref.data.shards import PackedSample, ShardWriter
from anyref.errors import AnyRefError, TrainingError
from anyref.media import encode_video, open_mask, open_picture, read_video
from anyref.request import Reference, Request

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MAX_LIST_BYTES = 64 * 2**20
TOLD = 5  # faults of one list that its error names


@dataclass(frozen=True)
class _Line:
    number: int
    video: Path
    request: Request


def pack_clips(
    listing: str | Path,
    out: str | Path,
    *,
    fps: float | None = None,
    num_frames: int | None = None,
    split: Split = "train",
    on_clip: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
) -> int:
    """Write the clips of a list as shards; how many.

    Args:
        listing: a JSONL file, see above.
        fps: frames per second to keep, by choosing frames; the video's own when None.
        num_frames: keep the first so many; all when None.

    Raises:
        TrainingError: naming the lines that are wrong, before anything is written; or a video that
            cannot be read, or is too short.
    """
    lines = _read_list(Path(listing))
    with ShardWriter(out) as writer:
        for done, line in enumerate(lines, start=1):
            with _named(listing, line):
                writer.write(_pack(line, fps, num_frames, split))
            on_clip(done, len(lines))
    return len(lines)


def packed_clips(listing: str | Path) -> Iterator[tuple[Path, PackedSample]]:
    """The clips of a list as `pack_clips` writes them, one at a time, with their videos.

    Raises:
        TrainingError: as `pack_clips`; naming the lines that are wrong before the first clip.
    """
    for line in _read_list(Path(listing)):
        with _named(listing, line):
            packed = _pack(line, None, None, "train")
        yield line.video, packed


@contextmanager
def _named(listing: str | Path, line: _Line) -> Iterator[None]:
    """Errors that name the line."""
    try:
        yield
    except AnyRefError as error:
        raise TrainingError(f"{listing}, line {line.number}: {error}") from error


def _read_list(path: Path) -> list[_Line]:
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise TrainingError(f"list {str(path)!r} is over 64 MiB; split it")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"list {str(path)!r} cannot be read: {error}") from error
    lines, faults = [], []
    for number, row in enumerate(text.splitlines(), start=1):
        if not row.strip():
            continue
        try:
            lines.append(_read_line(row, number, path.parent))
        except (AnyRefError, ValueError) as error:
            faults.append(f"line {number}: {error}")
    if faults:
        more = f" (and {len(faults) - TOLD} more)" if len(faults) > TOLD else ""
        raise TrainingError(f"list {str(path)!r}: {'; '.join(faults[:TOLD])}{more}")
    if not lines:
        raise TrainingError(f"list {str(path)!r} names 0 clips; write one JSON object per line")
    return lines


def _read_line(row: str, number: int, folder: Path) -> _Line:
    fields: Any = json.loads(row)
    if not isinstance(fields, dict) or not isinstance(fields.get("video"), str):
        raise ValueError('give an object with "video", "prompt" and "references"')
    video = folder / fields.pop("video")
    if not video.is_file():
        raise ValueError(f"video {str(video)!r} does not exist")
    request = with_absolute_pictures(Request(**fields), folder)
    for reference in request.references:
        for picture in reference.images:
            open_picture(picture)
    return _Line(number, video, request)


def _pack(line: _Line, fps: float | None, num_frames: int | None, split: Split) -> PackedSample:
    frames, rate = _read_frames(line.video)
    if fps is not None and len(frames) > 1:
        frames, rate = _at_rate(frames, rate, fps), fps
    if num_frames is not None:
        if len(frames) < num_frames:
            raise TrainingError(
                f"{line.video.name} has {len(frames)} frames at {rate:g} a second, {num_frames} "
                "are asked for; ask for fewer or leave it out"
            )
        frames = frames[:num_frames]
    text, spans = spell_out(line.request.prompt, line.request.references)
    described = list(_references(line.request.references, spans))
    count, height, width = frames.shape[:3]
    record = Sample(
        id=sample_id(f"{line.video.resolve()}\n{text}", 0, count, (0, 0, width, height)),
        source_key=line.video.name,
        video=Video(end=count, fps=rate, num_frames=count, width=width, height=height),
        captions=(Caption(text=text, kind="given"),),
        references=tuple(reference for reference, _, _ in described),
        split=split,
        provenance=(Provenance(stage="pack", tool="anyref.data.pack", version=__version__),),
    )
    return PackedSample(
        record=record,
        video=encode_video(frames, rate, full_chroma=True),
        references=tuple(png for _, png, _ in described),
        masks={k: mask for k, (_, _, mask) in enumerate(described) if mask is not None},
    )


def _read_frames(path: Path) -> tuple[np.ndarray, float]:
    """uint8 (T, Y, X, 3) and frames per second; a picture is one frame, its sides made even."""
    if path.suffix.lower() not in PICTURES:
        return read_video(path)
    pixels = np.asarray(open_picture(path))
    return pixels[None, : pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2], 1.0


def _at_rate(frames: np.ndarray, rate: float, wanted: float) -> np.ndarray:
    """Frames nearest to the times of another rate; none is shown twice.

    Raises:
        TrainingError: when the video has fewer frames per second.
    """
    if wanted > rate + 1e-3:
        raise TrainingError(
            f"the video has {rate:g} frames a second, {wanted:g} are asked for; ask for fewer or "
            "interpolate it first"
        )
    times = np.arange(0, len(frames), rate / wanted)
    return frames[np.minimum(times.round().astype(int), len(frames) - 1)]


def _references(
    references: tuple[Reference, ...], spans: dict[str, tuple[int, int]]
) -> Iterator[tuple[SampleReference, bytes, bytes | None]]:
    """Every picture as a record's reference, its PNG, and its mask's."""
    for k, reference in enumerate(references):
        for view, image in enumerate(reference.images):
            picture = image if isinstance(image, Image.Image) else _with_alpha(image)
            described = SampleReference(
                ref_id=f"r{k}.{view}",
                kind=reference.kind,
                label=reference.words or f"reference {k + 1}",
                entity_id=reference.name or f"reference-{k + 1}",
                pair_type="cross_clip",
                caption_span=spans.get(reference.name or ""),
            )
            mask = None if reference.mask is None else open_mask(reference, picture.size)
            yield described, _png(picture), None if mask is None else _png(mask)


def _with_alpha(path: Path) -> Image.Image:
    """A checked picture file with its transparency, which `open_picture` puts on white."""
    open_picture(path)
    with Image.open(path) as picture:
        return picture.convert("RGBA" if "A" in picture.getbands() else "RGB")


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
