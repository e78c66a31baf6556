"""The packages whose pictures make the cutout world.

Pictures come from package registries, through each registry's ordinary client, and stay in a cache
folder; the repository holds none of them. Layout of the cache:

    packages/<name>-<version>/...     wanted members only, beside a `record.json`
    manifest.json                     every record: name, version, licence, sha256 of the archive
    prepared/                         measurements and shrunk pictures (made by the catalogue)
"""

from __future__ import annotations

from pathlib import Path

from anyref import packages
from anyref.packages import Package, package_folder

__all__ = ["PACKAGES", "Package", "default_cache", "fetch", "fetch_all", "package_folder"]

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
    return packages.default_cache("lab")


def fetch(package: Package, cache: Path | None = None) -> Path:
    """Download one package and keep its wanted members, as `anyref.packages.fetch`.

    Raises:
        PackageError: as `anyref.packages.fetch`.
    """
    return packages.fetch(package, default_cache() if cache is None else cache)


def fetch_all(cache: Path | None = None) -> Path:
    """Fetch every package of the world (about 600 MB of downloads) and return the cache folder.

    Raises:
        PackageError: as `fetch`.
    """
    cache = default_cache() if cache is None else cache
    for package in PACKAGES:
        fetch(package, cache)
    return cache
