from __future__ import annotations

import io
import pickle
from functools import partial

import numpy as np
import pytest
from PIL import Image

import stage_models
from anyref.data.masks import area, tight_box
from anyref.data.record import Sample, Video
from anyref.data.sources import Source
from anyref.data.stages import Item, check_stages
from anyref.data.subjects import SUBJECT_RULES, SubjectFinder, SubjectSettings, subject_stages
from anyref.data.thresholds import Rule
from anyref.perception.contracts import Description
from anyref.perception.small import small_grade


def item(frames, step=4):
    count = len(frames)
    video = Video(
        start=100,
        end=100 + step * count,
        fps=16,
        num_frames=step * count,
        width=frames.shape[2],
        height=frames.shape[1],
    )
    payload = {
        "frames": frames,
        "frame_numbers": tuple(range(0, step * count, step)),
        "video": video,
    }
    return Item(id="clip-1", source=Source.of("film.mp4"), payload=payload)


def find(frames, settings=None, **grade):
    finder = SubjectFinder(settings or SubjectSettings(), partial(stage_models.grade, **grade))
    return finder(item(frames))


def of_kind(made, *kinds):
    return [reference for reference in made.record.references if reference.kind in kinds]


def array(made, name):
    return np.load(io.BytesIO(made.payload[name].data))


@pytest.fixture(scope="module")
def walk():
    """What the stage makes of a dog that walks to the right."""
    return find(stage_models.walking())


def test_a_subject_gets_views_of_several_frames_one_of_them_the_main_one(walk):
    views = of_kind(walk, "object")
    assert {view.entity_id for view in views} == {"clip-1-1"}
    assert [view.pair_type for view in views] == ["regular", *["in_clip_other_frame"] * 3]
    assert len({view.origin.frame for view in views}) == 4
    assert {view.label for view in views} == {"dog"}
    assert {view.scores.det_conf for view in views} == {0.9}
    assert views[0].foreign == {"anyref": {"label_by": "stand-in/1", "label_score": 0.9}}
    assert walk.record.id == "clip-1"
    assert Sample.from_json(walk.record.to_json()) == walk.record


def test_masks_boxes_and_pictures_lie_on_the_subject(walk):
    for view in of_kind(walk, "object"):
        left = 10 + 20 * view.origin.frame // 4
        assert view.bbox_xyxy == tight_box(view.mask) == (left, 40, left + 48, 88)
        assert area(view.mask) == pytest.approx(48 * 48, rel=0.02)
        assert view.scores.area_frac == pytest.approx(48 * 48 / (120 * 200), rel=0.02)
        blob = walk.payload[f"crop-{view.ref_id}"]
        assert blob.asset == view.image
        picture = Image.open(io.BytesIO(blob.data))
        assert (picture.mode, picture.size) == ("RGBA", (54, 54))
        assert picture.getpixel((27, 29))[0] > 100
        assert picture.getpixel((0, 0))[3] == 0


def test_the_track_has_a_box_in_every_frame_between_sightings(walk):
    track = of_kind(walk, "object")[0].track
    assert len(track) == 24
    assert track[10][0] == pytest.approx(60)
    assert [number for number, box in enumerate(track) if box is None] == [21, 22, 23]


def test_the_caption_says_what_the_track_does_and_its_spans_hold(walk):
    (caption,) = walk.record.captions
    assert "right" in caption.text
    assert (caption.kind, caption.model) == ("template", "anyref-template/1")
    for reference in walk.record.references:
        start, end = reference.caption_span
        assert caption.text[start:end] == reference.label


def test_the_background_is_the_main_frame_without_the_subject(walk):
    (background,) = of_kind(walk, "background")
    main = of_kind(walk, "object")[0]
    assert background.origin.frame == main.origin.frame
    picture = np.asarray(Image.open(io.BytesIO(walk.payload["crop-background"].data)))
    assert np.abs(picture[..., :3].astype(int) - stage_models.GROUND).max() < 20
    assert background.label == "blue background"


def test_features_have_a_row_per_reference(walk):
    count = len(walk.record.references)
    assert array(walk, "features").shape == (count, 4)
    assert array(walk, "clip-features").shape == (4,)
    faces = array(walk, "face-features")
    assert faces.shape == (count, 3)
    assert np.isnan(faces).all()
    assert "frames" not in walk.payload


def test_all_that_is_declared_is_measured(walk):
    (stage,) = subject_stages(SubjectSettings(), stage_models.grade)
    assert set(walk.measurements) == set(stage.measures)
    assert walk.measurements["subjects"] == 1
    assert walk.measurements["references"] == 5
    assert walk.measurements["references_dropped"] == 0
    assert 0.5 < walk.measurements["background_visible"] < 0.95


def test_the_same_clip_gives_the_same_bytes(walk):
    again = find(stage_models.walking())
    assert again.record == walk.record
    assert again.payload == walk.payload


def test_what_stands_out_is_a_subject_although_no_detector_knows_it():
    frames = stage_models.ground()
    for frame in frames:
        stage_models.square(frame, 70, 30, 50, stage_models.GREEN)
    made = find(frames, chances=(0.0, 0.1))
    views = of_kind(made, "object")
    assert {view.label for view in views} == {"object"}
    assert {view.scores.det_conf for view in views} == {None}
    assert views[0].foreign["anyref"]["label_by"] is None


def test_a_detector_that_is_not_believed_lends_its_confidence_to_no_label():
    views = of_kind(find(stage_models.walking(), chances=(0.0, 0.0)), "object")
    assert {(view.label, view.scores.det_conf) for view in views} == {("character", None)}


def test_an_empty_clip_gets_a_record_that_the_rules_reject():
    made = find(stage_models.ground())
    assert of_kind(made, "object", "human", "face") == []
    (rule,) = SUBJECT_RULES
    assert rule.judge("subjects", made.measurements["subjects"]).reason == "low subjects"
    assert made.record.captions[0].text


def test_a_person_is_kept_with_a_face_which_is_a_reference_of_the_same_entity():
    made = find(stage_models.walking(side=80, face=True), label="person")
    people, faces = of_kind(made, "human"), of_kind(made, "face")
    assert len(people) == 4
    assert 1 <= len(faces) <= 4
    assert {face.entity_id for face in faces} == {people[0].entity_id}
    assert faces[0].ref_id == "1-face-1"
    assert people[0].scores.face.yaw == pytest.approx(0, abs=5)
    features = array(made, "face-features")
    shown = [reference.kind != "background" for reference in made.record.references]
    assert (~np.isnan(features).any(1)).tolist() == shown
    assert made.measurements["faces"] == len(made.record.faces) == 6
    assert made.record.faces[1].frame == 4


def test_a_person_without_a_face_is_dropped_unless_faces_are_not_required():
    frames = stage_models.walking()
    made = find(frames, label="person", chances=(0.0, 0.0))
    assert of_kind(made, "human") == []
    assert made.measurements["dropped_faceless"] == 4
    loose = SubjectSettings.model_validate({"faces": {"required": False}})
    assert len(of_kind(find(frames, loose, label="person", chances=(0.0, 0.0)), "human")) == 4


def test_an_object_that_is_a_face_is_dropped_and_the_face_stands_for_somebody():
    made = find(stage_models.walking(side=48, face=True))
    assert of_kind(made, "object") == []
    assert made.measurements["dropped_over_face"] == 4
    faces = of_kind(made, "face")
    caption = made.record.captions[0].text
    assert {caption[slice(*face.caption_span)] for face in faces} == {"person"}
    assert made.measurements["subjects"] == 1


def test_a_face_that_may_be_an_animals_is_called_a_face():
    doubtful = SubjectSettings.model_validate({"labels": {"sure_face": 0.99}})
    made = find(stage_models.walking(side=48, face=True), doubtful)
    caption = made.record.captions[0].text
    assert {caption[slice(*face.caption_span)] for face in of_kind(made, "face")} == {"face"}


def test_nobodys_face_in_a_single_frame_is_no_subject():
    frames = stage_models.ground(6)
    frames[2] = stage_models.walking(side=48, face=True)[2]
    made = find(frames)
    assert of_kind(made, "face") == []
    assert made.measurements["faces"] == 1
    assert made.measurements["subjects"] == 0


def test_a_view_that_the_classifier_does_not_agree_with_is_dropped():
    strict = SubjectSettings.model_validate({"labels": {"view_agreement": 0.95}})
    made = find(stage_models.walking(), strict)
    assert of_kind(made, "object") == []
    assert made.measurements["dropped_label"] == 4
    assert made.measurements["references_dropped"] == 4


def test_at_most_so_many_views_of_one_subject_are_kept_and_the_rest_counted():
    few = SubjectSettings.model_validate({"max_views": 1, "background": False})
    made = find(stage_models.walking(), few)
    assert len(made.record.references) == 1
    assert made.record.references[0].pair_type == "regular"
    assert made.measurements["dropped_spare"] == 3


def test_more_faces_than_there_is_room_for_are_counted():
    tight = {"max_views": 2, "views": {"max_subjects": 1}}
    made = find(
        stage_models.walking(side=80, face=True),
        SubjectSettings.model_validate(tight),
        label="person",
    )
    assert len(of_kind(made, "face")) == 2
    assert made.measurements["dropped_spare"] == 2 + 4


def test_more_references_than_a_record_holds_are_refused_with_the_settings():
    with pytest.raises(ValueError, match="may give 81 references, over the 64"):
        SubjectSettings.model_validate({"max_views": 4, "views": {"max_subjects": 10}})


def test_a_captioner_says_what_to_look_for_and_names_it():
    class Captioner(stage_models.Model):
        def describe(self, clips):
            return [Description(text="The red box slides by.", subjects=("red box",))]

    made = find(stage_models.walking(), label="red box", captioner=Captioner())
    caption = made.record.captions[0]
    assert caption.text == "The red box slides by."
    assert (caption.kind, caption.model) == ("subject_centric", "stand-in/1")
    views = of_kind(made, "object")
    assert {view.label for view in views} == {"red box"}
    assert caption.text[slice(*views[0].caption_span)] == "red box"


def test_the_stage_travels_to_workers_and_its_rules_name_its_measurements():
    stages = subject_stages(SubjectSettings(), partial(small_grade, None))
    check_stages(stages)
    (stage,) = pickle.loads(pickle.dumps(stages))
    assert isinstance(stage.load(), SubjectFinder)
    assert all(isinstance(rule, Rule) for rule in SUBJECT_RULES)
    assert {rule.measurement for rule in SUBJECT_RULES} <= set(stage.measures)
