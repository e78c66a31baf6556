from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anyref.lab import sources as lab_sources
from anyref.packages import Package, package_folder
from anyref.perception import sources

# Public officials; `anyref.packages.fetch(PEOPLE, sources.default_cache())` puts them in the cache.
PEOPLE = Package(
    registry="pypi-source",
    name="face_recognition",
    version="1.3.0",
    licence="MIT",
    members=("face_recognition-1.3.0/tests/test_images/*.jpg",),
)


@pytest.fixture
def fetched():
    """A function that skips the test unless these models are in the cache."""

    def need(*names):
        missing = [name for name in names if not sources.is_fetched(name)]
        if missing:
            pytest.skip(f"not fetched: {', '.join(missing)}")

    return need


@pytest.fixture
def photograph():
    """A function that opens one of scikit-image's pictures from the lab's cache, or skips."""

    def read(name):
        folder = lab_sources.package_folder(lab_sources.SKIMAGE, lab_sources.default_cache())
        path = folder / "skimage/data" / f"{name}.png"
        if not path.is_file():
            pytest.skip("the lab's pictures are not fetched")
        return np.asarray(Image.open(path).convert("RGB"))

    return read


@pytest.fixture
def portrait():
    """A function that opens a portrait of face_recognition's tests from the cache, or skips."""

    def read(name):
        folder = package_folder(PEOPLE, sources.default_cache())
        path = folder / "face_recognition-1.3.0/tests/test_images" / f"{name}.jpg"
        if not path.is_file():
            pytest.skip("the portraits are not fetched")
        return np.asarray(Image.open(path).convert("RGB"))

    return read


@pytest.fixture
def blank():
    """A function that makes a plain grey picture."""
    return lambda height=60, width=80, level=128: np.full((height, width, 3), level, np.uint8)
