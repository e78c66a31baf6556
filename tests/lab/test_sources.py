from __future__ import annotations

from anyref import packages
from anyref.lab.sources import FLUENT, PACKAGES, default_cache, fetch, package_folder


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("ANYREF_CACHE", str(tmp_path))
    assert default_cache() == tmp_path


def test_a_package_in_the_cache_is_not_downloaded_again(monkeypatch, tmp_path):
    monkeypatch.setenv("ANYREF_CACHE", str(tmp_path))
    folder = tmp_path / "packages/lobehub-fluent-emoji-3d-1.1.0"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text('{"name": "@lobehub/fluent-emoji-3d"}')
    monkeypatch.setattr(packages.subprocess, "run", None)
    assert fetch(FLUENT) == folder == package_folder(FLUENT, tmp_path)


def test_every_package_has_its_own_folder():
    assert len({package.folder for package in PACKAGES}) == len(PACKAGES)
