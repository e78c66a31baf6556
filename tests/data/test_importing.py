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


def test_pairs_come_back_as_they_were_written(said, tmp_path):
    pairs = said.parent / "pairs.json"
    told = import_dataset(said, tmp_path / "made", "opens2v", pairs=pairs)
    assert (told.accepted, told.pairs) == (2, {"used": 1})
    dataset = Dataset.open(tmp_path / "made")
    one, other = dataset.samples()
    shown, far = other.references[1], one.references[-1]
    assert (far.pair_type, far.entity_id) == ("cross_clip", one.references[1].entity_id)
    assert far.image == shown.image and dataset.read(far.image)
    assert (far.origin.sample_id, far.origin.frame) == (other.id, shown.origin.frame)
    assert other.references[-1].image == one.references[1].image
    export(tmp_path / "made", tmp_path / "again", "opens2v")
    assert json.loads((tmp_path / "again/pairs.json").read_text()) == json.loads(pairs.read_text())
    assert json.loads((tmp_path / "again/clips.json").read_text()) == json.loads(said.read_text())


def test_what_a_pair_says_beyond_the_format_comes_back_from_either_side(said, tmp_path):
    pairs = said.parent / "pairs.json"
    ((name, (pair,)),) = json.loads(pairs.read_text()).items()
    ends = {f"{one}_{field}": pair[f"{other}_{field}"] for one, other in (("cur", "aft"),
            ("aft", "cur")) for field in ("id", "class_id", "class_name", "frame_idx")}  # fmt: skip
    turned = {name: [{**pair, **ends, "text_similarity": 1.00098, "later": [1, None]}]}
    pairs.write_text(json.dumps(turned))
    import_dataset(said, tmp_path / "made", "opens2v", pairs=pairs)
    assert export(tmp_path / "made", tmp_path / "again", "opens2v").pairs == 1
    assert json.loads((tmp_path / "again/pairs.json").read_text()) == turned


def test_pairs_of_clips_that_are_not_there_are_counted(said, tmp_path):
    (said.parent / "clips/a.mp4").unlink()
    told = import_dataset(said, tmp_path / "made", "opens2v", pairs=said.parent / "pairs.json")
    assert told.pairs == {"unknown sample": 1}
    (sample,) = Dataset.open(tmp_path / "made").samples()
    assert {reference.pair_type for reference in sample.references} == {"regular"}


def test_pairs_are_read_before_anything_is_made(said, clips, tmp_path):
    (said.parent / "pairs.json").write_text("{")
    with pytest.raises(DataError, match=r"pairs.json"):
        import_dataset(said, tmp_path / "made", "opens2v", pairs=said.parent / "pairs.json")
    with pytest.raises(DataError, match="go with opens2v only"):
        import_dataset(clips, tmp_path / "made", "folder", pairs=said.parent / "pairs.json")
    assert not (tmp_path / "made").exists()
