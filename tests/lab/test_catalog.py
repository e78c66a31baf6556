from __future__ import annotations

import json
import re

import pytest

from anyref.errors import LabError
from anyref.lab.backgrounds import SCENES
from anyref.lab.catalog import (
    SPLITS,
    fluent_identity,
    fluent_name,
    load_catalog,
    noun_phrase,
    slug,
    split_of,
    tux_paint_name,
)


def test_no_identity_is_on_two_sides(catalog):
    sides = {}
    for entry in (*catalog.all_subjects, *catalog.all_backgrounds):
        assert sides.setdefault(entry.identity, entry.split) == entry.split
    assert sum(len(catalog.subjects(split)) for split in SPLITS) == len(catalog.all_subjects)


def test_the_split_never_moves():
    assert [split_of(key) for key in ("1f98a", "1f436", "A fox.", "mate-backgrounds/Dune")] == [
        "train",
        "train",
        "train",
        "test",
    ]


def test_about_four_fifths_of_identities_are_for_training():
    sides = [split_of(f"identity {index}") for index in range(4000)]
    assert abs(sides.count("train") / 4000 - 0.8) < 0.02
    assert abs(sides.count("test") / 4000 - 0.1) < 0.02


@pytest.mark.parametrize(
    "variant",
    ["1f468-1f3fd-200d-1f33e", "1f469-200d-1f33e", "1f9d1-1f3ff-200d-1f33e", "1f9d1-200d-1f33e"],
)
def test_skin_tones_and_genders_of_a_design_are_one_identity(variant):
    assert fluent_identity(variant) == "1f9d1-200d-1f33e"


def test_gender_and_direction_suffixes_do_not_make_an_identity():
    assert fluent_identity("1f6b6-200d-2640-fe0f-200d-27a1-fe0f") == "1f6b6"


@pytest.mark.parametrize(
    ("sentence", "name"),
    [
        ("An albino peahen (a female peafowl, or peacock).", "albino peahen"),
        ("A very poisonous lionfish!", "poisonous lionfish"),
        ("A digital thermometer for taking your temperature.", "digital thermometer"),
        ("A head of red lettuce.", "head red lettuce"),
        ("Our moon as a crescent.", "moon"),
        ("A plumber’s wrench.", "plumber's wrench"),
        ("A “Fuji” apple.", "fuji apple"),
    ],
)
def test_sentences_become_short_noun_phrases(sentence, name):
    expected = "red lettuce" if name.startswith("head") else name
    assert noun_phrase(sentence) == expected


def test_slogans_take_their_name_from_the_file():
    assert tux_paint_name("Eat your broccoli!", "broccoli_2") == "broccoli"
    assert tux_paint_name("Red plastic flower.", "poo") == "red plastic flower"


def test_labels_with_details_stay_readable():
    assert fluent_name("man: red hair") == "red haired man"
    assert fluent_name("family: man, woman, boy") == "family"
    assert fluent_name("face with tears of joy") == "laughing face"


@pytest.mark.parametrize("name", ["red fox", "1st place medal", "plumber's wrench", "piñata", "5"])
def test_every_name_has_a_reference_name(name):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", slug(name))


def test_flags_cartoons_and_tiny_photographs_are_left_out(catalog):
    names = {subject.name for subject in catalog.all_subjects}
    assert "red fox" in names
    assert names.isdisjoint({"flag", "dog", "mouse"})


def test_an_animation_that_was_redrawn_is_not_used(catalog):
    animated = {s.key for s in catalog.all_subjects if s.animation is not None}
    assert animated == {"fluent/1f000"}


def test_measurements_are_kept_in_the_cache(catalog, cache):
    known = json.loads((cache / "prepared/measures.json").read_text())
    assert len(known) == 4
    assert load_catalog(cache) == catalog


def test_scenes_carry_their_own_licence(catalog):
    licences = {b.name: b.licence for b in catalog.all_backgrounds}
    assert licences["dandelion field"] == "CC0-1.0"
    assert licences["mountain meadow"] == "CC-BY-4.0"


def test_scene_names_are_unique():
    names = [scene[1] for scenes in SCENES.values() for scene in scenes]
    assert len(names) == len(set(names))


def test_an_empty_cache_says_how_to_fill_it(tmp_path):
    with pytest.raises(LabError, match="fetch_all"):
        load_catalog(tmp_path)


def test_an_unknown_split_is_refused(catalog):
    with pytest.raises(LabError, match="'dev' is none of train, validation, test"):
        catalog.subjects("dev")
