"""Pictures and videos: what is read, refused and written."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anyref.errors import MediaError
from anyref.media import (
    check_writable,
    fit,
    frame_sheet,
    letterbox,
    open_picture,
    read_metadata,
    read_video,
    write_atomically,
    write_video,
)


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
