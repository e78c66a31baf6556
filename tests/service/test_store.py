"""The store: names, whole files, other file systems."""

from __future__ import annotations

import re

import fsspec
import pytest

from anyref.service.settings import ServiceError
from anyref.service.store import Store, new_id, reference_name, thumbnail_name, video_name


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    if request.param == "folder":
        return Store(str(tmp_path / "store"))
    fsspec.filesystem("memory").store.clear()
    return Store("memory://bucket/videos")


def test_what_is_written_can_be_read_listed_fetched_and_removed(store, tmp_path):
    name = video_name(new_id(), 1)
    store.write(name, b"hello")
    with store.open(name) as file:
        file.seek(1)
        assert file.read() == b"ello"
    assert list(store.names()) == [name]
    assert store.fetch(name, tmp_path).read_bytes() == b"hello"
    store.delete(name)
    store.delete(name)
    assert list(store.names()) == []
    with pytest.raises(FileNotFoundError):
        store.open(name)


def test_a_file_that_could_not_be_made_leaves_nothing(store):
    def fail(path):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.place(video_name(new_id(), 1), fail)
    assert list(store.names()) == []


@pytest.mark.parametrize(
    "name",
    [
        "../etc/passwd",
        "videos/../../x.mp4",
        "videos/video_1.1.mp4",
        "/etc/passwd",
        "videos/video_" + "0" * 32 + ".1.mp4\n",
        "other/video_" + "0" * 32 + ".1.mp4",
        "",
    ],
)
def test_no_other_name_reaches_a_path(store, name, tmp_path):
    for use in (store.open, store.delete, lambda n: store.fetch(n, tmp_path)):
        with pytest.raises(ServiceError, match="no name of this store"):
            use(name)


def test_ids_are_long_random_and_make_names():
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"video_[0-9a-f]{32}", each) for each in ids)
    one = new_id()
    assert {video_name(one, 2), thumbnail_name(one, 2), reference_name(one, 0)} == {
        f"videos/{one}.2.mp4",
        f"videos/{one}.2.jpg",
        f"references/{one}.0.png",
    }


def test_the_folder_is_closed_to_other_users(tmp_path):
    Store(str(tmp_path / "store"))
    assert (tmp_path / "store" / "videos").stat().st_mode & 0o077 == 0


def test_a_store_that_cannot_be_opened_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="cannot be opened"):
        Store(str(tmp_path / "file" / "store"))
    with pytest.raises(ServiceError, match="cannot be opened"):
        Store("nosuchprotocol://bucket")
