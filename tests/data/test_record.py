from __future__ import annotations

import json

import pytest

from anyref.data.record import SCHEMA, Sample, sample_id
from anyref.errors import TrainingError

# one record with every field of the schema filled
FULL = {
    "schema": "anyref.sample/1",
    "id": "0123456789abcdef",
    "source_key": "gm1252760410-365677148_part2",
    "video": {
        "uri": "a.mp4",
        "sha256": "ab" * 32,
        "start": 10,
        "end": 12,
        "fps": 29.97,
        "num_frames": 2,
        "width": 1280,
        "height": 720,
        "crop_xyxy": [0.0, 0.0, 1280.0, 720.0],
    },
    "captions": [
        {
            "text": "A woman in a white lace top.",
            "kind": "subject_centric",
            "model": "m",
            "sha": "s",
        }
    ],
    "tags": {"background": ["park"], "subject": ["woman"], "object": ["white lace top"]},
    "references": [
        {
            "ref_id": "r1",
            "kind": "object",
            "label": "white lace top",
            "entity_id": "e3",
            "pair_type": "cross_clip",
            "image": {"uri": "a.ref0.png", "sha256": "cd" * 32},
            "origin": {"sample_id": "fedc", "frame": 0, "generator": "g", "prompt": "p"},
            "bbox_xyxy": [1.08, 570.65, 162.96, 717.87],
            "mask": {
                "size": [720, 1280],
                "counts": "[c0U3[c00",
                "format": "coco_rle",
                "score": 0.9,
            },
            "caption_span": [13, 27],
            "scores": {
                "aesthetic": 4.069,
                "gme_text": 0.3315,
                "gme_image_to_target": 1.00098,
                "area_frac": 0.01886,
                "det_conf": 0.5,
                "face": {"yaw": -12.0, "det": 0.9, "id_sim": 0.4},
            },
            "track": [[1.0, 2.0, 3.0, 4.0], None],
            "foreign": {"theirs": {"set": [1, None], "nothing": None}},
        }
    ],
    "faces": [
        {"frame": 0, "track_id": 0, "bbox_xyxy": [0.0, 0.0, 1.0, 1.0], "kps": [[0.0, 0.5]]},
    ],
    "quality": {
        "aesthetic": 5.07,
        "motion": 0.01224,
        "dover": 2.082,
        "watermark": 0.0,
        "duration_s": 3.17,
        "background_aesthetic": 4.65,
    },
    "split": "train",
    "license": "CC-BY-4.0",
    "provenance": [
        {"stage": "segment", "tool": "t", "version": "1", "config_hash": "h", "time": "now"}
    ],
    "flags": {"filtered_by": "dedup"},
    "foreign": {"theirs": {"cut": [0, 95], "nothing": None}},
}
NULLS = {"source_key": None, "license": None, "split": None, "flags": {"filtered_by": None}}


def test_every_field_of_the_schema_goes_to_json_and_back():
    text = Sample.from_json(json.dumps(FULL)).to_json()
    assert json.loads(text) == FULL
    assert "\n" not in text


def test_explicit_nulls_are_the_same_as_absent_fields():
    record = Sample.from_json(json.dumps(FULL | NULLS))
    short = {k: v for k, v in FULL.items() if k not in NULLS}
    assert record == Sample.from_json(json.dumps(short))


def test_the_span_names_the_words_of_the_reference():
    record = Sample.from_json(json.dumps(FULL))
    (reference,) = record.references
    assert record.captions[0].text[slice(*reference.caption_span)] == reference.label


def changed(path, value):
    data = json.loads(json.dumps(FULL))
    *parents, last = path
    place = data
    for step in parents:
        place = place[step]
    place[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["nope"], 1, "nope: Extra inputs are not permitted"),
        (["references", 0, "kind"], "car", "references.0: kind: .* got 'car'"),
        (["references", 0, "colour"], "red", "colour: Extra inputs"),
        (["references", 0, "pair_type"], "twin", "pair_type"),
        (["references", 0, "caption_span"], [13, 29], r"\[13, 29\], outside .* 28 characters"),
        (["references", 0, "caption_span"], [5, 5], "outside"),
        (["references", 0, "track"], [None], "track of 1 frames, the clip has 2"),
        (["references", 0, "bbox_xyxy"], [1, 2, 3, float("nan")], "finite"),
        (["references", 0, "image", "sha256"], "xyz", "sha256"),
        (["references"], FULL["references"] * 2, "ref_id 'r1' is given twice"),
        (["references"], FULL["references"] * 65, "at most 64"),
        (["captions"], [], "captions"),
        (["captions", 0, "text"], "", "text"),
        (["id"], "a.b", "id"),
        (["id"], "../a", "id"),
        (["id"], "a" * 81, "id"),
        (["video", "end"], 10, "end 10 is not after start 10"),
        (["video", "fps"], 0, "fps"),
        (["video", "num_frames"], 20_001, "num_frames"),
        (["split"], "training", "split"),
        (["foreign"], {"theirs": float("nan")}, "foreign: .*JSON"),
    ],
)
def test_a_wrong_field_is_named(path, value, words):
    with pytest.raises(TrainingError, match=words):
        Sample.from_json(changed(path, value))


@pytest.mark.parametrize("version", ["anyref.sample/2", None, 1])
def test_another_schema_version_is_refused_before_anything_else(version):
    with pytest.raises(TrainingError, match=f"schema is {version!r}.*{SCHEMA}.*update"):
        Sample.from_json(json.dumps({"schema": version, "what": "comes"}))


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '"a"', b"\xff\xfe\x00", "[" * 100_000, '{"schema": NaN}']
)
def test_what_is_no_record_is_refused(text):
    with pytest.raises(TrainingError):
        Sample.from_json(text)


def test_an_id_follows_from_source_cut_and_crop():
    assert sample_id("a.mp4", 0, 95) == "5035aff8013c064c"
    others = {
        sample_id("b.mp4", 0, 95),
        sample_id("a.mp4", 1, 95),
        sample_id("a.mp4", 0, 94),
        sample_id("a.mp4", 0, 95, (0, 0, 1280, 720)),
    }
    assert len(others | {sample_id("a.mp4", 0, 95)}) == 5
