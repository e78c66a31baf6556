"""Uploads: decoded in the sandbox, written anew, refused with a reason."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from anyref.errors import MediaError
from anyref.media import open_picture
from anyref.service.settings import Limits
from anyref.service.uploads import SANDBOX, check_upload, decode, from_data_uri

LIMITS = Limits(picture_bytes=100_000, picture_pixels=10_000)


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def noise(mode):
    random = np.random.default_rng(0)
    return Image.fromarray(random.integers(0, 255, (12, 20, 4), dtype=np.uint8)).convert(mode)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("mode", ["RGBA", "P", "I;16"])
def test_what_the_model_sees_is_what_the_file_shows(mode, tmp_path):
    picture = noise("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    (tmp_path / "sent.png").write_bytes(encoded(picture, "PNG"))
    (tmp_path / "kept.png").write_bytes(decode((tmp_path / "sent.png").read_bytes(), "it", LIMITS))
    sent, kept = (np.asarray(open_picture(tmp_path / f"{n}.png")) for n in ("sent", "kept"))
    assert (sent == kept).all()


def test_a_turned_photograph_is_kept_upright_and_without_its_notes():
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "taken at home"
    clean = decode(encoded(noise("RGB"), "JPEG", exif=exif), "it", LIMITS)
    picture = Image.open(io.BytesIO(clean))
    assert (picture.format, picture.size, picture.info) == ("PNG", (12, 20), {})
    assert b"home" not in clean


def test_what_hides_in_or_behind_a_picture_is_gone():
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "<script>inside</script>")
    sent = encoded(noise("RGB"), "PNG", pnginfo=notes) + b"PK\x03\x04<script>behind</script>"
    assert b"script" not in decode(sent, "it", LIMITS)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bomb(100_000, 100_000), "100000x100000 pixels, over the limit of 0.01 megapixels"),
        (bomb(90, 90), "cannot be decoded"),
        (b"\xff\xd8\xff\xe0 no JPEG", "cannot be decoded"),
    ],
    ids=["bomb", "truncated", "no JPEG"],
)
def test_what_cannot_be_decoded_says_why(data, words):
    with pytest.raises(MediaError, match=words):
        decode(data, "picture 1", LIMITS)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"x" * 100_001, "100,001 bytes, over the limit of 100,000"),
        (b"\xef\xbb\xbf <svg xmlns=''/>", "an SVG drawing"),
        (b"<?xml version='1.0'?><svg/>", "an SVG drawing"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"%PDF-1.4", "a PDF"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (b"hello", "no picture that is read here"),
    ],
)
def test_what_is_no_picture_costs_no_process(data, words):
    with pytest.raises(MediaError, match=words):
        check_upload(data, "picture 1", LIMITS)


def test_the_sandbox_can_neither_open_files_nor_start_processes():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import sandbox, os, socket\n"
        "sandbox.confine()\n"
        "for act in (lambda: open('/etc/hostname'), lambda: socket.socket(),\n"
        "            lambda: os.pipe(), lambda: bytearray(2**31)):\n"
        "    try: act()\n"
        "    except (OSError, MemoryError) as error: print(type(error).__name__)\n"
        "    else: print('allowed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(SANDBOX.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["OSError", "OSError", "OSError", "MemoryError"]


def test_data_uris_are_read_and_addresses_are_not():
    assert from_data_uri("data:image/png;base64,aGk=", "it", LIMITS) == b"hi"
    for text, words in (
        ("http://localhost/x.png", "addresses are not fetched"),
        ("file:///etc/passwd", "addresses are not fetched"),
        ("data:image/png,hi", "not base64"),
        ("data:image/png;base64,a", "not valid base64"),
        ("data:image/png;base64," + "A" * 140_000, "over the limit"),
    ):
        with pytest.raises(MediaError, match=words):
            from_data_uri(text, "it", LIMITS)
