"""Films cut into clips: shots found in one pass over the film, clips made in a second one.

    film --find shots--> times, shots, bars --cut--> clip, frames, thumbs; one item per clip

A film is never in memory, one clip of it at a time is. Frames are chosen by their times, so films
of a varying frame rate keep their speed.

Axes: K sampled frames, N frames of the clip, Y X pixels
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from anyref.data.footage import BadFilmError, Film, FilmLimits, Geometry, open_film
from anyref.data.record import Video, sample_id
from anyref.data.rules import uniform_frames
from anyref.data.shots import Corners, Survey, survey
from anyref.data.stages import Blob, Item, OneByOne, Rejection, Result, Stage
from anyref.data.thresholds import Rule
from anyref.media import encode_video, fit
from anyref.perception.contracts import Picture
from anyref.perception.runtimes import opencv
from anyref.perception.small import Grade

LoadGrade = Callable[[], Grade]

THUMB = 160  # long side of the thumbs
SPREAD = 8
SLACK = 0.05  # of a frame that a shot may be too short; containers round times

CLIP_RULES = (
    Rule(measurement="source_fps", at_least=14),
    Rule(measurement="source_width", at_least=240),
    Rule(measurement="source_height", at_least=240),
)


class ClipSettings(FilmLimits):
    """How films are cut.

    Args:
        fps: of the clips. short_side: at most, pixels; smaller films stay as they are.
        min_seconds, max_seconds: of a clip; the longest has its last frame max_seconds after its
            first (5 s at 16 fps: 81 frames). A longer shot becomes several of the longest and one
            of what is left, if that is long enough.
        trim_seconds: left out at either end of a shot, where it may still be mixed with the next.
        sampled: frames handed to the models. crop_bars: cut away the film's black bars.
    """

    fps: float = Field(default=16.0, ge=1, le=60)
    short_side: int = Field(default=480, ge=64, le=2160)
    min_seconds: float = Field(default=2.0, gt=0, le=60)
    max_seconds: float = Field(default=5.0, gt=0, le=60)
    trim_seconds: float = Field(default=0.1, ge=0, le=5)
    sampled: int = Field(default=8, ge=2, le=64)
    crop_bars: bool = True

    @model_validator(mode="after")
    def _has_a_range(self) -> ClipSettings:
        if self.min_seconds > self.max_seconds:
            raise ValueError(
                f"min_seconds {self.min_seconds:g} is over max_seconds {self.max_seconds:g}; "
                "no clip would pass"
            )
        return self

    @property
    def min_frames(self) -> int:
        """Of a clip."""
        return max(1, math.ceil(self.min_seconds * self.fps - 1e-6))

    @property
    def max_frames(self) -> int:
        """Of a clip."""
        return math.floor(self.max_seconds * self.fps + 1e-6) + 1


@dataclass(frozen=True, slots=True)
class Cut:
    """One clip to be. picks: which frame of the film each of its frames is, (N,), not falling."""

    picks: NDArray[np.int64]

    @property
    def span(self) -> tuple[int, int]:
        """Half-open frame numbers of the film."""
        return int(self.picks[0]), int(self.picks[-1]) + 1


def clip_stages(settings: ClipSettings, load_grade: LoadGrade) -> list[Stage]:
    """Two stages: `shots` looks for the cuts of a film, `clips` makes an item of each clip.

    `clips` leaves payload clip, video, frames, frame_numbers, thumbs and stays (see `Survey`).

    Raises:
        PerceptionError: when the grade's shot detector cannot be used here.
    """
    card = load_grade().shots.card
    shots = Stage(
        name="shots",
        load=partial(make_shots, settings, load_grade),
        tool=card.name,
        version=card.version,
        settings=settings.model_dump(mode="json"),
    )
    clips = Stage(
        name="clips",
        function=partial(cut_film, settings=settings),
        spread=SPREAD,
        measures=("duration_s", "source_fps", "source_height", "source_width"),
        tool="pyav",
        version=_av_version(),
        settings=settings.model_dump(mode="json"),
    )
    return [shots, clips]


def _av_version() -> str:
    import av

    return str(av.__version__)


def make_shots(settings: ClipSettings, load_grade: LoadGrade) -> OneByOne:
    """The function of `shots`: adds the payload `film`, a `Survey`."""
    detector = load_grade().shots

    def find_shots(item: Item) -> Result:
        try:
            with open_film(item.source, settings, draft=True) as film:
                return item.hold(
                    film=survey(
                        film, detector, settings.max_film_seconds, crop_bars=settings.crop_bars
                    )
                )
        except BadFilmError as bad:
            return bad.rejection("shots")

    return find_shots


def plan(found: Survey, settings: ClipSettings) -> Iterator[Cut | tuple[int, int]]:
    """The clips of a film in order; of a shot that is too short, its frame numbers."""
    step = 1 / settings.fps
    for start, end in found.shots:
        first = float(found.edges[start]) + settings.trim_seconds
        last = float(found.edges[end]) - settings.trim_seconds
        count = math.floor((last - first) * settings.fps + SLACK)
        if count < settings.min_frames:
            yield start, end
            continue
        for begin, length in split_frames(count, settings.min_frames, settings.max_frames):
            times = first + (np.arange(begin, begin + length) + 0.5) * step  # (N,)
            picks = np.searchsorted(found.edges, times, side="right") - 1
            yield Cut(picks.clip(start, end - 1).astype(np.int64))


def split_frames(count: int, shortest: int, longest: int) -> list[tuple[int, int]]:
    """Clips in a shot of `count` frames, as (first, length).

    As many of the longest as fit and one of the rest; a rest that is too short is left out, half
    of it before the first clip.
    """
    whole, rest = divmod(count, longest)
    lengths = [longest] * whole + [rest] * (rest >= shortest)
    offset = (count - sum(lengths)) // 2
    return [(offset + sum(lengths[:k]), length) for k, length in enumerate(lengths)]


def cut_film(item: Item, settings: ClipSettings) -> Iterator[Item | Rejection]:
    """The function of `clips`: an item per clip, as they are asked for.

    A rejection for every shot that is too short, and one for what a damaged film does not show.
    """
    found: Survey = item.payload["film"]
    bare = item.drop("film")
    try:
        with open_film(item.source, settings) as film:
            reader = _Reader(film, found, settings.short_side)
            for cut in plan(found, settings):
                if isinstance(cut, tuple):
                    yield _too_short(bare, found, cut, settings)
                    continue
                frames = reader.take(cut.picks)
                if frames is None:
                    break
                yield _clip(bare, found, cut, frames, settings)
            damage, detail = found.damage or film.damage, found.damage_detail
    except BadFilmError as bad:
        yield bad.rejection("clips")
        return
    if damage is not None:
        yield Rejection("clips", f"rest of film: {damage}", float(found.edges[-1]), detail=detail)


def _too_short(
    item: Item, found: Survey, shot: tuple[int, int], settings: ClipSettings
) -> Rejection:
    seconds = float(found.edges[shot[1]] - found.edges[shot[0]])
    name = _id(item, found, shot)
    return Rejection(
        "clips", "shot too short", seconds, settings.min_seconds, item=item.child(name)
    )


def _crop(found: Survey) -> Corners | None:
    whole = (0, 0, found.geometry.width, found.geometry.height)
    return None if found.content == whole else found.content


def _id(item: Item, found: Survey, span: tuple[int, int]) -> str:
    return sample_id(item.source.uri, *span, _crop(found))


def _clip(
    item: Item, found: Survey, cut: Cut, frames: NDArray[np.uint8], settings: ClipSettings
) -> Item:
    start, end = cut.span
    clip = Blob(encode_video(frames, settings.fps, preset="superfast"), "mp4")
    asset = clip.asset
    numbers = tuple(uniform_frames(len(frames), min(settings.sampled, len(frames))))
    video = Video(
        uri=asset.uri,
        sha256=asset.sha256,
        start=start,
        end=end,
        fps=settings.fps,
        num_frames=len(frames),
        width=frames.shape[2],
        height=frames.shape[1],
        crop_xyxy=_crop(found),
    )
    made = item.child(_id(item, found, cut.span)).hold(
        clip=clip,
        video=video,
        frames=frames[list(numbers)],
        frame_numbers=numbers,
        thumbs=thumbs_of(frames),
        stays=_stays_within(found),
    )
    return made.measure(
        duration_s=len(frames) / settings.fps,
        source_fps=(end - start) / max(float(found.edges[end] - found.edges[start]), 1e-3),
        source_width=found.geometry.width,
        source_height=found.geometry.height,
    )


def _stays_within(found: Survey) -> NDArray[np.bool_] | None:
    """What stays through the cuts, without the film's bars."""
    if found.stays is None:
        return None
    rows, columns = found.stays.shape
    x, y = columns / found.geometry.width, rows / found.geometry.height
    left, top, right, bottom = found.content
    return found.stays[round(top * y) : round(bottom * y), round(left * x) : round(right * x)]


def thumbs_of(frames: Iterable[Picture]) -> NDArray[np.uint8]:
    """Frames in grey, the long side 160: uint8 (N, y, x)."""
    small = []
    with opencv(1) as cv2:
        for frame in frames:
            size = fit(frame.shape[1], frame.shape[0], THUMB, THUMB)
            grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            small.append(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
    return np.stack(small)


class _Reader:
    """The second pass: frames by number, forward only, cropped and shrunk when they are wanted."""

    def __init__(self, film: Film, found: Survey, short_side: int) -> None:
        self._film, self._geometry = film, found.geometry
        self._frames = film.frames()
        self._number = -1
        self._frame: Any = None
        self._size, self._box = target_size(found.geometry, found.content, short_side)

    def take(self, picks: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """The frames of these numbers, (N, Y, X, 3), or None when the film ends before them."""
        left, top, right, bottom = self._box
        taken = np.empty((len(picks), bottom - top, right - left, 3), np.uint8)
        for place, number in enumerate(picks.tolist()):
            if place and number == picks[place - 1]:
                taken[place] = taken[place - 1]
                continue
            while self._number < number:
                self._frame = next(self._frames, None)
                self._number += 1
                if self._frame is None:
                    return None
            picture = self._film.picture(self._frame, self._geometry, *self._size)
            taken[place] = picture[top:bottom, left:right]
        return taken


def target_size(
    geometry: Geometry, content: Corners, short_side: int
) -> tuple[tuple[int, int], Corners]:
    """How a film is shrunk: the size of whole frames, and what of them is kept (even sides)."""
    left, top, right, bottom = content
    scale = min(1.0, short_side / min(right - left, bottom - top))
    size = (geometry.width, geometry.height)
    if scale < 1:
        size = (2 * round(geometry.width * scale / 2), 2 * round(geometry.height * scale / 2))
    x, y = size[0] / geometry.width, size[1] / geometry.height
    kept = (math.ceil(left * x), math.ceil(top * y), int(right * x), int(bottom * y))
    width, height = ((kept[2] - kept[0]) // 2 * 2, (kept[3] - kept[1]) // 2 * 2)
    return size, (kept[0], kept[1], kept[0] + width, kept[1] + height)
