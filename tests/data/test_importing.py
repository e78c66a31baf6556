from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

import records
from anyref.data.dataset import Dataset
from anyref.data.export import export
from anyref.data.importing import import_dataset
from anyref.errors import DataError
from anyref.media import write_video


@pytest.fixture
def clips(tmp_path):
    """A folder of one clip with its text and two pictures of a fox."""
    folder = tmp_path / "clips"
    folder.mkdir()
    write_video(folder / "run.mp4", records.frames(40), records.FPS)
    (folder / "run.txt").write_text("a fox runs")
    for name in ("run.fox.png", "run.fox.2.png"):
        (folder / name).write_bytes(records.cutout((9, 200, 9)))
    return folder


@pytest.fixture
def said(tmp_path):
    """The JSON of an OpenS2V export, its clips beside it."""
    export(records.write(tmp_path / "set"), tmp_path / "out", "opens2v")
    return tmp_path / "out/clips.json"


def test_a_folder_becomes_records_with_spans_and_pictures(clips, tmp_path):
    told = import_dataset(clips, tmp_path / "made", "folder")
    dataset = Dataset.open(tmp_path / "made")
    (row,) = dataset.rows()
    sample = row.sample()
    assert told.accepted == 1
    assert [r.entity_id for r in sample.references] == ["fox", "fox"]
    assert sample.captions[0].text[slice(*sample.references[0].caption_span)] == "fox"
    picture = Image.open(io.BytesIO(dataset.read(sample.references[0].image)))
    assert picture.getchannel("A").getextrema() == (0, 255)
    assert len(dataset.read(row.assets["clip"])) > 100


def test_an_imported_folder_can_be_exported_to_train_on(clips, tmp_path):
    import_dataset(clips, tmp_path / "made", "folder")
    assert export(tmp_path / "made", tmp_path / "shards").written == 1


def test_pictures_are_cut_by_their_masks(said, tmp_path):
    import_dataset(said, tmp_path / "made", "opens2v")
    dataset = Dataset.open(tmp_path / "made")
    sample = next(dataset.samples())
    picture = Image.open(io.BytesIO(dataset.read(sample.references[1].image)))
    assert picture.size == (32, 32) and picture.mode == "RGBA"
    red, green, blue, alpha = np.asarray(picture)[16, 16]
    assert (red > 150, green < 160, blue < 100, alpha) == (True, True, True, 255)


def test_a_record_without_its_video_stays_with_the_reason(said, tmp_path):
    (said.parent / "clips/a.mp4").unlink()
    told = import_dataset(said, tmp_path / "made", "opens2v")
    assert (told.accepted, told.rejected) == (1, {"no video": 1})
    (row,) = Dataset.open(tmp_path / "made").rows("rejected")
    assert (row.stage, row.judged) == ("import", False)
    assert row.sample().flags.filtered_by == "import"


@pytest.mark.parametrize("path", ["../../set/manifest.json", "/etc/hostname", "x\0y", "a" * 5000])
def test_a_path_that_leads_elsewhere_is_no_video(said, tmp_path, path):
    records_by_key = json.loads(said.read_text())
    records_by_key["a"]["metadata"]["path"] = path
    said.write_text(json.dumps(records_by_key))
    told = import_dataset(said, tmp_path / "made", "opens2v")
    assert told.rejected == {"no video": 1}


def test_bad_records_and_bad_videos_are_rejections(said, tmp_path):
    found = json.loads(said.read_text())
    found["b"]["metadata"]["face_cut"] = [0, 500]
    said.write_text(json.dumps({**found, "x": 7}))
    told = import_dataset(said, tmp_path / "made", "opens2v")
    assert (told.accepted, told.rejected) == (1, {"bad video": 1, "bad record": 1})


def test_a_folder_that_holds_a_dataset_is_left_alone(clips, tmp_path):
    import_dataset(clips, tmp_path / "made", "folder")
    with pytest.raises(DataError, match="holds a dataset"):
        import_dataset(clips, tmp_path / "made", "folder")
