from __future__ import annotations

import pytest

from anyref.data.dataset import Dataset
from anyref.data.gallery import Gallery
from anyref.data.identities import IdentitySettings, find_identities
from casts import Role, Scene, write_cast

COLOURLESS = IdentitySettings(colour_share=0)


def cast_of(folder, scenes, settings=COLOURLESS, metric="euclidean", dropped=()):
    """Who plays each identity, as clip/subject; identities of several clips only."""
    write_cast(folder, scenes)
    with Gallery(folder, settings.trusted_label, settings.colour_share > 0) as gallery:
        for row in Dataset.open(folder).rows():
            gallery.add(row, row.sample())
        gallery.arrange(settings.colour_share)
        found = find_identities(gallery, dropped, settings, metric)
    return [
        [f"{gallery.clips[place].id}/{number + 1}" for place, number in one.members]
        for one in found
        if len(one.members) > 1
    ]


def test_a_crowd_is_told_apart_without_one_wrong_pair(tmp_path):
    scenes = [
        Scene(
            id=f"c{clip:02}",
            uri=f"{clip % 3}.mp4",
            start=20 * clip,
            roles=tuple(Role(who=(clip + step) % 9, noise=0.7) for step in (0, 4)),
            background=False,
        )
        for clip in range(18)
    ]
    who = {
        f"{scene.id}/{n}": role.who
        for scene in scenes
        for n, role in enumerate(scene.roles, start=1)
    }
    found = cast_of(tmp_path, scenes, IdentitySettings(similarity=0.5, across=0))
    assert all(len({who[member] for member in members}) == 1 for members in found)
    assert sum(len(members) for members in found) >= 30  # of 36


def test_two_subjects_of_one_clip_are_never_one(tmp_path):
    twins = (Role(who=1, noise=0.1), Role(who=1, noise=0.1))
    assert cast_of(tmp_path, [Scene(id="a", roles=twins)]) == []


def test_where_two_subjects_of_a_clip_could_be_meant_neither_is(tmp_path):
    twins = (Role(who=1, noise=0.01), Role(who=1, noise=0.01))
    alone = Scene(id="b", start=20, roles=(Role(who=1, noise=0.01),))
    assert cast_of(tmp_path, [Scene(id="a", roles=twins), alone]) == []


@pytest.mark.parametrize(("sure", "joined"), [(0.95, 0), (0.5, 1)])
def test_labels_keep_apart_where_the_detector_is_sure_of_them(tmp_path, sure, joined):
    scenes = [
        Scene(id="a", roles=(Role(who=1, label="cat", sure=sure),)),
        Scene(id="b", start=20, roles=(Role(who=1, label="dog", sure=sure),)),
    ]
    assert len(cast_of(tmp_path, scenes)) == joined


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_faces_join_what_looks_unlike_and_part_what_looks_alike(tmp_path, metric):
    scenes = [
        Scene(id="a", roles=(Role(who=1, face=5),)),
        Scene(id="b", start=20, roles=(Role(who=2, face=5),)),
        Scene(id="c", start=40, roles=(Role(who=1, face=6),)),
    ]
    assert cast_of(tmp_path, scenes, metric=metric) == [["a/1", "b/1"]]


def test_someone_without_a_face_is_known_by_looks(tmp_path):
    scenes = [
        Scene(id="a", roles=(Role(who=1, face=5),)),
        Scene(id="b", uri="b.mp4", roles=(Role(who=1),)),
    ]
    assert cast_of(tmp_path, scenes) == [["a/1", "b/1"]]


def test_other_sources_need_more_likeness(tmp_path):
    def scenes(uri):
        return [
            Scene(id="a", roles=(Role(who=1),)),
            Scene(id="b", uri=uri, start=20, roles=(Role(who=1),)),
        ]

    settings = IdentitySettings(colour_share=0, across=0.3)
    assert len(cast_of(tmp_path / "one", scenes("a.mp4"), settings)) == 1
    assert len(cast_of(tmp_path / "two", scenes("b.mp4"), settings)) == 0


def test_clips_that_are_left_out_are_in_no_identity(tmp_path):
    scenes = [Scene(id=name, start=20 * n, roles=(Role(who=1),)) for n, name in enumerate("abc")]
    assert cast_of(tmp_path, scenes, dropped={1}) == [["a/1", "c/1"]]
