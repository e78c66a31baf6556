from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from metric_world import SKIN, case_of, figure, footage_of, place, portrait, put, value, walk

from anyref.evaluation.metrics.text import TextRelevance, known_words, things_in

RED = figure(2)
WORDS = frozenset({"dog", "hot dog", "person", "knife", "butterfly", "cat", "bird", "sports ball"})


@pytest.mark.parametrize(
    ("prompt", "things"),
    [
        ("Two dogs and a Cat.", ("cat", "dog")),
        ("a hot dog on a plate", ("hot dog",)),
        ("Women hide knives", ("knife", "person")),
        ("an owl looks at two puppies with a football", ("bird", "dog", "sports ball")),
        ("butterflies, catalogues and dogma", ("butterfly",)),
        ("a red ball", ()),
    ],
)
def test_things_are_known_words_in_any_number(prompt, things):
    assert things_in(prompt, WORDS) == things


def coloured(red, green):
    pixels = np.full((48, 48, 3), (red, green, 20), np.uint8)
    return pixels, np.ones((48, 48), bool)


def test_a_thing_that_is_seen_counts_with_its_probability(models):
    metric = TextRelevance(models)
    dog = walk(coloured(200, 60))
    assert value(metric, case_of(prompt="a dog walks"), dog) == pytest.approx(0.8)
    assert value(metric, case_of(prompt="a cat walks"), dog) == pytest.approx(0)
    assert value(metric, case_of(prompt="a dog and a cat"), dog) == pytest.approx(0.4)
    half = dog[:4] + [place(0)] * 4
    assert value(metric, case_of(prompt="a dog walks"), half) == pytest.approx(0.4)


def test_what_the_detector_finds_counts_as_well(models):
    frames = [put(place(0), (np.full((48, 48, 3), SKIN, np.uint8), RED[1]), 20, 30)] * 3
    assert value(TextRelevance(models), case_of(prompt="a man waits"), frames) == pytest.approx(0.9)


def test_a_face_is_a_person_where_no_detector_says_so(models):
    frames = [put(place(0), (np.full((48, 48, 3), SKIN, np.uint8), RED[1]), 20, 30)] * 3
    nobody = SimpleNamespace(
        detect=lambda pictures, words=None: [()] * len(pictures),
        vocabulary=models.objects.vocabulary,
        card=models.objects.card,
    )
    blind = replace(models, objects=nobody)
    seen = value(TextRelevance(blind), case_of(prompt="a man waits"), frames)
    assert seen == pytest.approx(0.9)


def test_words_that_mean_another_thing_to_the_models_are_not_known(models):
    devices = SimpleNamespace(vocabulary=frozenset({"mouse", "orange", "cup"}))
    assert known_words(replace(models, objects=devices)) & {"mouse", "orange", "cup"} == {"cup"}


def test_prompts_without_a_known_word_do_not_apply(models):
    case = case_of(portrait(RED), prompt="a teapot flies")
    assert TextRelevance(models).applies(case).cause == "inapplicable"
    case = case_of(portrait(RED), prompt="a dog flies")
    empty = footage_of([place(0)] * 2)
    assert TextRelevance(models).score(case, empty).cause == "undetected"
