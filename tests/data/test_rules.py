from __future__ import annotations

import numpy as np
import pytest

from anyref.data.masks import encode
from anyref.data.record import SampleReference, Scores, Tags
from anyref.data.rules import (
    choose_references,
    cluster_name,
    detection_prompt,
    face_segments,
    generation_tags,
    label_span,
    overlap_groups,
    reference_kind,
    strided_frames,
    uniform_frames,
)
from anyref.errors import DataError


def reference(columns, aesthetic=5.0, label="dog", name="r"):
    """A reference whose mask is the given columns of a frame of 10 x 100."""
    pixels = np.zeros((10, 100), bool)
    pixels[:, slice(*columns)] = True
    return SampleReference(
        ref_id=name,
        kind="object",
        label=label,
        entity_id=name,
        bbox_xyxy=(columns[0], 0, columns[1], 10),
        mask=encode(pixels),
        scores=Scores(aesthetic=aesthetic),
    )


def seen(*runs):
    """Frames with a face: runs of frames with and without in turn."""
    return [k % 2 == 0 for k, run in enumerate(runs) for _ in range(run)]


@pytest.mark.parametrize(
    ("has_face", "start", "segments"),
    [
        (seen(95), 30, [(30, 125)]),
        (seen(80), 0, []),
        (seen(81), 0, [(0, 81)]),
        (seen(50, 5, 45), 0, [(0, 100)]),
        (seen(50, 6, 44), 0, []),
        (seen(90, 11, 99), 0, [(0, 90), (101, 200)]),
        (seen(0, 10, 85, 5), 0, [(10, 95)]),
        (seen(0, 200), 0, []),
        ([], 0, []),
    ],
)
def test_face_segments_are_those_of_step_2(has_face, start, segments):
    assert face_segments(has_face, start) == segments


@pytest.mark.parametrize(
    ("key", "name"), [("a_part2_x", "a"), ("a_segment3_part1", "a"), ("abc", "abc")]
)
def test_clips_of_one_source_share_a_cluster_name(key, name):
    assert cluster_name(key) == name


def test_references_are_kept_by_beauty_size_and_overlap():
    references = [
        reference((0, 20), 4.5),
        reference((0, 21), 4.6),  # IoU 20 / 21 with the first, larger
        reference((30, 50), 4.49),  # not beautiful
        reference((60, 63), 9.0),  # 3 % of the frame
        reference((60, 64), 9.0),  # 4 %
        reference((70, 80), 5.0),
        reference((70, 78), 9.9),  # IoU 0.8 exactly: is another thing
        reference((90, 95), None),
    ]
    assert choose_references(references) == [1, 4, 5, 6]


def test_at_most_six_are_kept_the_most_beautiful():
    references = [reference((10 * k, 10 * k + 5), 5 + k % 4) for k in range(8)]
    assert choose_references(references) == [1, 2, 3, 5, 6, 7]
    assert choose_references([]) == []


def test_overlapping_masks_are_one_thing_and_so_is_what_they_share():
    bare = SampleReference(ref_id="n", kind="object", label="n", entity_id="n")
    chain = [(0, 100), (0, 50), bare, (0, 85), (0, 70)]  # 100 ~ 85 ~ 70, not 100 ~ 70
    references = [c if isinstance(c, SampleReference) else reference(c) for c in chain]
    assert overlap_groups(references) == [0, 1, 2, 0, 0]


def test_generation_tags_are_of_boxes_over_8_percent():
    references = [
        reference((0, 8), label="too small"),
        reference((0, 9), label="blue top"),
        reference((0, 50), label="blue top"),
        reference((0, 50), label="a hat"),
    ]
    assert generation_tags(references, 100, 10) == ["a_hat", "blue_top"]


def test_the_detection_prompt_ends_every_tag_with_a_full_stop():
    tags = Tags(background=("Park",), subject=("woman", "dog"), object=("blue top",))
    assert detection_prompt(tags) == "park. woman. dog. blue top."


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("woman", "human"),
        ("person", "human"),
        ("Human head", "human"),
        ("brown Dog", "object"),
        ("park", "background"),
        ("dog house", "object"),
        ("hat", "object"),
    ],
)
def test_the_kind_follows_from_the_tags(label, kind):
    tags = Tags(background=("park",), subject=("woman", "brown Dog"), object=("hat",))
    assert reference_kind(label, tags) == kind


@pytest.mark.parametrize(
    ("text", "label", "words"),
    [
        ("A woman in a Blue\n top.", "blue top", "Blue\n top"),
        ("women and a woman", "woman", "woman"),
        ("blue-top", "blue top", None),
        ("the c++ (old) mug", "c++ (old) mug", "c++ (old) mug"),
        ("nothing", "fox", None),
        ("nothing", "  ", None),
    ],
)
def test_a_span_holds_the_label_as_the_text_says_it(text, label, words):
    span = label_span(text, label)
    assert (span and text[slice(*span)]) == words


def test_frames_are_those_that_the_benchmark_draws():
    # fmt: off
    assert uniform_frames(81) == [
        0, 2, 5, 7, 10, 12, 15, 18, 20, 23, 25, 28, 30, 33, 36, 38, 41, 43, 46, 49, 51, 54, 56, 59,
        61, 64, 67, 69, 72, 74, 77, 80,
    ]
    # fmt: on
    assert strided_frames(81) == list(range(0, 76, 5))
    assert strided_frames(49) == list(range(0, 46, 3))
    assert strided_frames(3) == [0, 1, 2]
    assert uniform_frames(1, 3) == [0, 0, 0]
    for draw in (uniform_frames, strided_frames):
        with pytest.raises(DataError, match="of 0 frames"):
            draw(0)
