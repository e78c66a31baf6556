"""Small films for the tests of clips, and a shot detector that knows them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np

from anyref.perception.contracts import ModelCard, Shot
from anyref.perception.small import small_grade

RATE = 16
CLOCK = 16_000  # ticks per second of the films' times


def scene(level, frames, size=(64, 48)):
    """Frames of one grey with a bright block that moves to the right: (T, Y, X, 3)."""
    width, height = size
    made = np.full((frames, height, width, 3), level, np.uint8)
    for number in range(frames):
        left = number % (width - 8)
        made[number, height // 3 : height // 2, left : left + 8] = 255 - level
    return made


def write_film(path, frames, *, times=None, coder="libx264", **options):
    """A film of these frames at these seconds (16 a second when None)."""
    times = [number / RATE for number in range(len(frames))] if times is None else times
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(coder, rate=RATE)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        stream.time_base = stream.codec_context.time_base = Fraction(1, CLOCK)
        stream.options = {"preset": "ultrafast", "bf": "0"} if coder == "libx264" else {}
        for name, value in options.items():
            setattr(stream, name, value)
        for frame, seconds in zip(frames, times, strict=True):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = round(seconds * CLOCK), Fraction(1, CLOCK)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


class JumpShots:
    """A cut wherever the median brightness jumps."""

    card = ModelCard(name="jumps", version="1", sha256="", licence="")

    def split(self, videos, fps):
        assert fps > 0
        return [self._split(video) for video in videos]

    def _split(self, video):
        cuts, before, count = [0], None, 0
        for count, picture in enumerate(video, start=1):
            level = float(np.median(picture))
            if before is not None and abs(level - before) > 30:
                cuts.append(count - 1)
            before = level
        return tuple(Shot(a, b) for a, b in zip(cuts, [*cuts[1:], count], strict=True) if b)


def jump_grade():
    return replace(small_grade(), shots=JumpShots())
