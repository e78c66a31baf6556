from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from dataclasses import replace

import pytest

from anyref import packages
from anyref.errors import AnyRefError, PackageError
from anyref.packages import Chunks, Package, default_cache, fetch, package_folder

PACKAGE = Package(
    registry="npm", name="@scope/toys", version="1.2.0", licence="MIT", members=("package/a/*.txt",)
)


def archive(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def client(monkeypatch):
    """A registry client that writes an archive and counts its calls."""
    names = ("package/a/one.txt", "package/a/deep/two.txt", "package/b/three.txt")
    content = archive(dict.fromkeys(names, b"text"))
    return serve(monkeypatch, "scope-toys-1.2.0.tgz", content), content


def serve(monkeypatch, name, content):
    """Make every registry's client write this archive; returns the list of its calls."""
    calls = []

    def run(command, cwd, **_):
        calls.append(command)
        (cwd / name).write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages.subprocess, "run", run)
    monkeypatch.setattr(packages.shutil, "which", lambda name: name)
    return calls


def test_fetch_keeps_only_the_wanted_members(client, tmp_path):
    folder = fetch(PACKAGE, tmp_path)
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.txt"))
    assert files == ["package/a/deep/two.txt", "package/a/one.txt"]


def test_a_second_fetch_downloads_nothing(client, tmp_path):
    calls, _ = client
    fetch(PACKAGE, tmp_path)
    fetch(PACKAGE, tmp_path)
    assert len(calls) == 1


def test_the_manifest_records_licence_and_archive_hash(client, tmp_path):
    _, content = client
    fetch(PACKAGE, tmp_path)
    (record,) = json.loads((tmp_path / "manifest.json").read_text())["packages"]
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert (record["name"], record["version"], record["licence"]) == (
        "@scope/toys",
        "1.2.0",
        "MIT",
    )


def test_a_fetch_that_dies_while_unpacking_leaves_nothing_and_can_be_repeated(
    client, tmp_path, monkeypatch
):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(packages.UNPACK, "npm", die)
        with pytest.raises(KeyboardInterrupt):
            fetch(PACKAGE, tmp_path)
    assert list((tmp_path / "packages").iterdir()) == []
    assert (fetch(PACKAGE, tmp_path) / "package/a/one.txt").is_file()


def test_a_missing_client_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    with pytest.raises(PackageError, match=r"@scope/toys@1\.2\.0 needs 'npm'.*Node"):
        fetch(PACKAGE, tmp_path)


def test_a_failed_download_repeats_what_the_client_said(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda name: name)
    monkeypatch.setattr(
        packages.subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, 1, "", "npm error 404 not found"),
    )
    with pytest.raises(AnyRefError, match="404 not found"):
        fetch(PACKAGE, tmp_path)


def test_a_package_without_the_wanted_members_is_refused(client, tmp_path):
    other = Package(
        registry="npm", name="toys", version="9", licence="MIT", members=("nothing/*.png",)
    )
    with pytest.raises(PackageError, match=r"no member like 'nothing/\*\.png'"):
        fetch(other, tmp_path)


DIGEST = hashlib.sha256(b"text").hexdigest()


@pytest.mark.parametrize(
    ("path", "digest", "found"),
    [
        ("package/a/one.txt", "0123456789abcdef", DIGEST[:16]),
        ("package/a/four.txt", DIGEST[:16], "missing"),
    ],
)
def test_a_file_that_is_another_one_or_missing_is_refused_and_not_kept(
    client, tmp_path, path, digest, found
):
    other = replace(PACKAGE, sha256=((path, digest),))
    with pytest.raises(PackageError, match=rf"'{path}' of .* is {found}, not {digest}"):
        fetch(other, tmp_path)
    assert not package_folder(other, tmp_path).exists()


def test_a_file_with_the_right_checksum_is_kept(client, tmp_path):
    fetched = fetch(replace(PACKAGE, sha256=(("package/a/one.txt", DIGEST[:16]),)), tmp_path)
    assert (fetched / "package/a/one.txt").read_text() == "text"


CHUNKED = Package(
    registry="npm",
    name="chunked",
    version="1",
    licence="MIT",
    members=("package/dist/*",),
    sha256=(("whole.bin", hashlib.sha256(b"first second").hexdigest()),),
    chunks=Chunks(index="package/dist/index.json", resource="/big", file="whole.bin"),
)


def test_a_file_in_pieces_is_joined_in_order_of_its_offsets(tmp_path, monkeypatch):
    pieces = [{"hash": "bb", "offsets": [6, 12]}, {"hash": "aa", "offsets": [0, 6]}]
    members = {
        "package/dist/index.json": json.dumps({"/big": {"chunks": pieces}}).encode(),
        "package/dist/aa": b"first ",
        "package/dist/bb": b"second",
    }
    serve(monkeypatch, "chunked-1.tgz", archive(members))
    folder = fetch(CHUNKED, tmp_path)
    files = {p.name for p in folder.rglob("*") if p.is_file()}
    assert files == {"whole.bin", "record.json"}
    assert (folder / "whole.bin").read_bytes() == b"first second"


@pytest.mark.parametrize("index", [{}, {"/big": {"chunks": [{"hash": "gone", "offsets": [0]}]}}])
def test_pieces_that_are_not_there_are_named(tmp_path, monkeypatch, index):
    members = {"package/dist/index.json": json.dumps(index).encode()}
    serve(monkeypatch, "chunked-1.tgz", archive(members))
    with pytest.raises(PackageError, match=r"chunked@1 does not hold '/big' in pieces"):
        fetch(CHUNKED, tmp_path)


def test_a_wheel_is_asked_for_whatever_python_it_declares(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        wheel.writestr("toys/a.txt", "text")
    calls = serve(monkeypatch, "toys-1-py3-none-any.whl", buffer.getvalue())
    toys = Package(registry="pypi", name="toys", version="1", licence="MIT", members=("toys/*",))
    assert (fetch(toys, tmp_path) / "toys/a.txt").is_file()
    assert {"--no-deps", "--ignore-requires-python", "--only-binary=:all:"} < set(calls[0])


def test_a_source_archive_is_asked_for_and_unpacked_as_one(tmp_path, monkeypatch):
    calls = serve(monkeypatch, "toys-1.tar.gz", archive({"toys-1/a.txt": b"text"}))
    toys = Package(
        registry="pypi-source", name="toys", version="1", licence="MIT", members=("toys-1/*",)
    )
    assert (fetch(toys, tmp_path) / "toys-1/a.txt").is_file()
    assert "--no-binary=toys" in calls[0]
    assert "--only-binary=:all:" not in calls[0]


def test_each_room_has_its_own_cache_unless_the_environment_names_one(monkeypatch, tmp_path):
    monkeypatch.delenv("ANYREF_CACHE", raising=False)
    assert default_cache("lab") != default_cache("perception")
    monkeypatch.setenv("ANYREF_CACHE", str(tmp_path))
    assert default_cache("lab") == tmp_path
