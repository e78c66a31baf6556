from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from anyref.lab.catalog import Background, Catalog, Subject

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="session")
def catalog(tmp_path_factory):
    """Eight drawn things and two places of noise."""
    root, rng = tmp_path_factory.mktemp("truth"), np.random.default_rng(0)
    subjects, places = [], []
    for index in range(8):
        colour = tuple(int(level) for level in rng.integers(40, 255, 3))
        picture = Image.new("RGBA", (96, 96))
        ImageDraw.Draw(picture).regular_polygon((48, 48, 46), 3 + index, fill=(*colour, 255))
        picture.save(root / f"{index}.png")
        name = f"thing {chr(97 + index)}"
        subjects.append(
            Subject(
                key=f"fluent/{index}",
                name=name,
                identity=name,
                kind="object",
                group="food-fruit",
                picture=root / f"{index}.png",
                animation=None,
                licence="CC0",
                package="drawn",
                split="test",
            )
        )
    for index in range(2):
        noise = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        path = root / f"place{index}.png"
        Image.fromarray(noise).resize((160, 160), Image.Resampling.BICUBIC).save(path)
        places.append(
            Background(
                key=f"drawn/place{index}",
                name=f"place {index}",
                identity=f"place {index}",
                picture=path,
                licence="CC0",
                package="drawn",
                split="test",
            )
        )
    return Catalog(root, tuple(subjects), tuple(places))
