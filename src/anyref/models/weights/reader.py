"""Weights on disk, read one tensor at a time: safetensors, shards with an index, torch files.

Opening reads names, shapes and dtypes only. Torch files go through `weights_only=True`, so a file
that would run code is refused.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from anyref.errors import ConvertError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
}


@dataclass(frozen=True)
class Stored:
    """Where one tensor lies, and what it is before it is read."""

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype


class Weights(Mapping[str, Stored]):
    """Named tensors in one or more files.

    Names have `prefix` removed; `stored(name).key` is the name in the file.
    """

    def __init__(self, stored: Mapping[str, Stored], *, prefix: str = "", inside: str = "") -> None:
        self._stored = dict(stored)
        self._inside = inside
        self._open: tuple[Path, Mapping[str, Tensor]] | None = None
        self.prefix = prefix

    def __getitem__(self, name: str) -> Stored:
        return self._stored[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def tensor(self, name: str) -> Tensor:
        """Read one tensor into memory of its own."""
        stored = self._stored[name]
        if stored.file.suffix == ".safetensors":
            with safe_open(stored.file, framework="pt") as file:
                return file.get_tensor(stored.key).clone()
        if self._open is None or self._open[0] != stored.file:
            self._open = (stored.file, _load_pickled(stored.file, self._inside))
        return self._open[1][stored.key].clone()

    def release(self) -> None:
        """Close what `tensor` keeps open, which gives mapped pages back to the system."""
        self._open = None

    def vote(self, *places: tuple[str, int]) -> int:
        """The length that most of these (name, axis) agree on, so that one bad tensor stands out.

        Raises:
            ConvertError: when none of them is there; it names the first.
        """
        lengths = Counter(
            self._stored[name].shape[axis]
            for name, axis in places
            if name in self._stored and axis < len(self._stored[name].shape)
        )
        if not lengths:
            name = places[0][0]
            found = f", found {self._stored[name].shape}" if name in self._stored else ""
            raise ConvertError(
                f"missing or misshapen key {self.prefix + name!r}{found}; "
                "give the complete official file"
            )
        return lengths.most_common(1)[0][0]

    def depth(self, before: str) -> int:
        """How many blocks, numbered from 0 without a gap, have a name starting with `before`."""
        numbers = {
            name.removeprefix(before).split(".", 1)[0]
            for name in self._stored
            if name.startswith(before)
        }
        depth = 0
        while str(depth) in numbers:
            depth += 1
        return depth

    def without(self, prefixes: Iterable[str]) -> Weights:
        """The same tensors with the first of these prefixes that any name has removed.

        A name without the prefix keeps its name, and so shows up as unexpected later.
        """
        for prefix in prefixes:
            if any(name.startswith(prefix) for name in self._stored):
                renamed = {name.removeprefix(prefix): at for name, at in self._stored.items()}
                return Weights(renamed, prefix=prefix, inside=self._inside)
        return self

    def __or__(self, other: Weights) -> Weights:
        """Both sets of names, from files opened the same way."""
        return Weights({**self._stored, **other._stored}, prefix=self.prefix, inside=self._inside)

    def only(self, names: Iterable[str]) -> Weights:
        """The same files, only these names."""
        kept = {name: self._stored[name] for name in names}
        return Weights(kept, prefix=self.prefix, inside=self._inside)


def open_weights(path: Path, *, inside: str = "") -> Weights:
    """Open a `.safetensors` file, a `.safetensors.index.json` or a torch file.

    Args:
        inside: the entry of a torch file that holds the state dict, where it is not the whole.

    Raises:
        ConvertError: when a file is missing, damaged, disagrees with its index, or is a pickle that
            holds anything but tensors and plain values.
    """
    if path.name.endswith(".index.json"):
        return Weights(_read_index(path))
    if path.suffix == ".safetensors":
        return Weights(_list_safetensors(path))
    stored = {
        name: Stored(path, name, tuple(value.shape), value.dtype)
        for name, value in _load_pickled(path, inside).items()
    }
    return Weights(stored, inside=inside)


def find_weights(folder: Path, stem: str) -> Path:
    """The weights of a diffusers or transformers component: one file, or the index of its shards.

    Raises:
        ConvertError: when the folder has neither.
    """
    for name in (f"{stem}.safetensors", f"{stem}.safetensors.index.json"):
        if (folder / name).is_file():
            return folder / name
    raise ConvertError(f"no {stem}.safetensors, nor an index of shards, in {str(folder)!r}")


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        ConvertError: when the file is missing or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConvertError(f"cannot read {str(path)!r}: {error}") from error
    if not isinstance(value, dict):
        raise ConvertError(f"{str(path)!r} holds {type(value).__name__}, expected a JSON object")
    return value


def _read_index(path: Path) -> dict[str, Stored]:
    listed = read_json(path).get("weight_map")
    if not isinstance(listed, dict):
        raise ConvertError(f"{str(path)!r} has no 'weight_map'; give the index that came with it")
    stored: dict[str, Stored] = {}
    for name in sorted(set(map(str, listed.values()))):
        if Path(name).name != name:
            raise ConvertError(f"{str(path)!r} points outside its folder: {name!r}")
        for key, at in _list_safetensors(path.parent / name).items():
            if listed.get(key) != name:
                raise ConvertError(f"unexpected key {key!r} in {name!r}: not so in {path.name!r}")
            stored[key] = at
    for key, name in listed.items():
        if key not in stored:
            raise ConvertError(f"missing key {key!r}: {path.name!r} says it is in {name!r}")
    return stored


def _list_safetensors(path: Path) -> dict[str, Stored]:
    if not path.is_file():
        raise ConvertError(f"missing file {str(path)!r}")
    stored = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                part = file.get_slice(key)
                if part.get_dtype() not in _DTYPES:
                    raise ConvertError(
                        f"key {key!r} in {str(path)!r} has the unknown dtype "
                        f"{part.get_dtype()}, known: {', '.join(_DTYPES)}"
                    )
                shape = tuple(part.get_shape())
                stored[key] = Stored(path, key, shape, _DTYPES[part.get_dtype()])
    except (SafetensorError, OSError) as error:
        raise ConvertError(f"cannot read {str(path)!r}: {error}") from error
    return stored


def _load_pickled(path: Path, inside: str) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise ConvertError(f"missing file {str(path)!r}")
    mapped = zipfile.is_zipfile(path)  # torch files from before 2020 are not, and cannot be mapped
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ConvertError(
            f"refused {str(path)!r}: it holds more than tensors and could run code ({reason})"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ConvertError(f"cannot read {str(path)!r}: {error}") from error
    if inside:
        loaded = loaded.get(inside) if isinstance(loaded, dict) else None
    if not isinstance(loaded, dict):
        what = f"an entry {inside!r} with a state dict" if inside else "a state dict"
        raise ConvertError(f"{str(path)!r} does not hold {what}")
    for key, value in loaded.items():
        if not isinstance(value, Tensor):
            raise ConvertError(
                f"unexpected key {key!r} in {str(path)!r}: "
                f"a {type(value).__name__}, expected a tensor"
            )
    return loaded
