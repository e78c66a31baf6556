from __future__ import annotations

import copy
import json
from collections import Counter

import pytest

from anyref.data import opens2v_pairs
from anyref.data.opens2v_pairs import (
    Cluster,
    CrossPair,
    add_pairs,
    kept_pair,
    read_pairs,
    write_pairs,
)
from anyref.data.opens2v_read import import_record
from anyref.data.rules import cluster_name
from anyref.errors import DataError

PAIR = {
    "cur_id": "part1/a_part1",
    "aft_id": "part2/a_part2",
    "cur_class_id": "1",
    "aft_class_id": "3",
    "cur_class_name": "white hat",
    "aft_class_name": "woman",
    "text_similarity": 1.00098,
    "image_similarity": 0.75,
    "cur_frame_idx": 10,
    "aft_frame_idx": 10,
}


@pytest.fixture(scope="module")
def published(opens2v):
    return opens2v / "dataset" / "cross_frames_pairs.json"


def test_the_published_pairs_have_the_known_counts(published):
    (cluster,) = read_pairs(published)
    assert len(cluster.pairs) == 104
    assert sorted(Counter((p.cur_id, p.aft_id) for p in cluster.pairs).values()) == [33, 33, 38]
    text = [pair.text_similarity for pair in cluster.pairs]
    image = [pair.image_similarity for pair in cluster.pairs]
    assert [round(s, 5) for s in (min(text), max(text))] == [0.60156, 1.00098]
    assert [round(s, 5) for s in (min(image), max(image))] == [0.80908, 1.00098]
    assert {cluster_name(p.cur_id.split("/")[1]) for p in cluster.pairs} == {cluster.name}


def test_the_published_pairs_come_back_equal(published, tmp_path):
    assert write_pairs(tmp_path / "out.json", read_pairs(published)) == 104
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(published.read_text())


def test_the_published_pairs_between_different_pictures_are_used(opens2v, published):
    ((key, record),) = json.loads((opens2v / "dataset" / "dataset1.json").read_text()).items()
    (cluster,) = read_pairs(published)
    third = next(p.cur_id for p in cluster.pairs if not p.cur_id.endswith(key))
    numbered = {int(p.cur_class_id): p.cur_class_name for p in cluster.pairs if p.cur_id == third}
    other = copy.deepcopy(record)  # its JSON is not published; the pairs tell its labels
    other["metadata"]["path"] = "third.mp4"
    other["annotation"] = {
        "ann_frame_data": {
            "annotations": [
                {"class_name": numbered.get(k, "unknown"), "bbox": [0, 0, 9, 9]}
                for k in range(1, max(numbered) + 1)
            ]
        }
    }
    samples = [
        import_record(key, record, "dataset1"),
        import_record(key, record, "dataset1_cluster"),
        import_record(third.split("/")[1], other, "dataset1_cluster"),
    ]
    grown, counts = add_pairs(samples, [cluster])
    assert counts == {"too similar": 88, "same clip": 6, "used": 10}
    assert [len(g.references) - len(s.references) for g, s in zip(grown, samples, strict=True)] == [
        5,
        5,
        10,
    ]


@pytest.mark.parametrize(
    "content",
    [
        {"a": [PAIR], "b": [], "c": [PAIR, {**PAIR, "extra": None}]},
        [PAIR, PAIR],
        [],
        {},
        {"a": [{k: v for k, v in PAIR.items() if not k.endswith("class_id")}]},
    ],
)
def test_pairs_of_either_form_come_back_equal(tmp_path, content):
    path, out = tmp_path / "a.json", tmp_path / "b.json"
    path.write_text(json.dumps(content))
    write_pairs(out, read_pairs(path))
    assert json.loads(out.read_text()) == content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not one JSON object"),
        ("[1", "cannot be read"),
        ('{"a": 1}', "cluster 'a' is a int"),
        ("[1]", "pair 1 is not an object"),
        ('[{"cur_id": "x"}]', "pair 1: aft_id"),
    ],
)
def test_what_is_no_pairs_file_is_refused(tmp_path, content, words):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=words):
        list(read_pairs(tmp_path / "a.json"))


def test_clusters_that_do_not_fit_one_file_are_refused(tmp_path):
    for names in (("a", "a"), (None, None), (None, "a"), ("a", None)):
        with pytest.raises(DataError, match="twice, or beside"):
            write_pairs(tmp_path / "a.json", [Cluster(name, ()) for name in names])


@pytest.fixture
def clips(opens2v_record):
    """Two clips of one source, in two parts."""
    other = copy.deepcopy(opens2v_record)
    other["metadata"]["face_cut"] = [5, 95]
    first = import_record("a_part1", opens2v_record, "part1")
    return [first, import_record("a_part2", other, "part2")]


def alone(pair):
    return Cluster("a", (CrossPair(**pair),))


def test_a_pair_gives_each_clip_a_picture_from_the_other(clips):
    (first, second), counts = add_pairs(clips, [alone(PAIR)])
    assert counts == {"used": 1}
    hat, woman = clips[0].references[0], clips[1].references[2]
    added = first.references[-1]
    assert added.pair_type == "cross_clip"
    assert (added.label, added.kind, added.mask) == ("woman", "human", woman.mask)
    assert (added.entity_id, added.caption_span) == (hat.entity_id, hat.caption_span)
    # annotated frame 10 of the file is frame 5 of a clip that begins at 5
    assert (added.origin.sample_id, added.origin.frame) == (clips[1].id, 5)
    assert added.scores.gme_image_to_target == 0.75
    assert added.foreign == {"opens2v": {"text_similarity": 1.00098, "pair": PAIR, "cluster": "a"}}
    back = second.references[-1]
    assert back.foreign == {"opens2v": {"text_similarity": 1.00098}}
    assert (kept_pair(added), kept_pair(back)) == (alone(PAIR), None)
    assert (back.label, back.entity_id) == ("white hat", woman.entity_id)
    assert (back.origin.sample_id, back.origin.frame) == (clips[0].id, 0)
    assert clips[0].references == first.references[:-1]


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"image_similarity": 0.9900001}, "too similar"),
        ({"image_similarity": 0.99}, "used"),
        ({"aft_id": "part9/a_part1"}, "same clip"),
        ({"aft_id": "part1/a_part2"}, "unknown sample"),
        ({"aft_id": "a_part2"}, "used"),
        ({"aft_class_id": "2"}, "unknown subject"),
        ({"aft_class_id": None}, "used"),
        ({"aft_class_name": "fox"}, "unknown subject"),
    ],
)
def test_pairs_that_are_of_no_use_are_counted(clips, changed, verdict):
    samples, counts = add_pairs(clips, [alone({**PAIR, **changed})])
    assert counts == {verdict: 1}
    assert (samples == clips) == (verdict != "used")


def test_an_id_that_fits_two_parts_or_a_label_that_repeats_is_not_guessed(clips, opens2v_record):
    twin = import_record("a_part2", opens2v_record, "part3")
    assert add_pairs([*clips, twin], [alone({**PAIR, "aft_id": "a_part2"})])[1] == {
        "unknown sample": 1
    }
    opens2v_record["annotation"]["ann_frame_data"]["annotations"][0]["class_name"] = "woman"
    twice = import_record("a_part2", opens2v_record, "part2")
    pair = {**PAIR, "aft_class_id": None}
    assert add_pairs([clips[0], twice], [alone(pair)])[1] == {"unknown subject": 1}


def test_a_full_sample_takes_no_more(clips, monkeypatch):
    monkeypatch.setattr(opens2v_pairs, "MAX_REFERENCES", 5)
    one, other = (
        CrossPair(**{**PAIR, "aft_class_id": number, "aft_class_name": name})
        for number, name in (("3", "woman"), ("2", "person"))
    )
    samples, counts = add_pairs(clips, [Cluster("a", (one, other))])
    assert counts == {"used": 1, "no room": 1}
    assert [len(sample.references) for sample in samples] == [5, 5]
    assert add_pairs(clips, [Cluster(None, (one, one))])[1] == {"used": 1, "given twice": 1}
