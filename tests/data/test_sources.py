from __future__ import annotations

import os

import pytest

from anyref.data.sources import Source, read_sources
from anyref.errors import DataError


def names(inputs):
    return [source.path.name for source in read_sources(inputs)]


def test_a_folder_gives_its_videos_in_order_to_any_depth(tmp_path):
    for name in ("b.mp4", "a.MKV", "notes.txt", ".hidden.mp4", "sub/c.mov"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sub/loop").symlink_to(tmp_path)
    assert names([tmp_path]) == ["a.MKV", "b.mp4", "c.mov"]


def test_a_list_gives_paths_beside_it_and_urls_and_what_is_missing_too(tmp_path):
    (tmp_path / "a.bin").touch()
    listing = tmp_path / "films.txt"
    listing.write_text("# films\na.bin\n\nhttps://x.org/y.mp4\nmissing.mp4\n")
    found = list(read_sources([listing]))
    assert found[0].path == tmp_path / "a.bin"
    assert found[1].location == "https://x.org/y.mp4"
    assert found[2].path == tmp_path / "missing.mp4"


def test_an_input_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        list(read_sources([tmp_path / "none.mp4"]))


def test_the_id_follows_from_the_path_as_given():
    assert Source.of("a/../b.mp4") == Source.of("b.mp4")
    assert Source.of("b.mp4").id != Source.of("c.mp4").id


def test_a_name_that_is_not_unicode_is_found_again(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"\xff\xfe\n.mp4")  # noqa: PTH118
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"film")
    (source,) = read_sources([tmp_path])
    source.uri.encode()
    assert source.path.read_bytes() == b"film"


def test_sources_are_read_as_they_are_asked_for():
    def endless():
        while True:
            yield "https://x.org/film.mp4"

    assert next(read_sources(endless())).uri == "https://x.org/film.mp4"
