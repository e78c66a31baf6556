"""Films as frames: opened from a file or URL within limits, decoded on one core, upright.

A film is hostile until read: FFmpeg is given an open file and never a name, knows a list of
containers without those that refer to other files, and refuses frames over the limit itself.

Axes: T frames, Y X pixels
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from pydantic import Field

from anyref.data.sources import Source
from anyref.data.stages import Rejection
from anyref.data.thresholds import Section
from anyref.errors import DataError
from anyref.perception.contracts import Picture

CONTAINERS = "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,mxf,h264,hevc"
READ_BYTES = 2**18
USUAL_RATES = (1.0, 480.0)  # frames per second; what a file says beyond them is not believed
ASSUMED_RATE = 25.0
MIN_SIDE = 32  # pixels
MAX_GAP = 1.0  # seconds between two frames of one shot


class FilmLimits(Section):
    """What a film may be before it is looked at.

    Args:
        max_bytes: of the file. max_pixels: of a frame; the default is a little over 4K.
        max_film_seconds: of the whole film.
    """

    max_bytes: int = Field(default=32 * 2**30, gt=0)
    max_pixels: int = Field(default=4096 * 2304, gt=0)
    max_film_seconds: float = Field(default=4 * 3600.0, gt=0, allow_inf_nan=False)


class BadFilmError(DataError):
    """A film that cannot be used.

    Args:
        reason, number, limit, detail: as `Rejection` has them.
    """

    def __init__(
        self,
        reason: str,
        number: float | None = None,
        limit: float | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(f"{reason} ({detail or number}); leave the film out or encode it anew")
        self.reason, self.number, self.limit, self.detail = reason, number, limit, detail

    def rejection(self, stage: str) -> Rejection:
        """The rejection of the film by a stage."""
        return Rejection(stage, self.reason, self.number, self.limit, self.detail)


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """How the frames of a film are shown.

    Args:
        coded: columns and rows of a decoded frame.
        width, height: as shown: pixels square, turned upright.
        turns: quarter turns counterclockwise from decoded to shown.
    """

    coded: tuple[int, int]
    width: int
    height: int
    turns: int = 0

    def fitted(self, width: int, height: int) -> tuple[int, int]:
        """The size before turning of frames that are to be width x height after it."""
        return (height, width) if self.turns % 2 else (width, height)


class Film:
    """An open film, whose frames can be read once.

    Args:
        rate: frames per second, for where the file has no times.
        damage: why the frames ended early; None while they have not.
    """

    def __init__(self, container: Any, stream: Any, limits: FilmLimits) -> None:
        import av.video.reformatter

        self.rate = _rate_of(stream)
        self.damage: str | None = None
        self.damage_detail: str | None = None
        self._container, self._stream, self._limits = container, stream, limits
        self._shrink = av.video.reformatter.VideoReformatter()

    def frames(self) -> Iterator[Any]:
        """Decoded frames in order of display; they end at the first damage."""
        import av

        size: tuple[int, int] | None = None
        try:
            for frame in self._container.decode(self._stream):
                size = size or (frame.width, frame.height)
                if size != (frame.width, frame.height):
                    self.damage = "frame size changes"
                    return
                yield frame
        except av.FFmpegError as error:
            self.damage, self.damage_detail = "damaged", _words(error)

    def geometry(self, frame: Any) -> Geometry:
        """How a frame, and so all, are shown.

        Raises:
            BadFilmError: over the limit of pixels, or under 32 pixels each way.
        """
        width, height = frame.width, frame.height
        ratio = float(self._stream.sample_aspect_ratio or 1)
        if 0.1 < ratio < 10 and ratio != 1:
            width = max(1, round(width * ratio))
        turns = round(frame.rotation / 90) % 4
        if turns % 2:
            width, height = height, width
        _check_size(width, height, self._limits)
        return Geometry(coded=(frame.width, frame.height), width=width, height=height, turns=turns)

    def picture(
        self, frame: Any, geometry: Geometry, width: int, height: int, *, draft: bool = False
    ) -> Picture:
        """A frame as RGB (height, width, 3), upright. draft: cheaper, for looking only."""
        columns, rows = geometry.fitted(width, height)
        shrunk = self._shrink.reformat(
            frame,
            width=columns,
            height=rows,
            format="rgb24",
            interpolation="FAST_BILINEAR" if draft else "BICUBIC",
            threads=1,
        )
        picture = shrunk.to_ndarray()
        return (
            np.ascontiguousarray(np.rot90(picture, geometry.turns)) if geometry.turns else picture
        )


class Clock:
    """Times of frames in seconds from the first one, made to run forward.

    A step back, or of more than a second, is where a recording was joined: time goes on there as
    if nothing was missing, and the frame's number is kept in `joins`.

    Args:
        rate: frames per second, for frames without a time.
    """

    def __init__(self, rate: float) -> None:
        self.joins: list[int] = []
        self._step = 1 / rate
        self._times: list[float] = []
        self._last: float | None = None

    def add(self, stamp: float | None) -> float:
        """Note the next frame, by what its file says in seconds; its time from the first."""
        if not self._times:
            self._times.append(0.0)
        else:
            known = stamp is not None and self._last is not None
            step = stamp - self._last if known else self._step  # type: ignore[operator]
            if not 0 <= step <= MAX_GAP:
                self.joins.append(len(self._times))
                step = self._step
            self._times.append(self._times[-1] + step)
        self._last = stamp if stamp is not None else (self._last or 0.0) + self._step
        return self._times[-1]

    def __len__(self) -> int:
        return len(self._times)

    def edges(self) -> np.ndarray:
        """When each frame begins, and when the last one ends: float64 (T + 1,), seconds."""
        times = np.array(self._times)
        usual = float(np.median(np.diff(times))) if len(times) > 1 else self._step
        return np.append(times, times[-1] + (usual or self._step))


@contextmanager
def open_film(source: Source, limits: FilmLimits, *, draft: bool = False) -> Iterator[Film]:
    """Open a film to read its frames.

    Args:
        draft: decode a little worse and faster (no deblocking).

    Raises:
        BadFilmError: not there, empty, over a limit, not a video or without a picture.
    """
    import av

    with _open_file(source) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if not size:
            raise BadFilmError("empty file", 0)
        if size > limits.max_bytes:
            raise BadFilmError("file too large", size, limits.max_bytes)
        try:
            container = av.open(
                file,
                options={"format_whitelist": CONTAINERS, "protocol_whitelist": "none"},
                metadata_errors="replace",
                buffer_size=READ_BYTES,
            )
        except av.FFmpegError as error:
            raise BadFilmError("not a readable video", detail=_words(error)) from error
        with container:
            yield Film(container, _stream_of(container, limits, draft), limits)


def _stream_of(container: Any, limits: FilmLimits, draft: bool) -> Any:
    stream = container.streams.best("video")
    if stream is None:
        raise BadFilmError("no video stream")
    coder = stream.codec_context
    if coder is None:
        raise BadFilmError("no decoder for the video")
    if coder.width and coder.height:
        _check_size(coder.width, coder.height, limits)
    seconds = (container.duration or 0) / 1e6
    if seconds > limits.max_film_seconds:
        raise BadFilmError("film too long", seconds, limits.max_film_seconds)
    coder.thread_count = 1
    coder.options = {"max_pixels": str(limits.max_pixels)}
    if draft:
        coder.options = {**coder.options, "skip_loop_filter": "all"}
    return stream


def _check_size(width: int, height: int, limits: FilmLimits) -> None:
    if width * height > limits.max_pixels:
        raise BadFilmError("frame too large", width * height, limits.max_pixels)
    if min(width, height) < MIN_SIDE:
        raise BadFilmError("frame too small", min(width, height), MIN_SIDE)


def _open_file(source: Source) -> BinaryIO:
    """The source's bytes, seekable."""
    if "://" in source.location:
        return _open_url(source.location)
    if not source.path.exists():
        raise BadFilmError("file not found")
    if not source.path.is_file():
        raise BadFilmError("not a regular file")
    try:
        return source.path.open("rb")
    except PermissionError as error:
        raise BadFilmError("file not permitted", detail=str(error.strerror)) from error


def _open_url(url: str) -> BinaryIO:
    import fsspec

    try:
        file: BinaryIO = fsspec.open(url, "rb").open()
    except (FileNotFoundError, PermissionError, ImportError, ValueError) as error:
        raise BadFilmError(
            "URL cannot be opened", detail=f"{type(error).__name__}: {error}"
        ) from error
    if not file.seekable():
        file.close()
        raise BadFilmError("URL cannot be read from any place", detail="its server knows no ranges")
    return file


def _rate_of(stream: Any) -> float:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and USUAL_RATES[0] <= rate <= USUAL_RATES[1]:
            return float(rate)
    return ASSUMED_RATE


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
