"""Samples packed into webdataset shards, whole or not at all.

    <folder>/<width>x<height>x<frames>/000000.tar
        <id>.json  <id>.mp4  <id>.ref0.png  <id>.ref0.mask.png  <id>.txt  <id>.id  ...
    <folder>/<width>x<height>x<frames>/000000.meta.jsonl
        one line per sample: what a loader needs to choose it, and its bytes in the tar

The members of one sample lie next to each other, so that one ranged read brings all of it.
"""

# Axes: T frames, Y X pixels

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anyref.data.record import Asset, Sample
from anyref.errors import MediaError, TrainingError
from anyref.media import (
    MAX_PICTURE_BYTES,
    MAX_VIDEO_BYTES,
    open_atomically,
    read_video,
    write_atomically,
)
from anyref.request import MAX_PICTURE_PIXELS

MAX_SAMPLES = 1000
MAX_BYTES = 10**9
SIDECAR_SUFFIX = ".meta.jsonl"

Bucket = tuple[int, int, int]  # width, height in pixels, frames


@dataclass(frozen=True, kw_only=True)
class PackedSample:
    """One sample in memory, its video and pictures still compressed.

    Args:
        video: MP4 of exactly `record.video`'s frames.
        references: PNG (with or without alpha), parallel to `record.references`.
        masks: PNG by index of the reference, white where the subject is.
    """

    record: Sample
    video: bytes
    references: tuple[bytes, ...] = ()
    masks: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def bucket(self) -> Bucket:
        """Samples of one bucket can share a batch: width, height in pixels, frames."""
        return bucket_of(self.record)

    def frames(self) -> np.ndarray:
        """Decode the video: uint8 (T, Y, X, 3), RGB.

        Raises:
            TrainingError: when it cannot be decoded or is not of the record's size.
        """
        said = self.record.video
        try:
            frames, _ = read_video(self.video, max_frames=said.num_frames)  # (T, Y, X, 3)
        except MediaError as error:
            raise TrainingError(f"sample {self.record.id!r}: {error}") from error
        if frames.shape[:3] != (said.num_frames, said.height, said.width):
            made = "x".join(str(n) for n in (frames.shape[2], frames.shape[1], len(frames)))
            raise TrainingError(
                f"sample {self.record.id!r} has a video of {made}, its record says "
                f"{bucket_name(self.bucket)}; pack it again"
            )
        return frames

    def picture(self, index: int) -> Image.Image:
        """Decode the picture of reference `index`, alpha kept.

        Raises:
            TrainingError: when it cannot be decoded or is over 64 megapixels.
        """
        return _decode_png(self.references[index], f"{self.record.id}.ref{index}.png")

    def mask(self, index: int) -> Image.Image | None:
        """Decode the mask of reference `index` as grey, white where the subject is, or None.

        Raises:
            TrainingError: as `picture`.
        """
        if index not in self.masks:
            return None
        return _decode_png(self.masks[index], f"{self.record.id}.ref{index}.mask.png").convert("L")


def _decode_png(data: bytes, name: str) -> Image.Image:
    picture = open_png(data, name)
    try:
        picture.load()
    except Exception as error:  # decoders raise many types on broken data
        raise TrainingError(f"{name} is not a readable PNG ({error})") from error
    return picture


def open_png(data: bytes, name: str) -> Image.Image:
    """Check a PNG's header and its bounds without decoding it.

    Raises:
        TrainingError: not a PNG, over 64 MiB or over 64 megapixels.
    """
    if len(data) > MAX_PICTURE_BYTES:
        raise TrainingError(f"{name} has {len(data):,} bytes, over 64 MiB; save a smaller one")
    try:
        picture = Image.open(io.BytesIO(data), formats=["PNG"])
    except Exception as error:  # as above; Pillow's own bomb check included
        raise TrainingError(f"{name} is not a readable PNG ({error})") from error
    if picture.width * picture.height > MAX_PICTURE_PIXELS:
        raise TrainingError(
            f"{name} is {picture.width}x{picture.height}, over 64 megapixels; scale it down"
        )
    return picture


def bucket_of(record: Sample) -> Bucket:
    """Width, height and frames of the record's clip."""
    return record.video.width, record.video.height, record.video.num_frames


def bucket_name(bucket: Bucket) -> str:
    """The bucket's folder name, such as 96x96x17."""
    return "x".join(str(n) for n in bucket)


class SidecarLine(BaseModel):
    """What the sidecar says of one sample; `offset` and `size` are its bytes in the tar."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    num_frames: int = Field(gt=0)
    fps: float = Field(gt=0, allow_inf_nan=False)
    num_references: int = Field(ge=0)
    offset: int = Field(ge=0)
    size: int = Field(gt=0)


def sidecar_path(shard: str) -> str:
    """Path or URL of the sidecar of a shard."""
    return shard.removesuffix(".tar") + SIDECAR_SUFFIX


def parse_sidecar(data: bytes, shard: str) -> list[SidecarLine]:
    """Read a shard's sidecar.

    Raises:
        TrainingError: when a line is not valid, or names a key for the second time.
    """
    lines: list[SidecarLine] = []
    for number, text in enumerate(data.splitlines(), start=1):
        try:
            lines.append(SidecarLine.model_validate_json(text))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field_name = ".".join(str(part) for part in first["loc"])
            raise TrainingError(
                f"line {number} of the sidecar of {shard!r} is not valid ({field_name}: "
                f"{first['msg']}); write the shard again with anyref.data.shards.ShardWriter"
            ) from error
    if len({line.key for line in lines}) < len(lines):
        raise TrainingError(f"the sidecar of {shard!r} names a key twice; write the shard again")
    return lines


def members_of(sample: PackedSample) -> dict[str, bytes]:
    """The sample as webdataset members, by suffix, the record completed with names and hashes.

    Raises:
        TrainingError: when pictures and record do not match, or a member is over its bound.
    """
    record, key = sample.record, sample.record.id
    if len(sample.references) != len(record.references):
        raise TrainingError(
            f"sample {key!r} has {len(sample.references)} pictures for "
            f"{len(record.references)} references; give one each"
        )
    if unknown := sorted(set(sample.masks) - set(range(len(sample.references)))):
        raise TrainingError(f"sample {key!r} has a mask for reference {unknown[0]}, which is none")
    if len(sample.video) > MAX_VIDEO_BYTES:
        raise TrainingError(f"sample {key!r} has a video over 2 GiB; cut it")
    pictures = {f"ref{i}.png": data for i, data in enumerate(sample.references)}
    pictures |= {f"ref{i}.mask.png": data for i, data in sample.masks.items()}
    for suffix, data in pictures.items():
        open_png(data, f"{key}.{suffix}")
    video = record.video.model_copy(
        update={"uri": f"{key}.mp4", "sha256": hashlib.sha256(sample.video).hexdigest()}
    )
    references = tuple(
        reference.model_copy(update={"image": _asset(reference.image, f"{key}.ref{i}.png", data)})
        for i, (reference, data) in enumerate(
            zip(record.references, sample.references, strict=True)
        )
    )
    packed = record.model_copy(update={"video": video, "references": references})
    texts = {"json": packed.to_json(), "txt": record.captions[0].text, "id": key}
    return {k: v.encode() for k, v in texts.items()} | {"mp4": sample.video} | pictures


def _asset(image: Asset, uri: str, data: bytes) -> Asset:
    return image.model_copy(update={"uri": uri, "sha256": hashlib.sha256(data).hexdigest()})


class _OpenShard:
    """A shard being written under a temporary name."""

    def __init__(self, path: Path) -> None:
        import webdataset  # loads torch

        self.path = path
        self.lines: list[SidecarLine] = []
        self.keys: set[str] = set()
        self._stack = ExitStack()
        file = self._stack.enter_context(open_atomically(path))
        # one time for all: equal samples make equal bytes; a float would double the headers
        self._tar = webdataset.TarWriter(file, encoder=False, mtime=0)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return int(self._tar.tarstream.offset)

    def add(self, sample: PackedSample, members: Mapping[str, bytes]) -> None:
        """Append a sample's members."""
        key, video = sample.record.id, sample.record.video
        if key in self.keys:
            raise TrainingError(f"sample {key!r} is written twice; ids are unique")
        self.keys.add(key)
        offset = self.size
        self._tar.write({"__key__": key, **members})
        self.lines.append(
            SidecarLine(
                key=key,
                width=video.width,
                height=video.height,
                num_frames=video.num_frames,
                fps=video.fps,
                num_references=len(sample.references),
                offset=offset,
                size=self.size - offset,
            )
        )

    def finish(self) -> Path:
        """Give the shard its final name, its sidecar first."""
        self._tar.close()
        text = "".join(line.model_dump_json() + "\n" for line in self.lines)
        sidecar = Path(sidecar_path(str(self.path)))
        write_atomically(sidecar, lambda file: file.write(text.encode()))
        self._stack.close()
        return self.path

    def discard(self, error: BaseException) -> None:
        """Remove the temporary file."""
        with suppress(OSError):  # a full disk fails here once more
            self._tar.close()
        with suppress(OSError):
            self._stack.__exit__(type(error), error, error.__traceback__)


def write_shard(path: str | Path, samples: Iterable[PackedSample]) -> None:
    """Write one shard and its sidecar; a kill leaves no shard of that name.

    Raises:
        TrainingError: for samples that cannot be packed, or a full disk.
    """
    shard = _OpenShard(Path(path))
    try:
        for sample in samples:
            shard.add(sample, members_of(sample))
        shard.finish()
    except OSError as error:
        shard.discard(error)
        raise _cannot_write(shard.path, error) from error
    except BaseException as error:
        shard.discard(error)
        raise


def _cannot_write(path: Path, error: OSError) -> TrainingError:
    return TrainingError(
        f"cannot write {str(path)!r}: {error.strerror or error}; free some space or use another "
        "folder"
    )


class ShardWriter:
    """Writes samples into shards by bucket, after those that a folder already holds.

    Used as a context manager by one writer per folder. A shard gets its final name when it is full
    or the block ends; when the block ends with an exception, shards that are not full are dropped.

    Args:
        max_samples, max_bytes: what a shard holds at most (one sample at least).

    Raises:
        TrainingError: for samples that cannot be packed, or a full disk.
    """

    def __init__(
        self, folder: str | Path, max_samples: int = MAX_SAMPLES, max_bytes: int = MAX_BYTES
    ) -> None:
        self.folder = Path(folder)
        self.max_samples, self.max_bytes = max_samples, max_bytes
        self.finished: list[Path] = []
        self._open: dict[Bucket, _OpenShard] = {}

    def write(self, sample: PackedSample) -> None:
        """Append a sample to its bucket's shard."""
        members = members_of(sample)
        shard = self._open.get(sample.bucket)
        new = sum(512 + -(-len(data) // 512) * 512 for data in members.values())  # tar blocks
        if shard and (len(shard.lines) >= self.max_samples or shard.size + new > self.max_bytes):
            self._finish(sample.bucket)
            shard = None
        if shard is None:
            shard = self._open[sample.bucket] = _OpenShard(self._next_path(sample.bucket))
        try:
            shard.add(sample, members)
        except OSError as error:
            self._open.pop(sample.bucket).discard(error)
            raise _cannot_write(shard.path, error) from error

    def _next_path(self, bucket: Bucket) -> Path:
        folder = self.folder / bucket_name(bucket)
        numbers = [int(path.stem) for path in folder.glob("*.tar") if path.stem.isdecimal()]
        return folder / f"{max(numbers, default=-1) + 1:06d}.tar"

    def _finish(self, bucket: Bucket) -> None:
        shard = self._open.pop(bucket)
        try:
            self.finished.append(shard.finish())
        except OSError as error:
            shard.discard(error)
            raise _cannot_write(shard.path, error) from error

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                for bucket in list(self._open):
                    self._finish(bucket)
        finally:
            cause = error or TrainingError("another shard could not be written")
            for shard in self._open.values():
                shard.discard(cause)
            self._open.clear()
