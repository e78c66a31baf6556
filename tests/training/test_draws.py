from __future__ import annotations

from dataclasses import replace

import pytest

from anyref.errors import TrainingError
from anyref.request import Request
from anyref.training.draws import draw
from anyref.training.recipe import DataSection


def options(**changes):
    return DataSection(shards=("unused",), **{"shuffle": False} | changes)


def test_references_are_named_by_the_words_of_the_caption(make_sample):
    drawn = draw(make_sample(0), options(), "seed")
    assert drawn.prompt == "a @fox @owl @elk walks right"
    assert [r.name for r in drawn.references] == ["fox", "owl", "elk"]
    request = Request(prompt=drawn.prompt, references=drawn.references)
    assert request.text == "a fox owl elk walks right"


def test_the_words_of_a_reference_left_out_stay_in_the_caption(make_sample):
    drawn = draw(make_sample(0), options(max_references=1), "seed")
    assert len(drawn.references) == 1
    assert drawn.prompt.count("@") == 1
    assert Request(prompt=drawn.prompt, references=drawn.references).text == (
        "a fox owl elk walks right"
    )
    chosen = {draw(make_sample(0), options(max_references=1), str(k)).references[0].name
              for k in range(30)}  # fmt: skip
    assert chosen == {"fox", "owl", "elk"}


@pytest.mark.parametrize(
    ("limits", "counts"),
    [
        ({}, {3}),
        ({"fewer_references": 0.5}, {1, 2, 3}),
        ({"fewer_references": 1.0}, {1, 2}),
        ({"fewer_references": 1.0, "min_references": 2}, {2}),
        ({"fewer_references": 1.0, "max_references": 2}, {1}),
        ({"fewer_references": 1.0, "min_references": 3}, {3}),
    ],
)
def test_how_many_references_is_drawn_within_the_limits(make_sample, limits, counts):
    drawn = {len(draw(make_sample(0), options(**limits), str(k)).references) for k in range(40)}
    assert drawn == counts


def test_a_seed_decides_everything(make_sample):
    one, same, other = (
        draw(make_sample(0), options(shuffle=True, max_references=2), seed)
        for seed in ("a", "a", "b")
    )
    assert (one.prompt, one.seed) == (same.prompt, same.seed)
    assert [r.name for r in one.references] == [r.name for r in same.references]
    assert one.seed != other.seed


def test_shuffling_changes_the_order_and_not_the_caption(make_sample):
    orders = {
        tuple(r.name for r in draw(make_sample(0), options(shuffle=True), str(k)).references)
        for k in range(40)
    }
    assert len(orders) == 6


def pairs(sample):
    """The sample with a second picture of the fox, from another clip."""
    references = sample.record.references
    extra = references[0].model_copy(update={"ref_id": "x", "pair_type": "cross_clip"})
    record = sample.record.model_copy(update={"references": (*references, extra)})
    return replace(sample, record=record, references=(*sample.references, sample.references[2]))


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0), (1.0, 60)])
def test_cross_pairs_replace_the_clip_s_own_picture(make_sample, probability, share):
    sample = pairs(make_sample(0))
    other = sample.picture(3).tobytes()
    found = [
        draw(sample, options(cross_pair=probability), str(k)).references[0].images[0].tobytes()
        for k in range(60)
    ]
    assert sum(picture == other for picture in found) == share


def test_several_views_come_under_one_name(make_sample):
    sample = pairs(make_sample(0))
    drawn = draw(sample, options(views=2), "seed")
    assert [len(r.images) for r in drawn.references] == [1, 1, 1]
    cross = sample.record.references[3].model_copy(update={"ref_id": "y"})
    record = sample.record.model_copy(update={"references": (*sample.record.references, cross)})
    more = replace(sample, record=record, references=(*sample.references, sample.references[1]))
    assert len(draw(more, options(views=2), "seed").references[0].images) == 2


def test_kinds_choose_references(make_sample):
    sample = make_sample(0)
    references = list(sample.record.references)
    references[1] = references[1].model_copy(update={"kind": "background"})
    record = sample.record.model_copy(update={"references": tuple(references)})
    only = draw(replace(sample, record=record), options(kinds=("background",)), "seed")
    assert [(r.name, r.kind) for r in only.references] == [("owl", "background")]
    assert only.tracks == ()


def test_too_few_references_are_an_error_that_names_the_sample(make_sample):
    with pytest.raises(TrainingError, match=r"clip000.*3 usable references.*min_references is 4"):
        draw(make_sample(0), options(min_references=4, max_references=4), "seed")


def test_references_are_dropped_as_often_as_asked(make_sample):
    drawn = [draw(make_sample(0), options(reference_dropout=0.5), str(k)) for k in range(200)]
    empty = [d for d in drawn if not d.references]
    assert 70 < len(empty) < 130
    assert all("@" not in d.prompt for d in empty)
