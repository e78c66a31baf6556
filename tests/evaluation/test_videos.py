from __future__ import annotations

import os

import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import Benchmark, Case
from anyref.evaluation.videos import find_videos
from anyref.request import Request


@pytest.fixture
def folder(tmp_path):
    """Makes a results folder of files with a byte in each."""

    def make(*names):
        for name in names:
            (tmp_path / name).write_bytes(b"x")
        return tmp_path

    return make


def test_every_case_and_video_is_accounted_for(benchmark, folder):
    place = folder("a_1.mp4", "b.MOV", "stranger.mp4", "a_1.json", ".hidden.mp4", "notes.txt")
    results = find_videos(benchmark("a_1", "b", "c"), place)
    assert results.found == {("a_1", 0): place / "a_1.mp4", ("b", 0): place / "b.MOV"}
    assert results.missing == (("c", 0),)
    assert results.extra == ("stranger.mp4",)
    assert results.refused == {}
    assert results.samples == (("a_1", 0), ("b", 0), ("c", 0))


def test_takes_are_numbered_and_a_take_of_one_is_expected_of_all(benchmark, folder):
    place = folder("a-0.mp4", "a-1.mp4", "b.mp4")
    results = find_videos(benchmark("a", "b"), place)
    assert list(results.found) == [("a", 0), ("a", 1), ("b", 0)]
    assert results.missing == (("b", 1),)


def test_an_id_that_ends_in_a_number_is_itself(benchmark, folder):
    results = find_videos(benchmark("a", "a-1"), folder("a-1.mp4", "a-1-2.mp4"))
    assert list(results.found) == [("a-1", 0), ("a-1", 2)]


def test_what_cannot_be_the_video_is_refused_with_the_reason(benchmark, folder):
    place = folder("twice.mp4", "twice.webm")
    (place / "folder.mp4").mkdir()
    (place / "empty.mp4").touch()
    os.mkfifo(place / "pipe.mp4")
    (place / "link.mp4").symlink_to(place / "nowhere")
    (place / "loop.mp4").symlink_to(place / "loop.mp4")
    ids = ("twice", "folder", "empty", "pipe", "link", "loop")
    results = find_videos(benchmark(*ids), place)
    assert results.found == {}
    assert [case for case, _ in results.refused] == list(ids)
    assert "keep one" in results.refused["twice", 0]
    assert results.refused["empty", 0] == "empty.mp4 is empty"
    assert results.missing == ()


def test_hostile_names_are_extra_and_printable(benchmark, folder):
    place = folder("a\n\x1b[31m.mp4", "-rf.mp4", "a-.mp4", "a--1.mp4", "a-99999.mp4", "ü" * 100)
    (place / os.fsdecode(b"\xff\xfe.mp4")).write_bytes(b"x")
    results = find_videos(benchmark("a"), place)
    assert len(results.extra) == 6
    assert all(name.isascii() and name.isprintable() for name in results.extra)
    assert results.missing == (("a", 0),)


@pytest.mark.parametrize("place", ["nowhere", "file", "a\0b"])
def test_a_folder_that_cannot_be_read_is_refused(benchmark, folder, place):
    with pytest.raises(EvaluationError, match="results folder"):
        find_videos(benchmark("a"), folder("file") / place)


def test_a_link_out_of_the_folder_is_refused_and_one_inside_followed(benchmark, tmp_path):
    (tmp_path / "secret.mp4").write_bytes(b"x")
    place = tmp_path / "results"
    place.mkdir()
    (place / "b.mp4").write_bytes(b"x")
    (place / "a.mp4").symlink_to(place / "b.mp4")
    (place / "c.mp4").symlink_to(tmp_path / "secret.mp4")
    results = find_videos(benchmark("a", "b", "c"), place)
    assert list(results.found) == [("a", 0), ("b", 0)]
    assert "link out of the folder" in results.refused["c", 0]


def test_a_take_that_few_cases_have_is_rare(benchmark, folder):
    ids = [f"c{k}" for k in range(9)]
    place = folder(*(f"{name}.mp4" for name in ids), "c2-3.mp4")
    assert find_videos(benchmark(*ids), place).rare == {3: 1}
    (place / "c2-3.mp4").unlink()
    assert find_videos(benchmark(*ids, "c9", *"abcdefghijk"), place).rare == {}


def test_a_video_may_have_its_cases_prompt_for_a_name(folder):
    requests = {"1": "a fox", "2": "an owl", "3": "an owl"}
    cases = tuple(Case(id=i, request=Request(prompt=p)) for i, p in requests.items())
    place = folder("a fox-0.mp4", "a fox-1.mp4", "an owl-0.mp4")
    results = find_videos(Benchmark("b", cases, place), place)
    assert list(results.found) == [("1", 0), ("1", 1)]
    assert results.extra == ("an owl-0.mp4",)  # whose?
