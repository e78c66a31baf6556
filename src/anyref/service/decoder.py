"""Decodes uploads in sandboxes and remembers the last of them.

A page asks about the same pictures again and again while a request is written: what would it give,
what does the model see, and at last for the video. A picture's process is spent once.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from threading import Lock

from anyref.errors import MediaError
from anyref.service import uploads
from anyref.service.settings import Limits


class FaultyPictureError(MediaError):
    """A picture that cannot be decoded.

    Args:
        param: the field that holds it, or the form's file part.
    """

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class Decoder:
    """`uploads.decode` with a memory, bounded in bytes.

    Args:
        limits: on one picture, and `decoded_bytes` on what is remembered.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()
        self._size = 0
        self._lock = Lock()

    def decode(self, data: bytes, label: str, owner: str) -> bytes:
        """The picture as a clean PNG.

        Args:
            label: what to call it in errors. owner: who sent it; nobody learns from an answer's
                time what another client sent.

        Raises:
            MediaError: as `uploads.decode`.
        """
        key = (owner, hashlib.sha256(data).digest())
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        png = uploads.decode(data, label, self._limits)
        self._remember(key, png)
        return png

    def _remember(self, key: tuple[str, bytes], png: bytes) -> None:
        with self._lock:
            if key in self._known:
                return
            self._known[key] = png
            self._size += len(png)
            while self._size > self._limits.decoded_bytes:
                _, gone = self._known.popitem(last=False)
                self._size -= len(gone)
