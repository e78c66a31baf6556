"""Pictures and videos: what is read, refused and written."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anyref.errors import MediaError, ReferencesError
from anyref.media import (
    check_writable,
    encode_video,
    fit,
    frame_sheet,
    letterbox,
    open_mask,
    open_picture,
    open_reference_pictures,
    open_video_writer,
    read_metadata,
    read_video,
    write_atomically,
    write_video,
)
from anyref.request import Reference


def test_transparency_is_composited_on_white(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(path)
    assert np.all(np.asarray(open_picture(path)) == 255)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("text.png", b"hello", "not a readable picture"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\0\0", "not a readable picture"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(MediaError, match=words):
        open_picture(tmp_path / name)
    with pytest.raises(MediaError, match="does not exist"):
        open_picture(tmp_path / "none.png")


def red_left_of(mask_picture):
    """What of a red 8x8 picture stays red, left to right in the top row."""
    reference = Reference([Image.new("RGB", (8, 8), "red")], "fox", mask=mask_picture)
    (picture,) = open_reference_pictures(reference)
    return [picture.getpixel((x, 0)) for x in (0, 3, 4, 7)]


@pytest.mark.parametrize("size", [(8, 8), (16, 16)])
def test_outside_its_mask_a_picture_is_white(size):
    red, white = (255, 0, 0), (255, 255, 255)
    mask = Image.new("L", size, 127)
    mask.paste(128, (0, 0, size[0] // 2, size[1]))
    assert red_left_of(mask) == [red, red, white, white]
    clear = Image.new("RGBA", size, (255, 255, 255, 0))
    clear.paste((255, 255, 255, 255), (size[0] // 2, 0, *size))
    assert red_left_of(clear) == [white, white, red, red]


def test_a_mask_of_nothing_is_refused_and_no_mask_keeps_everything(tmp_path):
    Image.new("L", (8, 8), 127).save(tmp_path / "black.png")
    black = Reference([Image.new("RGB", (8, 8))], "fox", mask=tmp_path / "black.png")
    with pytest.raises(ReferencesError, match="mask of reference 'fox' is black"):
        open_reference_pictures(black)
    with pytest.raises(MediaError, match="does not exist"):
        open_reference_pictures(black.model_copy(update={"mask": tmp_path / "none.png"}))
    assert open_mask(Reference([Image.new("RGB", (8, 8))]), (8, 8)).getextrema() == (255, 255)


def test_a_turned_photo_is_upright_by_path_and_in_memory(tmp_path):
    photo = Image.new("RGB", (40, 30), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as opened:
        assert open_picture(opened).size == open_picture(tmp_path / "a.jpg").size == (30, 40)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    Image.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(tmp_path / "grey.png")
    assert open_picture(tmp_path / "grey.png").getpixel((0, 0)) == (128, 128, 128)


def test_a_file_that_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"hello")
    for read in (read_video, read_metadata):
        with pytest.raises(MediaError, match="not a readable video"):
            read(tmp_path / "a.mp4")


def test_a_picture_over_the_pixel_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("anyref.media.MAX_PICTURE_PIXELS", 99)
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="10x10"):
        open_picture(tmp_path / "a.png")


def test_letterboxing_truncates_and_never_vanishes():
    assert fit(37, 21, 277, 480) == (277, 157)  # 157.2
    assert fit(1, 300, 416, 240) == (1, 240)
    boxed, box = letterbox(Image.new("RGB", (30, 10), "red"), 60, 60)
    assert boxed.size == (60, 60)
    assert box == (0, 20, 60, 40)


def test_a_video_keeps_its_frames_metadata_and_bytes(tmp_path):
    frames = np.zeros((9, 32, 48, 3), np.uint8)
    frames[:, :, :24] = (200, 30, 30)
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames, 8.0, {"prompt": "a 'fox' ü"})
    again, fps = read_video(tmp_path / "a.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert read_metadata(tmp_path / "a.mp4") == {"prompt": "a 'fox' ü"}
    assert fps == 8.0
    assert np.abs(again.astype(int) - frames).mean() < 4


def test_a_video_written_in_parts_has_the_bytes_of_the_whole(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (7, 33, 46, 3), dtype=np.uint8)
    write_video(tmp_path / "whole.mp4", frames, 8, {"a": 1})
    with open_video_writer(tmp_path / "parts.mp4", 8, {"a": 1}) as add:
        for first, last in ((0, 1), (1, 4), (4, 7)):
            add(frames[first:last])
            assert not (tmp_path / "parts.mp4").exists()
    assert (tmp_path / "parts.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    with pytest.raises(KeyError), open_video_writer(tmp_path / "never.mp4", 8) as add:
        add(frames)
        raise KeyError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.mp4", "whole.mp4"]


def test_a_failing_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_under_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(MediaError, match="not writable"):
        check_writable(tmp_path / "file" / "out.mp4")
    with pytest.raises(MediaError, match="is a folder"):
        check_writable(tmp_path)


def test_a_frame_sheet_shows_references_then_frames():
    frames = np.zeros((9, 10, 20, 3), np.uint8)
    sheet = frame_sheet(frames, [Image.new("RGB", (5, 5), "red")], num_frames=3, cell=20)
    assert sheet.size == (4 + 24 + 3 * 44, 28)
    assert sheet.getpixel((14, 14)) == (255, 0, 0)


def test_a_video_in_memory_is_the_video_in_the_file(tmp_path):
    ramp = np.linspace(0, 255, 4 * 16 * 32 * 3).reshape(4, 16, 32, 3).astype(np.uint8)
    write_video(tmp_path / "a.mp4", ramp, 8)
    data = encode_video(ramp, 8)
    assert data == (tmp_path / "a.mp4").read_bytes()
    frames, fps = read_video(data)
    assert fps == 8
    assert np.array_equal(frames, read_video(tmp_path / "a.mp4")[0])


def test_full_chroma_keeps_the_colour_of_every_pixel():
    stripes = np.zeros((2, 16, 32, 3), np.uint8)
    stripes[:, :, ::2, 0] = 255
    stripes[:, :, 1::2, 2] = 255
    errors = [
        np.abs(read_video(encode_video(stripes, 8, full_chroma=full))[0].astype(int) - stripes)
        for full in (False, True)
    ]
    assert errors[0].mean() > 40
    assert errors[1].mean() < 3


def test_videos_in_memory_have_bounds():
    data = encode_video(np.zeros((4, 16, 16, 3), np.uint8), 8)
    assert len(read_video(data, max_frames=4)[0]) == 4
    with pytest.raises(MediaError, match="over 3 frames"):
        read_video(data, max_frames=3)
    with pytest.raises(MediaError, match=r"video of 100 bytes is not a readable video"):
        read_video(data[:100])
