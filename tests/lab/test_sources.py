from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile

import pytest

from anyref.errors import AnyRefError, LabError
from anyref.lab import sources
from anyref.lab.sources import PACKAGES, Package, default_cache, fetch

PACKAGE = Package(
    registry="npm", name="@scope/toys", version="1.2.0", licence="MIT", members=("package/a/*.txt",)
)


def archive(names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"text"))
    return buffer.getvalue()


@pytest.fixture
def client(monkeypatch):
    """A registry client that writes an archive and counts its calls."""
    calls = []
    content = archive(["package/a/one.txt", "package/a/deep/two.txt", "package/b/three.txt"])

    def run(command, cwd, **_):
        calls.append(command)
        (cwd / "scope-toys-1.2.0.tgz").write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(sources.subprocess, "run", run)
    monkeypatch.setattr(sources.shutil, "which", lambda name: name)
    return calls, content


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
        patch.setitem(sources.UNPACK, "npm", die)
        with pytest.raises(KeyboardInterrupt):
            fetch(PACKAGE, tmp_path)
    assert list((tmp_path / "packages").iterdir()) == []
    assert (fetch(PACKAGE, tmp_path) / "package/a/one.txt").is_file()


def test_a_missing_client_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
    with pytest.raises(LabError, match=r"@scope/toys@1\.2\.0 needs 'npm'.*Node"):
        fetch(PACKAGE, tmp_path)


def test_a_failed_download_repeats_what_the_client_said(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.shutil, "which", lambda name: name)
    monkeypatch.setattr(
        sources.subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, 1, "", "npm error 404 not found"),
    )
    with pytest.raises(AnyRefError, match="404 not found"):
        fetch(PACKAGE, tmp_path)


def test_a_package_without_the_wanted_members_is_refused(client, tmp_path):
    other = Package(
        registry="npm", name="toys", version="9", licence="MIT", members=("nothing/*.png",)
    )
    with pytest.raises(LabError, match=r"no member like 'nothing/\*\.png'"):
        fetch(other, tmp_path)


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ANYREF_CACHE", str(tmp_path))
    assert default_cache() == tmp_path


def test_every_package_has_its_own_folder():
    assert len({package.folder for package in PACKAGES}) == len(PACKAGES)
