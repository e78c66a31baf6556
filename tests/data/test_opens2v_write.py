from __future__ import annotations

import copy
import json

import pytest

from anyref.data.leftovers import same
from anyref.data.opens2v_read import import_record, read_dataset
from anyref.data.opens2v_write import export_record, write_dataset
from anyref.data.record import Mask, Sample, Scores
from anyref.errors import AnyRefError, DataError


def there_and_back(record):
    """Import, our JSON, and export."""
    sample = Sample.from_json(import_record("key", record, "part1").to_json())
    return export_record(sample)


def test_the_published_record_comes_back_equal(opens2v, tmp_path):
    source = opens2v / "dataset" / "dataset1.json"
    samples = [Sample.from_json(s.to_json()) for s in read_dataset(source)]
    assert write_dataset(tmp_path / "out.json", samples) == 1
    assert same(json.loads((tmp_path / "out.json").read_text()), json.loads(source.read_text()))


def test_little_of_the_published_record_has_no_field_of_ours(opens2v):
    (sample,) = read_dataset(opens2v / "dataset" / "dataset1.json")
    assert sample.foreign["opens2v"] == {
        "part": "dataset1",
        "set": {
            "metadata": {"path": "gm1252760410-365677148_part2.mp4"},
            "word_tags": {"pre_define": ["person", "human head"]},
            "annotation": {"ann_frame_data": {"foreground_ase_score": 4.9773945808410645}},
        },
    }
    assert all(reference.foreign is None for reference in sample.references)


def test_a_record_with_everything_odd_comes_back_equal(opens2v_record):
    key, record = there_and_back(opens2v_record)
    assert key == "key"
    assert same(record, opens2v_record)


@pytest.mark.parametrize(
    "missing",
    [
        ["annotation"],
        ["word_tags"],
        ["metadata", "crop"],
        ["metadata", "face_cut"],
        ["metadata", "tech"],
        ["metadata", "resolution"],
        ["annotation", "mask_map"],
        ["annotation", "mask_annotation"],
        ["annotation", "mask_annotation", "10"],
        ["annotation", "mask_annotation", "10", "2"],
        ["annotation", "ann_frame_data", "annotations"],
        ["annotation", "ann_frame_data", "box_format"],
    ],
)
def test_what_a_record_does_not_say_stays_unsaid(opens2v_record, missing):
    *parents, last = missing
    place = opens2v_record
    for step in parents:
        place = place[step]
    del place[last]
    assert same(there_and_back(opens2v_record)[1], opens2v_record)


def paths_of(value, path=()):
    """Every place inside a JSON value."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in members:
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from paths_of(inner, (*path, key))


@pytest.mark.parametrize("odd", [None, True, 7, -0.5, "", "x", [], ["x"], {}, {"x": None}])
def test_a_record_with_anything_anywhere_comes_back_equal_or_is_refused(opens2v_record, odd):
    equal = refused = 0
    for *parents, last in list(paths_of(opens2v_record)):
        record = copy.deepcopy(opens2v_record)
        place = record
        for step in parents:
            place = place[step]
        place[last] = odd
        try:
            back = there_and_back(record)[1]
        except AnyRefError:
            refused += 1
        else:
            assert same(back, record), [*parents, last]
            equal += 1
    assert equal > 20
    assert refused > 20


def test_an_edit_of_ours_shows_in_the_export(opens2v_record):
    sample = import_record("key", opens2v_record)
    hat, person, *_ = sample.references
    person = person.model_copy(
        update={"scores": Scores(aesthetic=1.5), "mask": Mask(size=(20, 40), counts="0", score=1.0)}
    )
    edited = sample.model_copy(update={"references": (person, hat)})
    annotation = export_record(edited)[1]["annotation"]
    first, second = annotation["ann_frame_data"]["annotations"]
    assert (first["class_name"], first["aes_score"], first["gme_score"]) == ("person", 1.5, None)
    assert second == opens2v_record["annotation"]["ann_frame_data"]["annotations"][0]
    assert annotation["mask_map"] == {
        "1": {"class_name": "person"},
        "2": {"class_name": "white hat"},
    }
    assert annotation["mask_annotation"]["10"]["1"]["score"] == [1.0]


def test_a_record_of_our_own_gets_the_form_and_its_spelling(opens2v_record):
    sample = import_record("key", opens2v_record)
    references = tuple(r.model_copy(update={"foreign": None}) for r in sample.references)
    own = sample.model_copy(update={"foreign": None, "source_key": None, "references": references})
    key, record = export_record(own)
    assert key == own.id
    assert record["metadata"]["crop"] == [8, 48, 0, 20]
    assert record["metadata"]["face_cut"] == record["metadata"]["cut"] == [10, 110]
    assert record["annotation"]["ann_frame_data"]["background_ase_score"] == 4.5
    assert record["annotation"]["mask_map"]["3"] == {"class_name": "woman"}
    assert same(import_record(key, record).model_dump()["video"], own.model_dump()["video"])


def test_packing_does_not_move_the_source(opens2v_record):
    sample = import_record("key", opens2v_record)
    packed = sample.model_copy(update={"video": sample.video.model_copy(update={"uri": "id.mp4"})})
    assert same(export_record(packed)[1], opens2v_record)


def test_what_the_format_cannot_hold_is_refused(opens2v_record, tmp_path):
    sample = import_record("key", opens2v_record)
    hat, person, *_ = sample.references
    bare = sample.model_copy(update={"references": (hat.model_copy(update={"bbox_xyxy": None}),)})
    with pytest.raises(DataError, match="no bbox_xyxy"):
        export_record(bare)
    later = person.model_copy(update={"origin": person.origin.model_copy(update={"frame": 7})})
    with pytest.raises(DataError, match=r"frames \[0, 7\]"):
        export_record(sample.model_copy(update={"references": (hat, later)}))
    with pytest.raises(DataError, match="'key' is given twice"):
        write_dataset(tmp_path / "a.json", [sample, sample])
    assert list(tmp_path.iterdir()) == []


def test_an_empty_data_set_is_an_empty_object(tmp_path):
    assert write_dataset(tmp_path / "a.json", []) == 0
    assert json.loads((tmp_path / "a.json").read_text()) == {}
