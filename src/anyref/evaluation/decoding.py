"""Videos decoded once, in memory that is bounded by bytes, whatever a file says of itself."""

# Axes: T frames, Y X pixels

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.errors import MediaError
from anyref.evaluation.metric import Footage

FIRST = 128  # frames that memory is asked for where a file does not say how many there are
GROWTH = 1.5


@dataclass(frozen=True, kw_only=True)
class FootageLimits:
    """What a video may be; a larger one is refused before it is decoded to its end.

    Args:
        max_bytes: of all decoded frames: 345 of 1920x1080, 1,700 of 832x480.
        max_frames: of any size.
    """

    max_bytes: int = 2 * 2**30
    max_frames: int = 3_000

    def frames(self, width: int, height: int) -> int:
        """How many frames of a size may be decoded."""
        return min(self.max_frames, self.max_bytes // (3 * width * height))


def read_footage(path: Path, sha256: str, limits: FootageLimits) -> Footage:
    """Decode a video, upright; the memory that is used is that of its frames.

    Raises:
        MediaError: not a video, without frames, over the limits, or of a size that changes.
    """
    import av

    try:
        with path.open("rb") as file, av.open(file) as container:  # a name may say a protocol
            stream = container.streams.video[0]
            frames = _decode(container, stream, path.name, limits)
            return Footage(frames, float(stream.average_rate or 0), sha256)
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        why = (
            getattr(error, "strerror", None) or error
        )  # without the path, which FFmpeg's words have
        raise MediaError(f"video {path.name!r} is not a readable video: {why}") from error


def _decode(container: Any, stream: Any, name: str, limits: FootageLimits) -> NDArray[np.uint8]:
    """All frames, (T, Y, X, 3)."""
    held = np.empty((0, 0, 0, 3), np.uint8)
    count = 0
    for frame in container.decode(stream):
        turns = round(frame.rotation / 90) % 4  # counterclockwise, as `data.footage`
        shape = (*((frame.height, frame.width)[:: -1 if turns % 2 else 1]), 3)
        if count and held.shape[1:] != shape:
            raise MediaError(f"video {name!r} changes its size at frame {count}; encode it anew")
        most = limits.frames(frame.width, frame.height)
        if count >= most:
            raise MediaError(
                f"video {name!r} has over {most:,} frames of {frame.width}x{frame.height}, which "
                f"is more than {limits.max_bytes / 2**30:.3g} GiB or {limits.max_frames:,} frames "
                "decoded; cut it or scale it down"
            )
        if count == len(held):
            wanted = stream.frames if not count else int(GROWTH * count) + 1
            held = _grown(held[:count], min(most, wanted or FIRST), shape)
        held[count] = np.rot90(frame.to_ndarray(format="rgb24"), turns)
        count += 1
    if not count:
        raise MediaError(f"video {name!r} has no frames")
    return held[:count]


def _grown(held: NDArray[np.uint8], length: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    larger = np.empty((max(1, length), *shape), np.uint8)
    if len(held):
        larger[: len(held)] = held
    return larger
