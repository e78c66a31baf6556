"""Decodes one picture where a broken or hostile one can do no harm: `python -I sandbox.py PIXELS`.

The picture comes on standard input and leaves, decoded and written anew as PNG, on standard
output, so nothing that hides behind or inside it survives. A refusal is exit code 3 and one line on
standard error. The process cannot open files or sockets, start others, or take much memory or time.
Imports nothing of anyref: it starts in a tenth of a second and has little to attack.
"""

from __future__ import annotations

import io
import os
import resource
import sys
import warnings

from PIL import (
    ExifTags,
    Image,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

REFUSED = 3
FORMATS = ("PNG", "JPEG", "WEBP")
LOADED = (  # before the process may open no file any more
    ExifTags,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
KEPT_MODES = ("RGB", "RGBA", "L", "LA", "I;16")
MEMORY_BYTES = 2**30
CPU_SECONDS = 20
NOBODY = 65534


class TooLargeError(ValueError):
    """A picture of more pixels than are allowed."""


def confine() -> None:
    """Give up what a decoder does not need; for good."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        except PermissionError:
            return  # a container that grants root no such power; the limits hold all the same


def normalise(data: bytes, max_pixels: int) -> bytes:
    """The picture's first frame, upright, as PNG without any metadata.

    Raises:
        TooLargeError: for one of too many pixels. Decoders raise many other types on broken data.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        if opened.width * opened.height > max_pixels:
            raise TooLargeError(
                f"it has {opened.width}x{opened.height} pixels, over the limit of "
                f"{max_pixels / 1e6:g} megapixels; scale it down"
            )
        opened.load()
        picture = ImageOps.exif_transpose(opened)
        if picture.mode in ("P", "PA") or "transparency" in picture.info:
            clear = picture.mode == "PA" or "transparency" in picture.info
            picture = picture.convert("RGBA" if clear else "RGB")
        elif picture.mode not in KEPT_MODES:
            picture = picture.convert("RGB")
        picture.info.clear()
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def main() -> int:
    """Decode standard input; the exit code."""
    data = sys.stdin.buffer.read()
    Image.preinit()  # the last that opens files
    confine()
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before anything is decoded
    try:
        png = normalise(data, int(sys.argv[1]))
    except TooLargeError as error:
        sys.stderr.write(str(error))
        return REFUSED
    except MemoryError:
        sys.stderr.write("it takes too much memory to decode; save it anew, as PNG or JPEG")
        return REFUSED
    except Exception as error:  # decoders raise many types on broken data
        kind = type(error).__name__
        sys.stderr.write(f"it cannot be decoded ({kind}); save it anew as PNG, JPEG or WebP")
        return REFUSED
    sys.stdout.buffer.write(png)
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
