"""Background removal on request: whether this machine can, and the mask of a picture."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec

from anyref.errors import MediaError
from anyref.service.cutter import EMPTY
from anyref.service.refusals import Refusal
from anyref.service.settings import worker_environment

MODEL = "isnet"
LIBRARIES = ("onnxruntime", "cv2")
WALL_SECONDS = 120


class Line:
    """One at a time, and only so many that wait.

    Args:
        most: that wait or have their turn.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._there = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and have it; raises Refusal when too many wait."""
        if self._there >= self._most:
            message = f"{self._most} pictures wait for their mask already; try again in a minute"
            raise Refusal(429, message, code="too_many_masks", headers={"Retry-After": "20"})
        self._there += 1
        try:
            async with self._turn:
                yield
        finally:
            self._there -= 1


def why_unavailable() -> str | None:
    """Why no background can be removed here, with the remedy; None when it can."""
    if any(find_spec(library) is None for library in LIBRARIES):
        return "it needs more packages on the server: pip install 'anyref[perception]'"
    from anyref.perception.sources import is_fetched

    if not is_fetched(MODEL):
        return "its model is not on the server yet: run `anyref data fetch` there once"
    return None


def cut(png: bytes) -> bytes:
    """The mask of a clean PNG as a PNG of the same size, white on the subject; slow.

    Raises:
        Refusal: 409 when this machine cannot. MediaError: when it finds nothing in this picture.
    """
    reason = why_unavailable()
    if reason is not None:
        raise Refusal(409, f"backgrounds cannot be removed here: {reason}", code="not_available")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "anyref.service.cutter"],
            input=png,
            capture_output=True,
            env=worker_environment(),
            timeout=WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MediaError("the background took too long to find; try a smaller picture") from error
    if done.returncode == EMPTY:
        raise MediaError("nothing stands out in this picture; keep its background")
    if done.returncode:
        sys.stderr.write(f"cutter: {done.stderr.decode('utf-8', 'replace')[-2000:]}\n")
        raise MediaError("the background of this picture could not be found; try another picture")
    return done.stdout
