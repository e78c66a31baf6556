"""Finding, ordering and reading the samples of many shards.

Shards may lie anywhere that fsspec reaches: a sample is one ranged read, and nothing is read ahead.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from anyref.data.record import MAX_REFERENCES, Sample
from anyref.data.shards import (
    Bucket,
    PackedSample,
    bucket_name,
    bucket_of,
    open_png,
    parse_sidecar,
    sidecar_path,
)
from anyref.errors import TrainingError

MAX_SIDECAR_BYTES = 64 * 2**20
MAX_RECORD_BYTES = 16 * 2**20
MAX_SAMPLE_BYTES = 2**31


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexEntry:
    """Where one sample lies. offset, size: its bytes in the shard. fps: frames per second."""

    key: str
    bucket: Bucket
    fps: float
    num_references: int
    shard: str
    offset: int
    size: int


@dataclass(frozen=True)
class ShardIndex:
    """The samples of a set of shards, in a fixed order; small enough to send to workers.

    Args:
        fingerprint: sha256 over the shards' names (folder and file), their sizes and their keys.
    """

    entries: tuple[IndexEntry, ...]
    fingerprint: str

    @classmethod
    def open(cls, patterns: Sequence[str]) -> ShardIndex:
        """Read the sidecars of every shard that any pattern names.

        Args:
            patterns: shards, folders (searched to any depth) or globs, as local paths or as URLs
                of fsspec (s3://, memory://, simplecache::s3://, ...).

        Raises:
            TrainingError: when a pattern names no shard, a sidecar is missing or not valid, or a
                key lies in two shards.
        """
        shards = sorted({url for pattern in patterns for url in _shards_of(pattern)})
        if not shards:
            raise TrainingError("0 shard patterns given; name a folder of shards")
        entries: list[IndexEntry] = []
        digest = hashlib.sha256()
        for shard in shards:
            found, size = _entries_of(shard)
            name = "/".join(shard.split("/")[-2:])
            digest.update(f"{name}\n{size}\n".encode())
            digest.update("".join(f"{entry.key}\n" for entry in found).encode())
            entries += found
        _check_keys(entries)
        return cls(tuple(entries), digest.hexdigest())

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def buckets(self) -> Mapping[Bucket, tuple[int, ...]]:
        """Numbers of the samples of every bucket, buckets in ascending order."""
        groups: dict[Bucket, list[int]] = {}
        for i, entry in enumerate(self.entries):
            groups.setdefault(entry.bucket, []).append(i)
        return {bucket: tuple(groups[bucket]) for bucket in sorted(groups)}

    def read(self, i: int) -> PackedSample:
        """Read sample number `i`, and check its record and its hashes.

        Raises:
            TrainingError: naming shard and key, when the sample is damaged: cut off, a member
                missing, not valid JSON, another schema version, a hash that does not match, a
                member over its bound.
        """
        entry = self.entries[i]
        try:
            return _unpack(_read_span(entry), entry)
        except (TrainingError, OSError) as error:
            raise TrainingError(f"shard {entry.shard!r}, key {entry.key!r}: {error}") from error


def _shards_of(pattern: str) -> list[str]:
    """Full paths or URLs of the shards that a pattern names."""
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    chain, separator, last = pattern.rpartition("::")
    try:
        fs, path = fsspec.core.url_to_fs(last)
        found = fs.find(path) if fs.isdir(path) else fs.glob(path)
        if fs.isfile(path):  # its name may hold the signs of a glob
            found = [path]
        shards = [p for p in found if p.endswith(".tar")]
    except (OSError, ValueError, ImportError) as error:
        raise TrainingError(f"shards {pattern!r} cannot be listed: {error}") from error
    if not shards:
        raise TrainingError(f"{pattern!r} names 0 shards (.tar); check the path")
    local = isinstance(fs, LocalFileSystem)
    return [chain + separator + (p if local else fs.unstrip_protocol(p)) for p in shards]


def _entries_of(shard: str) -> tuple[list[IndexEntry], int]:
    """The samples that a shard's sidecar lists, and the size of the shard in bytes."""
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(shard)
        size = int(fs.size(path))
        beside = sidecar_path(path)
        if not fs.exists(beside):
            raise TrainingError(
                f"shard {shard!r} has no {sidecar_path('.tar')} beside it; write it again with "
                "anyref.data.shards.ShardWriter"
            )
        if fs.size(beside) > MAX_SIDECAR_BYTES:
            raise TrainingError(f"the sidecar of {shard!r} is over 64 MiB; use smaller shards")
        lines = parse_sidecar(fs.cat_file(beside), shard)
    except OSError as error:
        raise TrainingError(f"the sidecar of {shard!r} cannot be read: {error}") from error
    entries = [
        IndexEntry(
            key=line.key,
            bucket=(line.width, line.height, line.num_frames),
            fps=line.fps,
            num_references=line.num_references,
            shard=shard,
            offset=line.offset,
            size=line.size,
        )
        for line in lines
    ]
    return entries, size


def _check_keys(entries: Iterable[IndexEntry]) -> None:
    shards: dict[str, str] = {}
    for entry in entries:
        other = shards.setdefault(entry.key, entry.shard)
        if other != entry.shard:
            raise TrainingError(
                f"key {entry.key!r} is in {other!r} and in {entry.shard!r}; leave one of them out"
            )


def _read_span(entry: IndexEntry) -> bytes:
    """The bytes of a sample's members."""
    import fsspec

    if entry.size > MAX_SAMPLE_BYTES:
        raise TrainingError(f"{entry.size:,} bytes are over 2 GiB; cut the clip")
    fs, path = fsspec.core.url_to_fs(entry.shard)
    data = fs.cat_file(path, start=entry.offset, end=entry.offset + entry.size)
    if len(data) < entry.size:
        raise TrainingError(
            f"the shard ends after {len(data):,} of the sample's {entry.size:,} bytes; copy it "
            "again"
        )
    return data


def _unpack(data: bytes, entry: IndexEntry) -> PackedSample:
    members = _members(data, entry.key)
    text = _member(members, "json")
    if len(text) > MAX_RECORD_BYTES:
        raise TrainingError(f"a record of {len(text):,} bytes is over 16 MiB; shorten it")
    record = Sample.from_json(text)
    if record.id != entry.key:
        raise TrainingError(f"its record is that of {record.id!r}; write the shard again")
    if bucket_of(record) != entry.bucket:
        raise TrainingError(
            f"its record says {bucket_name(bucket_of(record))}, the sidecar "
            f"{bucket_name(entry.bucket)}; write the shard again"
        )
    video = _checked(_member(members, "mp4"), record.video.sha256, "mp4")
    pictures, masks = [], {}
    for k, reference in enumerate(record.references):
        name = f"ref{k}.png"
        pictures.append(_checked(_member(members, name), reference.image.sha256, name))
        open_png(pictures[-1], name)
        if (mask := members.get(f"ref{k}.mask.png")) is not None:
            open_png(mask, f"ref{k}.mask.png")
            masks[k] = mask
    return PackedSample(record=record, video=video, references=tuple(pictures), masks=masks)


def _members(data: bytes, key: str) -> dict[str, bytes]:
    """The members that a record may have, by suffix; any other is left alone."""
    known = {"json", "mp4"} | {
        f"ref{k}.{end}" for k in range(MAX_REFERENCES) for end in ("png", "mask.png")
    }
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for info in tar:
                owner, _, suffix = info.name.partition(".")
                if owner != key:
                    raise TrainingError(f"member {info.name!r} lies where {key!r} should")
                # a sparse member claims more bytes than there are
                if suffix in known and info.isreg() and info.size <= len(data):
                    file: Any = tar.extractfile(info)
                    members[suffix] = file.read()
    except TrainingError:
        raise
    except Exception as error:  # the tar reader raises many types on broken data
        raise TrainingError(f"not a readable tar ({error}); copy the shard again") from error
    return members


def _member(members: Mapping[str, bytes], suffix: str) -> bytes:
    if suffix not in members:
        raise TrainingError(f"member .{suffix} is missing; write the shard again")
    return members[suffix]


def _checked(data: bytes, sha256: str | None, name: str) -> bytes:
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise TrainingError(f"member .{name} does not match its sha256; copy the shard again")
    return data


class BatchOrder:
    """Which samples make batch number n: a function of (seed, n) and of nothing else.

    Every epoch shuffles each bucket, cuts it into whole batches and shuffles these. What is left
    over in a bucket changes from epoch to epoch.

    Args:
        buckets: sample numbers, grouped by what can share a batch.
        batch: samples per batch, over all processes.

    Raises:
        TrainingError: when no bucket fills a batch.
    """

    def __init__(self, buckets: Sequence[Sequence[int]], batch: int, seed: int) -> None:
        if batch < 1:
            raise TrainingError(f"batch is {batch}; it must be at least 1")
        self._buckets = [np.asarray(bucket, np.int64) for bucket in buckets]
        self._batch, self._seed = batch, seed
        self.batches_per_epoch = sum(len(bucket) // batch for bucket in buckets)
        self.num_unreachable = sum(len(b) for b in buckets if len(b) < batch)
        if not self.batches_per_epoch:
            largest = max((len(bucket) for bucket in buckets), default=0)
            raise TrainingError(
                f"the largest bucket has {largest} samples, fewer than a batch of {batch}; lower "
                "the batch or add data"
            )
        self._made: tuple[int, np.ndarray] | None = None

    def batch(self, n: int) -> tuple[int, ...]:
        """The sample numbers of batch `n`, counted from 0 over all epochs."""
        epoch, position = divmod(n, self.batches_per_epoch)
        if self._made is None or self._made[0] != epoch:
            self._made = epoch, self._shuffled(epoch)
        return tuple(self._made[1][position].tolist())

    def epoch(self, n: int) -> int:
        """The epoch that batch `n` belongs to, counted from 0."""
        return n // self.batches_per_epoch

    def _shuffled(self, epoch: int) -> np.ndarray:
        """All batches of an epoch: (batches, samples)."""
        rows = []
        for k, bucket in enumerate(self._buckets):
            whole = len(bucket) // self._batch * self._batch
            picks = bucket[self._permutation(len(bucket), epoch, k)[:whole]]
            rows.append(picks.reshape(-1, self._batch))
        batches = np.concatenate(rows)
        return batches[self._permutation(len(batches), epoch, len(rows))]

    def _permutation(self, size: int, epoch: int, stream: int) -> np.ndarray:
        # NumPy promises that raw bits never change between versions; `permutation` may
        bits = np.random.PCG64(np.random.SeedSequence([self._seed, epoch, stream]))
        return np.argsort(bits.random_raw(size), kind="stable")
