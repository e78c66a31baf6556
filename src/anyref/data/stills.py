"""Pictures of a record to look at: frames, masks over them, references, sheets."""

# Axes: T frames, Y X pixels

from __future__ import annotations

import io
from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image, ImageDraw

from anyref.data.dataset import Dataset
from anyref.data.masks import decode
from anyref.data.record import Sample, SampleReference, Video
from anyref.data.rows import Row
from anyref.data.shards import open_png
from anyref.errors import AnyRefError, DataError
from anyref.media import frame_sheet, letterbox
from anyref.request import MAX_PICTURE_PIXELS

GREY = (128, 128, 128)
COLOURS = (
    (230, 60, 60), (40, 130, 240), (40, 180, 80), (240, 160, 20), (170, 80, 220), (20, 190, 190),
)  # fmt: skip
CELL = 144  # pixels: height of what a sheet shows
MAX_SCANNED = 20_000  # frames


def stills(data: bytes, numbers: Collection[int]) -> dict[int, Image.Image]:
    """Frames of a video by number, RGB and upright; numbers beyond its end are left out.

    One frame is in memory beside those that are kept.

    Raises:
        DataError: not a readable video, or over 64 megapixels.
    """
    import av

    wanted, found = set(numbers), {}
    last = min(max(wanted, default=-1), MAX_SCANNED)
    try:
        with av.open(io.BytesIO(data)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if frame.width * frame.height > MAX_PICTURE_PIXELS:
                    raise DataError("a video over 64 megapixels cannot be shown; scale it down")
                if number in wanted:
                    turns = round(frame.rotation / 90) % 4  # counterclockwise, as `footage`
                    found[number] = Image.fromarray(np.rot90(np.asarray(frame.to_image()), turns))
                if number >= last:
                    break
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"the clip is not a readable video: {error}") from error
    return found


def clip_uri(row: Row) -> str | None:
    """The asset of a row's clip: what its record says, else what the stages stored."""
    uri = row.sample().video.uri if row.record is not None else None
    return row.assets.get("clip") if uri is None or not uri.startswith("assets/") else uri


def spread(num_frames: int, count: int) -> list[int]:
    """Up to `count` frame numbers from the first frame to the last, each once."""
    picks = np.linspace(0, max(0, num_frames - 1), min(count, max(1, num_frames)))
    return sorted({int(n) for n in picks.round()})


def clip_sheet(dataset: Dataset, row: Row, count: int = 4) -> Image.Image:
    """Frames of a row's clip beside each other.

    Raises:
        DataError: without a clip, or one that cannot be read.
    """
    uri = clip_uri(row)
    if uri is None:
        raise DataError(f"record {row.id!r} has no clip in the dataset, so there is none to show")
    data = dataset.read(uri)
    length = row.sample().video.num_frames if row.record is not None else length_of(data)[0]
    frames = stills(data, spread(length, count))
    if not frames:
        raise DataError(f"the clip of record {row.id!r} has no frames")
    small = [letterboxed(frame, CELL) for frame in frames.values()]
    return frame_sheet(np.stack([np.asarray(p) for p in small]), num_frames=count, cell=CELL)


def length_of(data: bytes) -> tuple[int, float]:
    """Frames of a video and frames per second, as its container says; 1 and 0 where it does not.

    Raises:
        DataError: not a readable video.
    """
    import av

    try:
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            return int(stream.frames) or 1, float(stream.average_rate or 0)
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"the clip is not a readable video: {error}") from error


def letterboxed(picture: Image.Image, height: int) -> Image.Image:
    """The picture scaled to a height, at most three times as wide."""
    width = max(1, min(3 * height, round(height * picture.width / picture.height)))
    if picture.width / picture.height > 3:
        return letterbox(picture, width, height)[0]
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def reference_picture(dataset: Dataset, reference: SampleReference) -> Image.Image:
    """A reference's picture on grey.

    Raises:
        DataError: without a picture. TrainingError: one that is no PNG.
    """
    if reference.image.uri is None:
        raise DataError(f"reference {reference.ref_id!r} has no picture of its own")
    picture = open_png(dataset.read(reference.image), reference.ref_id)
    try:
        cut = picture.convert("RGBA")
    except OSError as error:
        raise DataError(f"the picture of {reference.ref_id!r} cannot be read: {error}") from error
    ground = Image.new("RGBA", cut.size, (*GREY, 255))
    return Image.alpha_composite(ground, cut).convert("RGB")


def clip_frame(dataset: Dataset, sample: Sample, number: int) -> Image.Image:
    """One frame of a sample's clip.

    Raises:
        DataError: the clip is not in the dataset, or has no such frame.
    """
    frames = stills(dataset.read(sample.video.uri or ""), [number])
    if number not in frames:
        raise DataError(f"the clip of {sample.id!r} has no frame {number}")
    return frames[number]


def annotated(
    frame: Image.Image, references: Sequence[SampleReference], video: Video
) -> Image.Image:
    """A frame with the masks and boxes of references in colours, in their order.

    Args:
        video: whose pixels boxes are in. Masks are scaled to the frame.

    Raises:
        DataError: for a mask that is none.
    """
    shown = frame.convert("RGB")
    for place, reference in enumerate(references):
        colour = COLOURS[place % len(COLOURS)]
        if reference.mask is not None:
            pixels = Image.fromarray(decode(reference.mask).astype(np.uint8) * 110)
            mask = pixels.resize(shown.size, Image.Resampling.NEAREST)
            shown.paste(Image.new("RGB", shown.size, colour), mask=mask)
        if reference.bbox_xyxy is not None:
            box = _scaled(reference.bbox_xyxy, shown.size, video)
            ImageDraw.Draw(shown).rectangle(box, outline=colour, width=2 + shown.height // 240)
    return shown


def _scaled(
    box: Sequence[float], size: tuple[int, int], video: Video
) -> tuple[float, float, float, float]:
    """A box in the frame's pixels, its corners inside and in order."""
    across, down = size[0] / video.width, size[1] / video.height
    xs = sorted(min(max(x * across, 0), size[0] - 1) for x in (box[0], box[2]))
    ys = sorted(min(max(y * down, 0), size[1] - 1) for y in (box[1], box[3]))
    return xs[0], ys[0], xs[1], ys[1]


def main_frame(sample: Sample) -> tuple[int, list[SampleReference]]:
    """The frame that most references of the clip itself are in, and these."""
    own = [r for r in sample.references if r.pair_type == "regular" and r.origin.sample_id is None]
    numbers = [r.origin.frame or 0 for r in own]
    frame = max(sorted(set(numbers)), key=numbers.count, default=0)
    return frame, [r for r in own if (r.origin.frame or 0) == frame]


def record_sheet(dataset: Dataset, row: Row) -> Image.Image:
    """All there is to see of a record: frames, then the annotated frame and the references.

    Raises:
        DataError: as `clip_sheet`.
    """
    rows = [clip_sheet(dataset, row, 6)]
    if row.record is not None:
        sample = row.sample()
        number, own = main_frame(sample)
        tiles = [annotated(clip_frame(dataset, sample, number), own, sample.video)]
        for reference in sample.references:
            try:
                tiles.append(reference_picture(dataset, reference))
            except AnyRefError:
                continue  # a sheet shows what there is
        rows += [_strip(tiles[first : first + 6]) for first in range(0, len(tiles), 6)]
    sheet = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), GREY)
    top = 0
    for strip in rows:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def _strip(pictures: Sequence[Image.Image]) -> Image.Image:
    tiles = [letterboxed(picture, CELL) for picture in pictures]
    strip = Image.new("RGB", (sum(t.width + 4 for t in tiles) + 4, CELL + 8), (238, 238, 238))
    left = 4
    for tile in tiles:
        strip.paste(tile, (left, 4))
        left += tile.width + 4
    return strip
