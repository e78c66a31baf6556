from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from anyref.lab.backgrounds import SCENES
from anyref.lab.catalog import Background, Catalog, Subject, load_catalog
from anyref.lab.sources import FLUENT, FLUENT_ANIMATED, OPENMOJI, TUX_PAINT, package_folder

COLOURS = [(200, 30, 30), (30, 160, 30), (30, 60, 200), (200, 160, 20), (120, 30, 160)]


def cutout(colour, shift=0, size=(128, 96)):
    picture = Image.new("RGBA", size)
    ImageDraw.Draw(picture).ellipse((20 + shift, 10, 90 + shift, 85), fill=(*colour, 255))
    return picture


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A cache folder with tiny drawn pictures under the real packages' paths."""
    root = tmp_path_factory.mktemp("lab")
    assets = package_folder(FLUENT, root) / "package/assets"
    moving = package_folder(FLUENT_ANIMATED[0], root) / "package/assets"
    still = package_folder(FLUENT_ANIMATED[1], root) / "package/assets"
    stamps = package_folder(TUX_PAINT, root) / "usr/share/tuxpaint/stamps"
    for folder in (assets, moving, still, stamps / "animals/cartoon"):
        folder.mkdir(parents=True)
    labels = []
    for index in range(60):
        code = f"1f{index:03x}"
        labels.append(
            {
                "hexcode": code.upper(),
                "group": "animals-nature",
                "subgroups": "animal-mammal",
                "annotation": f"beast {chr(97 + index // 26)}{chr(97 + index % 26)}",
                "skintone": "",
            }
        )
        cutout(COLOURS[index % 5]).save(assets / f"{code}.webp", lossless=True)
    labels.append(
        dict(labels[0], hexcode="1F1E6", group="flags", annotation="flag", subgroups="flag")
    )
    cutout(COLOURS[0]).save(assets / "1f1e6.webp", lossless=True)
    for code, first in (("1f000", COLOURS[0]), ("1f001", (250, 250, 250))):
        frames = [cutout(first, shift) for shift in range(36)]
        options = {"save_all": True, "append_images": frames[1:], "duration": 42, "lossless": True}
        frames[0].save(moving / f"{code}.webp", **options)
    labels_file = package_folder(OPENMOJI, root) / OPENMOJI.members[0]
    labels_file.parent.mkdir(parents=True)
    labels_file.write_text(json.dumps(labels))
    stamp(stamps / "animals/fox.png", "A red fox (it is shy).\nes=Un zorro", (256, 192))
    stamp(stamps / "animals/cartoon/dog.png", "A dog.", (256, 192))
    stamp(stamps / "animals/tiny.png", "A mouse.", (64, 48))
    _write_scenes(root)
    return root


def stamp(path, sentence, size):
    cutout(COLOURS[3]).resize(size).save(path)
    path.with_suffix(".txt").write_text(sentence)


def _write_scenes(root):
    for package, scenes in SCENES.items():
        for index, (file, *_) in enumerate(scenes):
            path = package_folder(package, root) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            ramp = np.linspace(0, 255, 90 * 60 * 3).reshape(60, 90, 3)
            pixels = np.roll(ramp, 7 * index, axis=1).astype(np.uint8)
            Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def catalog(cache):
    return load_catalog(cache)


def patterned(rng, colours=4, size=96):
    """A cut-out like no other: blocks of random colours in a random silhouette."""
    blocks = rng.integers(0, 256, (colours, colours, 3), dtype=np.uint8)
    picture = Image.fromarray(blocks).resize((size, size), Image.Resampling.NEAREST)
    silhouette = Image.new("L", (size, size))
    angles = np.linspace(0, 2 * np.pi, 7, endpoint=False)
    radii = size * rng.uniform(0.3, 0.5, 7)
    corners = [
        (size / 2 + r * np.cos(a), size / 2 + r * np.sin(a))
        for r, a in zip(radii, angles, strict=True)
    ]
    ImageDraw.Draw(silhouette).polygon(corners, fill=255)
    picture.putalpha(silhouette)
    return picture


@pytest.fixture(scope="session")
def held_out(tmp_path_factory):
    """A test split of 24 patterned subjects, two of them animated, and two smooth scenes."""
    root, rng = tmp_path_factory.mktemp("held_out"), np.random.default_rng(0)
    subjects = []
    for index in range(24):
        name = f"beast {chr(97 + index)}"
        path, animation = root / f"{index}.png", None
        patterned(rng).save(path)
        if index < 2:
            frames = [patterned(rng) for _ in range(36)]  # of which every third is shown
            animation = root / f"{index}.webp"
            frames[0].save(animation, save_all=True, append_images=frames[1:], lossless=True)
        subjects.append(
            Subject(
                key=f"drawn/{index}",
                name=name,
                identity=name,
                kind="object",
                group="beasts",
                picture=path,
                animation=animation,
                licence="CC0",
                package="drawn",
                split="test",
            )
        )
    scenes = []
    for index in range(2):
        path = root / f"scene{index}.png"
        ramp = np.linspace(60, 200, 200)[:, None, None] * rng.uniform(0.5, 1, 3)
        Image.fromarray(np.broadcast_to(ramp, (200, 300, 3)).astype(np.uint8)).rotate(
            180 * index
        ).save(path)
        scenes.append(
            Background(
                key=f"scene/{index}",
                name=f"place {index}",
                identity=f"place {index}",
                picture=path,
                licence="CC0",
                package="drawn",
                split="test",
            )
        )
    return Catalog(root, tuple(subjects), tuple(scenes))
