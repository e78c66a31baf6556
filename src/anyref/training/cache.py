"""Latents and text embeddings kept by content: equal inputs are encoded once.

An entry's name is the SHA-256 of everything it was made from, so a changed sample, size or encoder
finds nothing stale. Entries are safetensors files, written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from anyref.errors import MediaError, TrainingError
from anyref.media import write_atomically

Entry = tuple[dict[str, Tensor], dict[str, str]]


class CacheError(TrainingError):
    """The cache's folder cannot be written; no fault of the sample that was to be kept."""


class ContentCache:
    """Tensors by the hash of what they were made from.

    Args:
        folder: where entries lie; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def load(self, key: str) -> Entry | None:
        """The tensors and texts stored under a key, or None. A damaged file counts as absent."""
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return tensors, file.metadata() or {}
        except (SafetensorError, OSError):
            return None

    def store(self, key: str, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
        """Keep tensors under a key.

        Raises:
            CacheError: when the folder cannot be written.
        """
        path = self._path(key)
        if path is None:
            return
        data = save({name: x.contiguous() for name, x in tensors.items()}, metadata=dict(texts))
        try:
            write_atomically(path, lambda file: file.write(data))
        except (OSError, MediaError) as error:
            raise CacheError(
                f"data.cache {str(self.folder)!r} cannot be written: {error}; make room or choose "
                "another folder, and start again"
            ) from error

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / key[:2] / f"{key}.safetensors"


def content_key(*parts: bytes | str | Mapping[str, Any]) -> str:
    """SHA-256 over parts, each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        text = json.dumps(part, sort_keys=True) if isinstance(part, Mapping) else part
        data = text.encode() if isinstance(text, str) else text
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def module_key(module: nn.Module | None) -> str:
    """Hash of a module's settings and weights, wherever it was loaded from; of nothing for None."""
    if module is None:
        return content_key("absent")
    own: Any = module.config  # diffusers' is a mapping, transformers' an object
    config = own if isinstance(own, Mapping) else own.to_dict()
    settings = {name: value for name, value in config.items() if not name.startswith("_")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(data.numpy())
    return digest.hexdigest()
