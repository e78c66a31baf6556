from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import records
from anyref.data.dataset import Dataset
from anyref.data.export import export
from anyref.data.importing import import_dataset
from anyref.data.index import ShardIndex
from anyref.data.opens2v_pairs import read_pairs
from anyref.errors import DataError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return records.write(tmp_path_factory.mktemp("made") / "set")


def packed(folder):
    index = ShardIndex.open([str(folder)])
    return [index.read(number) for number in range(len(index.entries))]


def test_shards_hold_every_reference_with_a_picture_and_all_that_training_takes(dataset, tmp_path):
    told = export(dataset, tmp_path / "shards")
    samples = packed(tmp_path / "shards")
    assert told.written == len(samples) == 2
    for sample in samples:
        own, far = sample.record.references
        assert (own.pair_type, far.pair_type) == ("regular", "cross_clip")
        assert own.entity_id == far.entity_id == "fox"
        assert sample.record.captions[0].text[slice(*own.caption_span)] == "fox"
        assert len(own.track) == records.FRAMES == len(sample.frames())
        mask, alpha = sample.mask(1), sample.picture(1).getchannel("A")
        assert np.array_equal(np.asarray(mask) > 127, np.asarray(alpha) > 127)
    assert samples[0].references[1] == samples[1].references[0]


def test_clips_can_be_cut_to_one_length(dataset, tmp_path):
    told = export(dataset, tmp_path / "shards", frames=5)
    sample = packed(tmp_path / "shards")[0]
    assert told.written == 2
    assert len(sample.frames()) == 5 == len(sample.record.references[0].track)
    with pytest.raises(DataError, match="2 shorter than the frames asked for"):
        export(dataset, tmp_path / "none", frames=10)


def test_opens2v_comes_back_with_its_clips_boxes_and_masks(dataset, tmp_path):
    told = export(dataset, tmp_path / "out", "opens2v")
    assert (told.written, told.pairs) == (2, 1)
    back = import_dataset(tmp_path / "out/clips.json", tmp_path / "back", "opens2v")
    assert (back.accepted, back.rejected) == (2, {})
    before = {row.id: row.sample() for row in Dataset.open(dataset).rows("accepted")}
    for row in Dataset.open(tmp_path / "back").rows():
        found = row.sample()
        origin = before[found.source_key]
        assert [r.label for r in found.references] == ["owl", "fox"]
        assert found.references[1].mask.counts == origin.references[1].mask.counts
        assert found.references[1].bbox_xyxy == records.BOX
        assert found.video.num_frames == records.FRAMES


def test_pairs_name_both_annotations_once(dataset, tmp_path):
    export(dataset, tmp_path / "out", "opens2v")
    (pair,) = (
        pair for cluster in read_pairs(tmp_path / "out/pairs.json") for pair in cluster.pairs
    )
    assert {pair.cur_id, pair.aft_id} == {"a", "b"}
    assert (pair.cur_class_id, pair.cur_class_name, pair.image_similarity) == ("2", "fox", 0.8)


@pytest.mark.parametrize(("form", "fields"), [("magref", 3), ("kaleido", 2)])
def test_lists_name_a_picture_per_subject(dataset, tmp_path, form, fields):
    export(dataset, tmp_path / "out", form)
    lines = (tmp_path / "out/list.txt").read_text().splitlines()
    cells = [line.split("@@") for line in lines]
    assert [len(row) for row in cells] == [fields, fields]
    assert cells[0][-2] == records.TEXT
    assert (tmp_path / "out" / cells[0][-1]).is_file()


def test_a_folder_that_holds_something_is_left_alone(dataset, tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match="not empty"):
        export(dataset, tmp_path)


def test_an_opaque_picture_has_no_mask(dataset):
    from anyref.data.export import silhouette

    buffer = io.BytesIO()
    Image.new("RGBA", (4, 4), (1, 2, 3, 255)).save(buffer, format="PNG")
    assert silhouette(buffer.getvalue(), "x") is None
    assert silhouette(records.cutout((1, 2, 3)), "x") is not None


def test_records_point_at_files_that_are_there(dataset, tmp_path):
    export(dataset, tmp_path / "out", "opens2v")
    said = json.loads((tmp_path / "out/clips.json").read_text())
    paths = [Path(record["metadata"]["path"]) for record in said.values()]
    assert all((tmp_path / "out/clips" / path).is_file() for path in paths)
