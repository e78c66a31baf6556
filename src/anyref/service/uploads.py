"""What clients send as pictures: bounded, told apart by content, decoded only in the sandbox."""

from __future__ import annotations

import base64
import binascii
import subprocess
import sys
from pathlib import Path

from anyref.errors import MediaError
from anyref.service.sandbox import REFUSED
from anyref.service.settings import Limits

SANDBOX = Path(__file__).with_name("sandbox.py")
WALL_SECONDS = 30
DATA_URI = "data:image/"
NOT_PICTURES = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"OggS", "a video"),
)


def check_upload(data: bytes, label: str, limits: Limits) -> None:
    """Raise MediaError for what is plainly no picture, before a process is spent on it."""
    if not data:
        raise MediaError(f"{label} is empty; send a PNG, JPEG or WebP picture")
    if len(data) > limits.picture_bytes:
        raise MediaError(
            f"{label} has {len(data):,} bytes, over the limit of {limits.picture_bytes:,}; "
            "save a smaller one"
        )
    if not _is_picture(data):
        what = _known_other(data) or "no picture that is read here"
        raise MediaError(f"{label} is {what}; references are pictures: send PNG, JPEG or WebP")


def from_data_uri(text: str, label: str, limits: Limits) -> bytes:
    """The bytes of a `data:image/...;base64,...` URI.

    Raises:
        MediaError: for any other text. Nothing is ever fetched from an address.
    """
    if not text.startswith(DATA_URI):
        raise MediaError(
            f"{label} is no inline picture; send data:image/png;base64,... or upload a file "
            "(addresses are not fetched)"
        )
    head, comma, body = text.partition(",")
    if not comma or not head.endswith(";base64"):
        raise MediaError(f"{label} is not base64; send data:image/png;base64,...")
    if len(body) > limits.picture_bytes * 4 // 3 + 4:
        raise MediaError(
            f"{label} has {len(body):,} characters, over the limit of "
            f"{limits.picture_bytes:,} bytes; save a smaller one"
        )
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"{label} is not valid base64; encode it again") from error


def decode(data: bytes, label: str, limits: Limits) -> bytes:
    """The picture as a clean PNG, made in a process that can do nothing else.

    Args:
        label: what to call it in errors.

    Raises:
        MediaError: when it is no picture, too large, or too costly to decode.
    """
    check_upload(data, label, limits)
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(SANDBOX), str(limits.picture_pixels)],
            input=data,
            capture_output=True,
            cwd="/",
            env={},
            timeout=WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MediaError(f"{label} takes too long to decode; save it anew as PNG") from error
    if done.returncode == 0:
        return done.stdout
    if done.returncode == REFUSED:
        raise MediaError(f"{label}: {done.stderr.decode('utf-8', 'replace')[:300]}")
    raise MediaError(f"{label} cannot be decoded within this service's limits; save it anew as PNG")


def _is_picture(data: bytes) -> bool:
    webp = data.startswith(b"RIFF") and data[8:12] == b"WEBP"
    return webp or data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def _known_other(data: bytes) -> str | None:
    for magic, what in NOT_PICTURES:
        if data.startswith(magic):
            return what
    if data[4:8] == b"ftyp" and data[8:12] not in (b"avif", b"heic"):
        return "a video"
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<svg", b"<?xml", b"<!doctype svg")) or b"<svg" in head:
        return "an SVG drawing"
    if head.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return None
