"""Cuts the subject out of one picture: `python -m anyref.service.cutter`.

A clean PNG comes on standard input, its mask leaves on standard output as PNG: white on the
subject. A process of its own, so that the service holds neither the network's weights nor its
memory. Exit code 3 and one line on standard error say why there is no mask; exit code 4 says that
nothing stands out.
"""

from __future__ import annotations

import io
import sys

import numpy as np
from PIL import Image

from anyref.errors import AnyRefError
from anyref.media import on_white
from anyref.perception.masks import IsNet

REFUSED, EMPTY = 3, 4
SUBJECT = 0.5  # a mask's level over which a pixel is the subject's
THREADS = 1


def main() -> int:
    """Cut standard input; the exit code."""
    with Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=("PNG",)) as opened:
        picture = on_white(opened)
    try:
        (mask,) = IsNet(threads=THREADS).segment([np.asarray(picture)])
    except AnyRefError as error:
        sys.stderr.write(str(error))
        return REFUSED
    if mask.max() <= SUBJECT:
        return EMPTY
    Image.fromarray((mask * 255).round().astype(np.uint8)).save(sys.stdout.buffer, format="PNG")
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
