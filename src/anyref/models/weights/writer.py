"""Tensors onto disk: one shard in memory at a time, folders that appear whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import Tensor

from anyref.errors import ConvertError
from anyref.models.weights.mapping import Piece

MAX_SHARD_BYTES = 4 * 2**30
_KEPT_IN_MEMORY_BYTES = 2**20


def write_shards(
    folder: Path,
    stem: str,
    pieces: Sequence[Piece],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    after_shard: Callable[[], None] = lambda: None,
) -> None:
    """Write `{stem}.safetensors`, or numbered shards and their index when it would be too large.

    Args:
        max_shard_bytes: shards stay below this, except that a larger piece has one of its own.
        after_shard: called when a shard is written and freed.
    """
    shards = _group(pieces, max_shard_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        numbered = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        name = f"{stem}{numbered}.safetensors"
        _write_shard(folder / name, shard)
        after_shard()
        weight_map |= {key: name for piece in shard for key in piece.names}
    if len(shards) > 1:
        total = sum(piece.num_bytes for piece in pieces)
        write_json(
            folder / f"{stem}.safetensors.index.json",
            {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))},
        )


def write_pickled(path: Path, pieces: Sequence[Piece], wrap: str = "") -> None:
    """Write a torch file with one dict of tensors, or that dict under the entry `wrap`.

    Large tensors wait in mapped scratch files, so memory holds one of them at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".scratch-") as scratch:
        tensors: dict[str, Tensor] = {}
        for piece in pieces:
            for name, tensor in piece.make().items():
                tensors[name] = _park(tensor, Path(scratch) / str(len(tensors)))
        torch.save({wrap: tensors} if wrap else tensors, path)
        tensors.clear()


def write_json(path: Path, value: object) -> None:
    """Write indented JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill (`out` + ".partial") that becomes `out` when the block ends without error.

    A kill leaves at most the `.partial` folder, which the next run starts over.

    Raises:
        ConvertError: when `out` exists and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConvertError(f"{str(out)!r} exists and is not an empty folder; give a new one")
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial)
        raise
    if out.exists():
        out.rmdir()
    partial.rename(out)


def _group(pieces: Sequence[Piece], max_shard_bytes: int) -> list[list[Piece]]:
    shards: list[list[Piece]] = [[]]
    size = 0
    for piece in pieces:
        if shards[-1] and size + piece.num_bytes > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(piece)
        size += piece.num_bytes
    return shards


def _write_shard(path: Path, pieces: Sequence[Piece]) -> None:
    tensors: dict[str, Tensor] = {}
    for piece in pieces:
        tensors |= {name: tensor.contiguous() for name, tensor in piece.make().items()}
    save_file(tensors, path, metadata={"format": "pt"})


def _park(tensor: Tensor, path: Path) -> Tensor:
    if tensor.nbytes <= _KEPT_IN_MEMORY_BYTES:
        return tensor.contiguous()
    parked = torch.from_file(str(path), shared=True, size=tensor.numel(), dtype=tensor.dtype)
    return parked.view(tensor.shape).copy_(tensor)
