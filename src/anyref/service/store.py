"""Videos and pictures in a folder, or behind an fsspec URL.

    videos/<job>.<attempt>.mp4      what an attempt made, and .jpg, its thumbnail
    references/<job>.<number>.png   what a client sent, decoded and written anew

A file appears whole or not at all. Names are made here from a job's unguessable id and numbers, and
nothing else is a name, so no text of a client ever reaches a path.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from anyref.media import write_atomically
from anyref.service.settings import ServiceError

NAME = re.compile(r"(videos|references)/(video_[0-9a-f]{32})\.([0-9]{1,9})\.(mp4|jpg|png)")
ROOMS = ("videos", "references")


def new_id() -> str:
    """An id that cannot be guessed: 128 random bits."""
    return f"video_{secrets.token_hex(16)}"


def video_name(id: str, attempt: int) -> str:  # noqa: A002 - its name
    """What an attempt's video is called."""
    return f"videos/{id}.{attempt}.mp4"


def thumbnail_name(id: str, attempt: int) -> str:  # noqa: A002 - its name
    """What the thumbnail beside it is called."""
    return f"videos/{id}.{attempt}.jpg"


def reference_name(id: str, number: int) -> str:  # noqa: A002 - its name
    """What the job's picture of that number is called."""
    return f"references/{id}.{number}.png"


class Store:
    """Files by name.

    Args:
        url: a folder, made when absent and closed to other users, or an fsspec URL.

    Raises:
        ServiceError: when it cannot be opened.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self._files, root = fsspec.core.url_to_fs(url)
            local = "file" in tuple(self._files.protocol)
            self._folder = Path(root) if local else None
            self._root = root.rstrip("/")
            for room in ROOMS:
                if self._folder is not None:
                    (self._folder / room).mkdir(parents=True, exist_ok=True, mode=0o700)
                else:
                    self._files.makedirs(f"{self._root}/{room}", exist_ok=True)
        except (OSError, ValueError, ImportError) as error:
            raise ServiceError(
                f"store {url!r} cannot be opened ({error}); give a folder that can be written, or "
                "a URL whose fsspec driver is installed"
            ) from error

    def place(self, name: str, make: Callable[[Path], object]) -> int:
        """Let `make` write a file and keep it under this name; its size in bytes."""
        if self._folder is not None:
            path = Path(self._path(name))
            make(path)
            _sync_folder(path.parent)
            return path.stat().st_size
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name.rpartition("/")[2]
            make(path)
            unfinished = f"{self._path(name)}.part"
            self._files.put_file(str(path), unfinished)
            self._files.mv(unfinished, self._path(name))
            return path.stat().st_size

    def write(self, name: str, data: bytes) -> None:
        """Keep bytes under this name."""
        self.place(name, lambda path: write_atomically(path, lambda file: file.write(data)))

    def fetch(self, name: str, folder: Path) -> Path:
        """A local file with this content: the file itself, or a copy in `folder`."""
        if self._folder is not None:
            return Path(self._path(name))
        path = folder / name.rpartition("/")[2]
        self._files.get_file(self._path(name), str(path))
        return path

    def open(self, name: str) -> BinaryIO:
        """The file, to read and seek in; raises FileNotFoundError."""
        if self._folder is not None:
            return Path(self._path(name)).open("rb")
        opened: Any = self._files.open(self._path(name), "rb")
        return opened

    def delete(self, name: str) -> None:
        """Remove the file if it is there."""
        try:
            self._files.rm_file(self._path(name))
        except FileNotFoundError:
            return

    def names(self) -> Iterator[str]:
        """Every file's path below the root, unfinished ones too."""
        for room in ROOMS:
            if self._folder is not None:
                with os.scandir(self._folder / room) as entries:
                    yield from (f"{room}/{entry.name}" for entry in entries)
                continue
            self._files.invalidate_cache()
            for path in self._files.ls(f"{self._root}/{room}", detail=False):
                yield f"{room}/{path.rpartition('/')[2]}"

    def remove_stray(self, name: str) -> None:
        """Remove a file that `names` gave, whatever it is called."""
        room, _, last = name.partition("/")
        if room in ROOMS and last not in ("", ".", "..") and "/" not in last:
            try:
                self._files.rm_file(f"{self._root}/{room}/{last}")
            except FileNotFoundError:
                return

    def _path(self, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ServiceError(f"{name!r} is no name of this store")
        return f"{self._root}/{name}"


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
