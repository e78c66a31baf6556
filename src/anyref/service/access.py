"""Who may do what: API keys, and none on a machine's own loopback address."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from anyref.service.refusals import Refusal
from anyref.service.settings import ServiceError

LOCAL = "local"  # the owner of everything where there are no keys
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
MIN_KEY_LENGTH = 16


def read_keys(file: Path) -> dict[str, str]:
    """Client names by the SHA-256 of their keys, from lines `name key`; `#` begins a comment.

    Raises:
        ServiceError: for a file that cannot be read, holds none, or a bad, short or repeated one.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"key file {str(file)!r} cannot be read: {error}") from error
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        if len(words) != 2 or not NAME.fullmatch(words[0]) or len(words[1]) < MIN_KEY_LENGTH:
            raise ServiceError(
                f"line {number} of key file {str(file)!r} is not `name key`, with a key of "
                f"{MIN_KEY_LENGTH} or more characters"
            )
        name, digest = words[0], digest_of(words[1])
        if name in keys.values() or digest in keys:
            raise ServiceError(f"line {number} of key file {str(file)!r} repeats a name or key")
        keys[digest] = name
    if not keys:
        raise ServiceError(f"key file {str(file)!r} holds no key; write `name key` per line")
    return keys


def digest_of(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def owner_of(authorization: str | None, keys: dict[str, str]) -> str:
    """The client that a request's Authorization header names.

    The header's key is hashed before it is looked up, so that timing tells nothing about keys.

    Raises:
        Refusal: 401 without a known key where keys are needed.
    """
    if not keys:
        return LOCAL
    scheme, _, key = (authorization or "").partition(" ")
    owner = keys.get(digest_of(key.strip())) if scheme.lower() == "bearer" else None
    if owner is None:
        message = "no valid API key; send the header Authorization: Bearer KEY"
        raise Refusal(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
    return owner
