from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from anyref.data.index import ShardIndex
from anyref.data.pack import pack_clips
from anyref.errors import TrainingError
from anyref.media import write_video


def frames(count=9, side=32):
    return np.stack([np.full((side, side, 3), 20 * t, np.uint8) for t in range(count)])


@pytest.fixture
def clips(tmp_path):
    """Writes a list of clips; each line is the default with changes."""
    write_video(tmp_path / "park.mp4", frames(), 8)
    Image.new("RGBA", (24, 16), (200, 90, 20, 128)).save(tmp_path / "a.png")
    Image.new("RGB", (16, 24), "blue").save(tmp_path / "b.jpg")

    def write(*lines):
        default = {
            "video": "park.mp4",
            "prompt": "@fido runs through a park",
            "references": [{"name": "fido", "images": ["a.png", "b.jpg"], "text": "a brown dog"}],
        }
        rows = [line if isinstance(line, str) else json.dumps(default | line) for line in lines]
        path = tmp_path / "clips.jsonl"
        path.write_text("\n".join(rows))
        return path

    return write


def read(folder):
    index = ShardIndex.open([str(folder)])
    return [index.read(i) for i in range(len(index))]


def test_a_clip_is_packed_with_its_caption_and_every_picture(clips, tmp_path):
    assert pack_clips(clips({}), tmp_path / "out") == 1
    (sample,) = read(tmp_path / "out")
    record = sample.record
    assert record.captions[0].text == "a brown dog runs through a park"
    assert [r.entity_id for r in record.references] == ["fido", "fido"]
    assert {r.caption_span for r in record.references} == {(0, 11)}
    assert {r.pair_type for r in record.references} == {"cross_clip"}
    assert sample.picture(0).mode == "RGBA"
    assert sample.picture(1).size == (16, 24)
    found = sample.frames()
    assert found.shape == (9, 32, 32, 3)
    assert np.abs(found.astype(int) - frames()).max() < 8


def test_one_video_under_two_prompts_is_two_samples(clips, tmp_path):
    listing = clips({}, {"prompt": "@fido sleeps in a park"})
    assert pack_clips(listing, tmp_path / "out") == 2
    assert len({sample.record.id for sample in read(tmp_path / "out")}) == 2


def test_frames_are_chosen_for_another_rate_and_length(clips, tmp_path):
    pack_clips(clips({}), tmp_path / "out", fps=4, num_frames=5)
    (sample,) = read(tmp_path / "out")
    assert sample.record.video.fps == 4
    shades = sample.frames()[:, 0, 0, 0].astype(int)
    assert np.abs(shades - [0, 40, 80, 120, 160]).max() < 8


def test_a_picture_is_a_clip_of_one_frame(clips, tmp_path):
    pack_clips(clips({"video": "b.jpg"}), tmp_path / "out")
    (sample,) = read(tmp_path / "out")
    assert sample.frames().shape == (1, 24, 16, 3)


def test_a_mask_travels_with_its_picture(clips, tmp_path):
    mask = Image.new("L", (24, 16))
    mask.paste(255, (4, 4, 12, 12))
    mask.save(tmp_path / "mask.png")
    fido = {"name": "fido", "images": ["a.png"], "mask": "mask.png"}
    pack_clips(clips({"references": [fido]}), tmp_path / "out")
    (sample,) = read(tmp_path / "out")
    assert np.asarray(sample.mask(0)).max() == 255


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 2"),
        ({"video": "gone.mp4"}, r"line 2: video .*gone\.mp4.* does not exist"),
        ({"prompt": "@rex runs"}, "line 2: the prompt mentions @rex"),
        ({"references": []}, "line 2: the prompt mentions @fido"),
        ({"size": 3}, "line 2: size"),
        ({"references": [{"name": "fido", "images": ["gone.png"]}]}, "line 2.*gone.png"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_written(clips, tmp_path, line, message):
    with pytest.raises(TrainingError, match=message):
        pack_clips(clips({}, line), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_video_that_is_too_short_or_too_slow_says_so(clips, tmp_path):
    with pytest.raises(TrainingError, match=r"line 1: park.mp4 has 9 frames.*17"):
        pack_clips(clips({}), tmp_path / "out", num_frames=17)
    with pytest.raises(TrainingError, match="8 frames a second, 16"):
        pack_clips(clips({}), tmp_path / "out", fps=16)
    with pytest.raises(TrainingError, match="cannot be read"):
        pack_clips(tmp_path / "absent.jsonl", tmp_path / "out")
