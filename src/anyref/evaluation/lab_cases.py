"""`anyref-lab`: a small benchmark for the tiny models, from held-out parts of the cutout world.

24 cases, half of them with one subject and half with two, each with a place. Subjects are of the
test split, places of the test and validation splits, of both only what may be shown to others (MIT,
CC0, CC BY, public domain), so that a report can be passed on. Case i is a function of i alone.

The pictures and `cases.jsonl` are written once, in the cutout world's cache.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from anyref.evaluation.benchmark import Benchmark, load_benchmark
from anyref.lab.catalog import Catalog, load_catalog
from anyref.lab.sources import default_cache
from anyref.lab.world import Clip, World, compose
from anyref.media import save_picture, write_atomically

NAME = "anyref-lab"
VERSION = 1  # raised when a case changes; the older pictures are then not used
CASES = 24
SIZE, FRAMES = 96, 17  # of the clips; the tiny models' own
FREE_LICENCES = ("CC0", "CC-BY-4", "public domain")
CATEGORIES = {1: "one-subject", 2: "two-subjects"}


def shown_catalog(cache: Path | None = None) -> Catalog:
    """Held-out subjects and places with a licence to show them, all as one test split.

    Raises:
        LabError: when the cutout world's packages are not there.
    """
    catalog = load_catalog(cache)
    subjects = tuple(s for s in catalog.subjects("test") if "MIT" in s.licence)
    held_out = (*catalog.backgrounds("test"), *catalog.backgrounds("validation"))
    places = tuple(
        replace(b, split="test") for b in held_out if b.licence.startswith(FREE_LICENCES)
    )
    return Catalog(catalog.cache, subjects, places)


def lab_clip(catalog: Catalog, index: int) -> Clip:
    """The clip of a case, 0 to `CASES` - 1: prompt and references, and frames with their truth."""
    world = World(size=SIZE, num_frames=FRAMES, num_subjects=1 + index % 2, plain=0.0)
    return compose(random.Random(f"{NAME}/{VERSION}/{index}"), catalog, "test", world)


def lab_case_id(index: int) -> str:
    """The id of a case: lab-00 to lab-23."""
    return f"lab-{index:02d}"


def lab_benchmark(cache: Path | None = None, catalog: Catalog | None = None) -> Benchmark:
    """The benchmark; its pictures are drawn at the first call, and read again later.

    Args:
        cache: of the cutout world; the default one when None.
        catalog: drawn from, with its own cache; `shown_catalog` when None.

    Raises:
        LabError: when the packages are not there. MediaError: when the cache cannot be written.
    """
    place = catalog.cache if catalog else cache or default_cache()
    folder = place / "benchmarks" / f"{NAME}-{VERSION}" / NAME
    listing = folder / "cases.jsonl"
    if not listing.is_file():
        catalog = catalog or shown_catalog(cache)
        lines = [json.dumps(_write_case(catalog, index, folder)) for index in range(CASES)]
        text = "".join(f"{line}\n" for line in lines)
        write_atomically(listing, lambda file: file.write(text.encode()))
    return load_benchmark(listing)


def _write_case(catalog: Catalog, index: int, folder: Path) -> dict[str, Any]:
    """Write a case's pictures; the case as a line of the list says it."""
    clip, case_id = lab_clip(catalog, index), lab_case_id(index)
    references = []
    for place, reference in enumerate(clip.references):
        (picture,) = reference.images
        assert isinstance(picture, Image.Image)  # composed, not read
        name = f"pictures/{case_id}-{place}.png"
        save_picture(folder / name, picture)
        references.append(
            {
                "images": [name],
                "name": reference.name,
                "kind": reference.kind,
                "text": reference.text,
            }
        )
    return {
        "id": case_id,
        "category": CATEGORIES[len(clip.actors)],
        "prompt": clip.prompt,
        "references": references,
    }
