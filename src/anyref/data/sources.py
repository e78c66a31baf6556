"""The inputs of a run, one by one: files, folders, and lists of both or of URLs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from anyref.errors import DataError

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts",
    ".wmv", ".flv", ".ogv", ".3gp",
)  # fmt: skip
LIST_SUFFIXES = (".txt", ".list")
MAX_LINE_BYTES = 64 * 2**10
_ESCAPED = "file:"  # before a percent-encoded path that is not UTF-8


@dataclass(frozen=True, slots=True)
class Source:
    """One input; what a run finishes or does again as a whole.

    Args:
        id: 16 hex digits that follow from `uri`.
        uri: the path as it was given, or a URL; always valid Unicode.
        location: the absolute path, or the URL.
    """

    id: str
    uri: str
    location: str

    @classmethod
    def of(cls, uri: str | Path) -> Source:
        """The source of a path or URL; nothing is opened."""
        text = str(uri)
        if "://" in text:
            return cls(_id(text), text, text)
        path = os.path.normpath(text)
        name, place = _unicode(path), _unicode(os.path.abspath(path))  # noqa: PTH100
        return cls(_id(name), name, place)

    @property
    def path(self) -> Path:
        """The file, when it is one."""
        if self.location.startswith(_ESCAPED):
            return Path(os.fsdecode(unquote_to_bytes(self.location.removeprefix(_ESCAPED))))
        return Path(self.location)


def _id(uri: str) -> str:
    return hashlib.sha1(uri.encode(), usedforsecurity=False).hexdigest()[:16]


def _unicode(path: str) -> str:
    """A path as it is, or percent-encoded when its bytes are not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return _ESCAPED + quote_from_bytes(os.fsencode(path))
    return path


def read_sources(
    inputs: Iterable[str | Path | Source], suffixes: tuple[str, ...] = VIDEO_SUFFIXES
) -> Iterator[Source]:
    """Sources as they are asked for; no more than one folder's names are held.

    Args:
        inputs: files, URLs, folders (searched to any depth in the order of names; hidden files and
            links to folders are left out), lists (.txt: a path or URL per line, # starts a
            comment, paths start from the list's folder).
        suffixes: of the files that are taken from folders. A file named outright is always taken,
            and so is what a list names, there or not: the stages will say what is wrong with it.

    Raises:
        DataError: for an input that does not exist, or cannot be listed or read.
    """
    for one in inputs:
        if isinstance(one, Source):
            yield one
        elif "://" in str(one):
            yield Source.of(one)
        elif Path(one).is_dir():
            yield from _walk(str(one), suffixes)
        elif not os.path.lexists(one):
            raise DataError(f"input {str(one)!r} does not exist; check the path")
        elif Path(one).suffix.lower() in LIST_SUFFIXES:
            yield from _listed(Path(one), suffixes)
        else:
            yield Source.of(one)


def _walk(folder: str, suffixes: tuple[str, ...]) -> Iterator[Source]:
    try:
        with os.scandir(folder) as entries:
            found = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in entries)
    except OSError as error:
        raise DataError(f"folder {folder!r} cannot be listed: {error.strerror}") from error
    for name, is_folder in found:
        if name.startswith("."):
            continue
        path = os.path.join(folder, name)  # noqa: PTH118
        if is_folder:
            yield from _walk(path, suffixes)
        elif name.lower().endswith(suffixes):
            yield Source.of(path)


def _listed(path: Path, suffixes: tuple[str, ...]) -> Iterator[Source]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                if len(line) == MAX_LINE_BYTES:
                    raise DataError(f"line {number} of list {str(path)!r} is over 64 KiB; cut it")
                text = os.fsdecode(line.strip())
                if not text or text.startswith("#"):
                    continue
                named = text if "://" in text else path.parent / text
                if isinstance(named, Path) and named.is_dir():
                    yield from _walk(str(named), suffixes)
                else:
                    yield Source.of(named)
    except OSError as error:
        raise DataError(f"list {str(path)!r} cannot be read: {error.strerror}") from error
