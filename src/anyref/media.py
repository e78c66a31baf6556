"""Pictures and videos, in and out, with bounds on what is read and atomic writes.

Everything that turns a picture into network input starts from `open_picture` and `letterbox`;
nothing else decodes a file, except `data.footage`, which streams films too long to hold.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from anyref.errors import MediaError, ReferencesError
from anyref.request import MAX_PICTURE_PIXELS, Reference

MAX_PICTURE_BYTES = 64 * 2**20
MAX_VIDEO_BYTES = 2**31
MAX_VIDEO_FRAMES = 20_000
MAX_NAME_BYTES = 255  # of a file name on the usual file systems
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
WHITE = (255, 255, 255)
BLACK = (0, 0, 0)


def open_picture(source: str | Path | Image.Image) -> Image.Image:
    """Read a picture as RGB on white, upright (EXIF orientation applied).

    Args:
        source: a file (PNG, JPEG, WebP, BMP, GIF or TIFF; first frame) or a PIL image.

    Raises:
        MediaError: missing, unreadable, not a picture, over 64 MiB or over 64 megapixels.
    """
    return _open_flat(source, WHITE)


def open_reference_pictures(reference: Reference) -> list[Image.Image]:
    """The pictures of a reference as `open_picture` reads them, white outside its mask.

    Raises:
        MediaError: as `open_picture`. ReferencesError: when the mask is black everywhere.
    """
    pictures = [open_picture(image) for image in reference.images]
    if reference.mask is None:
        return pictures
    (picture,) = pictures
    white = Image.new("RGB", picture.size, WHITE)
    return [Image.composite(picture, white, open_mask(reference, picture.size))]


def open_mask(reference: Reference, size: tuple[int, int]) -> Image.Image:
    """The mask of a reference as "L": 255 on the subject and 0 elsewhere.

    Grey over 127 is the subject; transparent parts are not. All 255 without a mask.

    Args:
        size: width and height of the reference's picture; a mask of another size is scaled.

    Raises:
        MediaError: as `open_picture`. ReferencesError: when no pixel is the subject.
    """
    if reference.mask is None:
        return Image.new("L", size, 255)
    grey = _open_flat(reference.mask, BLACK).convert("L")
    mask = grey.resize(size, Image.Resampling.NEAREST).point(lambda level: 255 * (level > 127))
    if mask.getbbox() is None:
        raise ReferencesError(
            f"the mask of reference {reference.name or 'unnamed'!r} is black everywhere; paint the "
            "subject white (over 127 of 255), or leave the mask out"
        )
    return mask


def _open_flat(source: str | Path | Image.Image, ground: tuple[int, int, int]) -> Image.Image:
    if isinstance(source, Image.Image):
        return _flatten(ImageOps.exif_transpose(source), ground)
    path = Path(source)
    if not path.is_file():
        raise MediaError(f"picture {str(path)!r} does not exist; check the path")
    if path.stat().st_size > MAX_PICTURE_BYTES:
        raise MediaError(f"picture {str(path)!r} is over 64 MiB; save a smaller one")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(path, formats=PICTURE_FORMATS)
        with opened as picture:
            if picture.width * picture.height > MAX_PICTURE_PIXELS:
                raise MediaError(
                    f"picture {str(path)!r} is {picture.width}x{picture.height}, over "
                    "64 megapixels; scale it down"
                )
            picture.load()
            return _flatten(ImageOps.exif_transpose(picture), ground)
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(
            f"{str(path)!r} is not a readable picture ({type(error).__name__}); "
            f"give one of {', '.join(PICTURE_FORMATS)}"
        ) from error


def on_white(picture: Image.Image) -> Image.Image:
    """Composite transparency on white and return RGB (MAGREF subject2video.py, RGBA branch)."""
    return _flatten(picture, WHITE)


def _flatten(picture: Image.Image, ground: tuple[int, int, int]) -> Image.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        rgba = picture.convert("RGBA")
        canvas = Image.new("RGB", rgba.size, ground)
        canvas.paste(rgba, mask=rgba.getchannel("A"))
        return canvas
    if picture.mode.startswith("I"):  # 16-bit grey: Pillow would clip, not scale
        grey = np.asarray(picture).astype(np.int64) >> 8
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


def fit(width: int, height: int, cell_width: int, cell_height: int) -> tuple[int, int]:
    """Largest size of the same aspect ratio inside a cell, truncated as the checkpoints were fed.

    Truncation, not rounding: rounding moves one mask row or column for many sizes
    (MAGREF subject2video.py, Kaleido data_video). At least one pixel each way.
    """
    ratio = width / height
    if ratio > cell_width / cell_height:
        return cell_width, max(1, int(cell_width / ratio))
    return max(1, int(cell_height * ratio)), cell_height


def letterbox(
    picture: Image.Image, width: int, height: int
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Fit a picture into width x height on white, centred, LANCZOS.

    Returns:
        the RGB picture of exactly that size, and the box (left, top, right, bottom) in pixels
        that the resized picture itself covers.
    """
    new_width, new_height = fit(picture.width, picture.height, width, height)
    left, top = (width - new_width) // 2, (height - new_height) // 2
    canvas = Image.new("RGB", (width, height), WHITE)
    canvas.paste(picture.resize((new_width, new_height), Image.Resampling.LANCZOS), (left, top))
    return canvas, (left, top, left + new_width, top + new_height)


def write_atomically(path: str | Path, writer: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a kill leaves either the old one or the whole new one.

    Args:
        writer: is given the open temporary file (in the same folder) and fills it.

    Raises:
        MediaError: when the folder cannot be written.
    """
    with open_atomically(path) as file:
        writer(file)


@contextmanager
def open_atomically(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file that becomes `path` when the block ends without an exception.

    Raises:
        MediaError: when the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".anyref-")
    except OSError as error:
        raise MediaError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(path: str | Path) -> None:
    """Raise MediaError unless a file could be written at `path`; leaves nothing behind."""
    path = Path(path)
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise MediaError(f"output name of {len(path.name)} letters is over 255 bytes; shorten it")
    if path.is_dir():
        raise MediaError(f"output {str(path)!r} is a folder; give a file name such as out.mp4")
    if path.exists() and not path.is_file():
        raise MediaError(f"output {str(path)!r} is not a regular file; give another name")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise MediaError(f"output {str(path)!r} cannot be written: {str(folder)!r} is not writable")


def write_video(
    path: str | Path, frames: np.ndarray, fps: float, metadata: dict[str, Any] | None = None
) -> None:
    """Write an H.264 MP4 whose bytes depend only on the arguments.

    Args:
        frames: uint8 (T, Y, X, 3), RGB. Odd sides are padded by one repeated row or column.
        fps: frames per second.
        metadata: stored as JSON in the container's comment tag.
    """
    with open_video_writer(path, fps, metadata) as add:
        add(frames)


@contextmanager
def open_video_writer(
    path: str | Path, fps: float, metadata: dict[str, Any] | None = None
) -> Iterator[Callable[[np.ndarray], None]]:
    """Write the MP4 of `write_video` part by part; it is there when the block ends without error.

    Yields a function that is given frames, uint8 (t, Y, X, 3), any number at a time.
    """
    with open_atomically(path) as file, _open_encoder(file, fps, metadata) as add:
        yield add


def encode_video(
    frames: np.ndarray, fps: float, *, full_chroma: bool = False, preset: str = "medium"
) -> bytes:
    """The H.264 MP4 of `write_video` in memory, without metadata.

    Args:
        frames: uint8 (T, Y, X, 3), RGB. Odd sides are padded by one repeated row or column.
        fps: frames per second.
        full_chroma: keep the colour of every pixel (4:4:4). Drawn clips of 96 x 96 then come
            back at 44 dB PSNR instead of 32 and take 1.4 times the bytes; browsers do not play it.
        preset: of x264. "superfast" takes a quarter of the time of "medium" and 1.14 times the
            bytes at the same quality (854 x 480 of Big Buck Bunny).
    """
    buffer = io.BytesIO()
    chroma = "yuv444p" if full_chroma else "yuv420p"
    with _open_encoder(buffer, fps, None, chroma, preset) as add:
        add(frames)
    return buffer.getvalue()


@contextmanager
def _open_encoder(
    file: BinaryIO,
    fps: float,
    metadata: dict[str, Any] | None,
    pixel_format: str = "yuv420p",
    preset: str = "medium",
) -> Iterator[Callable[[np.ndarray], None]]:
    import av

    options = {"movflags": "+use_metadata_tags", "fflags": "+bitexact"}
    with av.open(file, "w", format="mp4", options=options) as container:
        if metadata is not None:
            container.metadata["comment"] = json.dumps(metadata, ensure_ascii=True, sort_keys=True)
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.pix_fmt = pixel_format
        stream.thread_count = 1
        # constant quantiser, no lookahead, no adaptive quantisation: x264 decides by integers only
        exact = "qp=14:aq-mode=0:mbtree=0:rc-lookahead=0:psy=0:weightp=0:b-adapt=0"
        stream.options = {"preset": preset, "flags": "+bitexact", "x264-params": exact}

        def add(frames: np.ndarray) -> None:
            _, height, width, _ = frames.shape
            even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            stream.height, stream.width = even.shape[1], even.shape[2]
            for frame in even:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

        yield add
        container.mux(stream.encode())


def read_video(
    source: str | Path | bytes, max_frames: int = MAX_VIDEO_FRAMES
) -> tuple[np.ndarray, float]:
    """Read a video: frames uint8 (T, Y, X, 3) and frames per second.

    Args:
        source: a file, or a file's content.

    Raises:
        MediaError: missing, over 2 GiB, over `max_frames` frames, without frames, over 64
            megapixels, of a size that changes, or not a video.
    """
    frames: list[np.ndarray] = []
    name = _video_name(source)
    with _open_video(source) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            if len(frames) >= max_frames:
                raise MediaError(f"{name} is over {max_frames:,} frames; cut it")
            if frame.width * frame.height > MAX_PICTURE_PIXELS:
                raise MediaError(f"{name} is over 64 megapixels; scale it down")
            frames.append(frame.to_ndarray(format="rgb24"))
            if frames[-1].shape != frames[0].shape:
                raise MediaError(f"{name} changes its size at frame {len(frames)}; encode it anew")
        fps = float(stream.average_rate or 0)
    if not frames:
        raise MediaError(f"{name} has no frames")
    return np.stack(frames), fps


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata that `write_video` stored, or {} when there is none; decodes no frame.

    Raises:
        MediaError: as `read_video`.
    """
    with _open_video(path) as container:
        return _metadata_of(container.metadata.get("comment", ""))


@contextmanager
def _open_video(source: str | Path | bytes) -> Iterator[Any]:
    import av

    name = _video_name(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise MediaError(f"{name} does not exist; check the path")
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    if size > MAX_VIDEO_BYTES:
        raise MediaError(f"{name} is over 2 GiB; cut it")
    try:
        with av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source)) as container:
            yield container
    except (av.FFmpegError, IndexError) as error:
        raise MediaError(f"{name} is not a readable video: {error}") from error


def _video_name(source: str | Path | bytes) -> str:
    if isinstance(source, bytes):
        return f"video of {len(source):,} bytes"
    return f"video {str(source)!r}"


def _metadata_of(comment: str) -> dict[str, Any]:
    try:
        value = json.loads(comment)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def save_picture(path: str | Path, picture: Image.Image) -> None:
    """Write a picture atomically; the format follows the suffix (.png, .jpg)."""
    kind = "JPEG" if Path(path).suffix.lower() in (".jpg", ".jpeg") else "PNG"
    buffer = io.BytesIO()
    picture.save(buffer, format=kind)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))


def frame_sheet(
    frames: np.ndarray,
    references: Sequence[Image.Image] = (),
    caption: str = "",
    *,
    num_frames: int = 6,
    cell: int = 160,
) -> Image.Image:
    """Lay references, then evenly spaced frames, in one row under a caption.

    Args:
        frames: uint8 (T, Y, X, 3). cell: height of the row in pixels.
    """
    picks = np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().astype(int)
    pictures = [letterbox(open_picture(r), cell, cell)[0] for r in references]
    width = max(1, round(cell * frames.shape[2] / frames.shape[1]))
    resample = Image.Resampling.NEAREST if frames.shape[1] < cell else Image.Resampling.LANCZOS
    pictures += [Image.fromarray(frames[i]).resize((width, cell), resample) for i in picks]
    gap, text_height = 4, 20 if caption else 0
    sheet = Image.new(
        "RGB",
        (sum(p.width + gap for p in pictures) + gap, cell + 2 * gap + text_height),
        (238, 238, 238),
    )
    left = gap
    for picture in pictures:
        sheet.paste(picture, (left, text_height + gap))
        left += picture.width + gap
    if caption:
        ImageDraw.Draw(sheet).text((gap, gap), caption, fill=(20, 20, 20))
    return sheet
