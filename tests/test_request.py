"""Requests: what is accepted, what is refused and in which words."""

from __future__ import annotations

import pytest

import tiny
from anyref.errors import PromptError, ReferencesError, RequestError, SizeError
from anyref.request import (
    PixelShape,
    Reference,
    Request,
    ShapeRules,
    resolve_mentions,
    split_mentions,
)

WAN = ShapeRules(spatial=8, temporal=4, patch=(1, 2, 2), max_positions=1024)
MAGREF = ShapeRules(spatial=8, temporal=4, patch=(1, 2, 2), max_positions=1024, lead_frames=4)


BROKEN = "data:image/png;base64,iVBORw0KGgoAAAAN"


def fox(**changes):
    return Reference("fox.png", "fox", **changes)


def test_a_mention_becomes_the_references_text():
    assert Request(prompt="a @fox runs", references=(fox(text="red fox"),)).text == "a red fox runs"
    assert Request(prompt="a @fox runs", references=(fox(),)).text == "a fox runs"
    assert resolve_mentions("@my_cat!", [Reference("c.png", "my_cat")]) == "my cat!"


def test_a_text_in_pieces_says_which_reference_each_names():
    pieces = split_mentions("@fox and @@ a @dog", [fox(), Reference("d.png", "dog", text="pup")])
    assert [p for p in pieces if p[0]] == [
        ("fox", 0),
        (" and ", None),
        ("@", None),
        (" a ", None),
        ("pup", 1),
    ]


def test_a_mention_may_touch_chinese_and_a_doubled_at_is_plain():
    assert resolve_mentions("一只@fox在跑", [fox()]) == "一只fox在跑"
    assert resolve_mentions("a @fox @@ home", [fox()]) == "a fox @ home"


def test_values_of_the_wrong_type_are_refused_in_our_own_words():
    for wrong in ({"images": 5}, {"images": None}, {"images": "a.png", "self": 1}):
        with pytest.raises(RequestError):
            Reference(**wrong)
    with pytest.raises(RequestError, match="seed"):
        Request(prompt="x", seed=True)


def test_an_at_sign_inside_a_word_is_no_mention():
    assert resolve_mentions("write to me@example.org", []) == "write to me@example.org"


def test_a_request_survives_json_with_paths_and_pictures():
    request = Request(
        prompt="a @fox on a @beach",
        references=(fox(), Reference([tiny.picture("blue")], "beach", kind="background")),
        seed=7,
        disentangle=0.5,
        layout=((0, 0, 0.5, 1), (0.5, 0, 1, 1)),
    )
    again = Request.from_json(request.to_json())
    assert again.to_json() == request.to_json()
    assert again.references[0].images == request.references[0].images
    assert again.disentangle == 0.5
    assert again.references[1].images[0].tobytes() == request.references[1].images[0].tobytes()


def test_json_keeps_the_checks_of_the_constructor():
    text = Request(prompt="a @fox runs", references=(fox(),)).to_json()
    with pytest.raises(PromptError, match="@fox"):
        Request.from_json('{"prompt": "a @fox runs"}')
    with pytest.raises(RequestError, match="seeds"):
        Request.from_json(text.replace('"seed"', '"seeds"'))
    with pytest.raises(RequestError):
        Request.from_json("{")


@pytest.mark.parametrize(
    ("error", "words", "fields"),
    [
        (PromptError, "empty", {"prompt": "  "}),
        (PromptError, "@dog", {"prompt": "a @dog"}),
        (ReferencesError, "never used", {"prompt": "a cat", "references": (fox(),)}),
        (ReferencesError, "2 times", {"prompt": "@fox", "references": (fox(), fox())}),
        (ReferencesError, "at most 8", {"prompt": "x", "references": (Reference("a.png"),) * 9}),
        (
            RequestError,
            "strength",
            {"prompt": "x", "references": ({"images": "a", "strength": -1},)},
        ),
        (RequestError, "strength is 1", {"prompt": "x", "strength_map": "uniform"}),
        (
            ReferencesError,
            "mask and 2 pictures",
            {"prompt": "@fox", "references": (Reference(["a.png"] * 2, "fox", mask="m.png"),)},
        ),
        (RequestError, "disentangle", {"prompt": "x", "disentangle": -0.1}),
        (RequestError, "disentangle", {"prompt": "x", "disentangle": 11}),
        (RequestError, "seed", {"prompt": "x", "seed": -1}),
        (RequestError, "num_inference_steps", {"prompt": "x", "num_inference_steps": 0}),
        (RequestError, "colour", {"prompt": "x", "colour": "red"}),
        (RequestError, "0 boxes", {"prompt": "x", "layout": ()}),
        (RequestError, "reference_offset", {"prompt": "x", "reference_offset": -5}),
        (RequestError, "UTF-8", {"prompt": "x", "references": ({"images": ["a\0b.png"]},)}),
        (RequestError, "decoded", {"prompt": "x", "references": ({"images": [BROKEN]},)}),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(error, words, fields):
    with pytest.raises(error, match=words):
        Request(**fields)


def test_views_of_one_subject_count_as_pictures():
    views = Reference(["a.png"] * 8, "fox")
    assert Request(prompt="@fox", references=(views,)).references[0] == views
    with pytest.raises(ReferencesError, match="9 reference pictures"):
        Request(prompt="@fox", references=(views, Reference("b.png")))


@pytest.mark.parametrize("name", ["Fox", "1fox", "a b", "../x", ""])
def test_a_name_is_one_lower_case_word(name):
    with pytest.raises(RequestError, match="name"):
        Reference("a.png", name)


def test_the_released_sizes_fit_and_give_the_released_latents():
    latent = WAN.latent(PixelShape(81, 480, 832))
    assert (latent.num_frames, latent.height, latent.width) == (21, 60, 104)


@pytest.mark.parametrize(
    ("rules", "shape", "words"),
    [
        (WAN, (80, 480, 832), "80 network frames.*try 81"),
        (WAN, (81, 131, 832), "height 131.*try 128"),
        (WAN, (81, 480, 130), "width 130.*try 128"),
        (WAN, (81, 480, 16 * 1025), "over the model's"),
        (MAGREF, (80, 480, 832), "try 81 .that is --frames 77"),
        (MAGREF, (1, 480, 832), "try 5 .that is --frames 1"),
    ],
)
def test_a_size_that_does_not_fit_names_one_that_does(rules, shape, words):
    with pytest.raises(SizeError, match=words):
        rules.check(PixelShape(*shape))
