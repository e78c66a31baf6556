from __future__ import annotations

import json

import numpy as np
import pytest

from anyref.data.masks import area, area_fraction, pairwise_iou, tight_box
from anyref.data.opens2v_read import Rejected, import_record, read_dataset
from anyref.data.record import sample_id
from anyref.data.rules import choose_references, detection_prompt, generation_tags
from anyref.errors import AnyRefError


@pytest.fixture(scope="module")
def real(opens2v):
    """The published record: 16 annotations of one frame of 1280 x 720."""
    (sample,) = read_dataset(opens2v / "dataset" / "dataset1.json")
    return sample


def test_the_published_record_keeps_its_numbers(real):
    assert real.source_key == "gm1252760410-365677148_part2_step1-0-95_step2-0-95_step3_step4_step5"
    video = real.video
    assert video.uri == "dataset1/gm1252760410-365677148_part2.mp4"
    assert (video.start, video.end, video.num_frames) == (0, 95, 95)
    assert (video.width, video.height, video.crop_xyxy) == (1280, 720, (0, 0, 1280, 720))
    assert real.quality.dover == 2.082
    assert real.quality.background_aesthetic == 4.567878723144531
    assert real.tags.object == ("blue top", "necklace", "glasses", "white lace top")
    assert [r.ref_id for r in real.references] == [str(k) for k in range(1, 17)]
    assert real.references[0].mask.score == 0.9921875


def test_the_published_masks_have_the_known_areas_and_overlaps(real):
    masks = [reference.mask for reference in real.references]
    areas = {k: area(masks[k - 1]) for k in (1, 2, 4, 7, 9, 13, 14)}
    assert areas == {
        1: 17385, 2: 220108, 4: 5008, 7: 48858, 9: 499474, 13: 499474, 14: 499474,
    }  # fmt: skip
    assert round(area_fraction(masks[0]), 5) == 0.01886
    assert real.references[0].scores.area_frac == area_fraction(masks[0])
    assert round(area_fraction(masks[8]), 5) == 0.54196
    # known as the last pixel inside, [0, 575, 160, 719]; ours is half-open
    assert tight_box(masks[0]) == (0, 575, 160 + 1, 719 + 1)
    over = np.argwhere(np.triu(pairwise_iou(masks), 1) > 0.8) + 1
    assert sorted(map(tuple, over.tolist())) == [
        (2, 11), (2, 15), (3, 12), (6, 8), (6, 10), (8, 10), (9, 13), (9, 14), (11, 15), (13, 14),
    ]  # fmt: skip


def test_step_7_and_the_prompts_choose_what_is_known(real):
    assert [real.references[k].ref_id for k in choose_references(real.references)] == [
        "2",
        "9",
        "16",
    ]
    assert generation_tags(real.references, 1280, 720) == [
        "blue_top", "grassy_area", "green_grass", "individual", "park", "person", "woman",
    ]  # fmt: skip
    assert detection_prompt(real.tags) == (
        "grassy area. green grass. park. garden. woman. individual. person. blue top. necklace. "
        "glasses. white lace top."
    )


def test_every_span_of_the_published_record_holds_its_label(real):
    text = real.captions[0].text
    said = [text[slice(*reference.caption_span)].lower() for reference in real.references]
    assert said == [reference.label for reference in real.references]


def test_overlapping_masks_of_the_published_record_are_one_entity(real):
    groups = {}
    for reference in real.references:
        groups.setdefault(reference.entity_id, []).append(int(reference.ref_id))
    assert [g for g in groups.values() if len(g) > 1] == [
        [2, 11, 15], [3, 12], [6, 8, 10], [9, 13, 14],
    ]  # fmt: skip
    assert {r.label: r.kind for r in real.references} == {
        "white lace top": "object", "person": "human", "glasses": "object", "necklace": "object",
        "blue top": "object", "individual": "human", "green grass": "background",
        "woman": "human", "park": "background", "grassy area": "background",
    }  # fmt: skip


def test_a_record_becomes_a_sample(opens2v_record):
    sample = import_record("key", opens2v_record, "part1")
    video = sample.video
    assert (video.uri, video.start, video.end) == ("part1/sub/v.mp4", 10, 110)
    assert (video.num_frames, video.width, video.height) == (100, 40, 20)
    assert video.crop_xyxy == (8, 0, 48, 20)
    assert sample.id == sample_id("part1/sub/v.mp4", 10, 110, (8, 0, 48, 20))
    assert [(c.model, c.kind) for c in sample.captions] == [
        ("Qwen2.5-VL-7B", "subject_centric"),
        ("GLM", "subject_centric"),
    ]
    hat, person, woman, park = sample.references
    assert {r.origin.frame for r in sample.references} == {0}
    assert {r.pair_type for r in sample.references} == {"regular"}
    assert sample.captions[0].text[slice(*hat.caption_span)] == "white  hat"
    assert person.caption_span is None
    assert [r.kind for r in sample.references] == ["object", "human", "human", "background"]
    assert person.entity_id == woman.entity_id != hat.entity_id
    assert (hat.mask.score, woman.mask.score) == (0.75, None)
    assert (hat.scores.aesthetic, hat.scores.gme_text, hat.scores.area_frac) == (5.5, 0.25, 0.25)
    assert (person.scores.gme_text, park.scores.aesthetic) == (None, None)
    assert park.scores.area_frac == 0
    assert sample.quality.duration_s == 4


def test_without_face_cut_the_clip_is_the_cut(opens2v_record):
    del opens2v_record["metadata"]["face_cut"]
    assert import_record("key", opens2v_record).video.num_frames == 120
    assert import_record("key", opens2v_record).video.uri == "sub/v.mp4"


def test_a_painted_background_is_a_generated_reference(opens2v_record):
    sample = import_record("key", opens2v_record, background="foreground/key_step5.png")
    added = sample.references[-1]
    assert (added.kind, added.label, added.pair_type) == ("background", "park", "generated")
    assert (added.image.uri, added.origin.generator) == ("foreground/key_step5.png", "LaMa")
    assert sample.captions[0].text[slice(*added.caption_span)] == "park"


def change(record, path, value):
    *parents, last = path
    for step in parents:
        record = record[step]
    record[last] = value


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["metadata"], None, "metadata is a NoneType"),
        (["metadata", "face_cut"], [10], "2 whole numbers"),
        (["metadata", "face_cut"], [10.0, 110], "2 whole numbers"),
        (["metadata", "crop"], [0, 0, 1], "crop.*4 whole numbers"),
        (["metadata", "path"], "", "names no video"),
        (["metadata", "fps"], 0, "fps"),
        (["metadata", "aesthetic"], float("nan"), "finite"),
        (["metadata", "unknown"], float("nan"), "foreign"),
        (["annotation", "ann_frame_data", "box_format"], "xywh", "box_format 'xywh'"),
        (["annotation", "ann_frame_data", "ann_frame_idx"], 110, "110 is not a frame.*10 to 109"),
        (["annotation", "ann_frame_data", "annotations", 1, "bbox"], None, "annotation 2.*no bbox"),
        (["annotation", "ann_frame_data", "annotations", 1, "class_name"], "", "class_name ''"),
        (["annotation", "mask_annotation", "10", "2", "counts"], "0", "runs of 20 x 40"),
        (["annotation", "mask_annotation", "10", "2"], {"size": [20, 40]}, "mask has no counts"),
        (["annotation", "mask_map"], [], "mask_map is a list"),
    ],
)
def test_what_is_wrong_with_a_record_is_said(opens2v_record, path, value, words):
    change(opens2v_record, path, value)
    with pytest.raises(AnyRefError, match=words):
        import_record("key", opens2v_record)


def test_a_bad_record_does_not_end_the_file(tmp_path, opens2v_record):
    silent = {**opens2v_record, "metadata": {**opens2v_record["metadata"], "cap": []}}
    del silent["metadata"]["face_cap_qwen"], silent["metadata"]["face_cap_glm"]
    path = tmp_path / "total_part1.json"
    path.write_text(json.dumps({"a": silent, "b": "None", "c": opens2v_record}))
    first, second, third = read_dataset(path)
    assert isinstance(first, Rejected)
    assert "0 captions" in first.reason
    assert second == Rejected("b", "record is a str, an object is needed")
    assert third.video.uri == "total_part1/sub/v.mp4"
