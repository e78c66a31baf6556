"""Sheets for people: which of six pictures are in the video, and where does each of them move?

    python benchmarks/fresh_eyes.py tiny-magref benchmarks/fresh_eyes

Ten held-out clips, seeds fixed, one and two subjects by turns: subjects of the test split, places
of the test and validation splits, of both only what may be shown here (MIT, CC0, CC BY, public
domain; examples/LICENSES.md). A sheet shows nine frames above six numbered candidates: the clip's
subjects and other test subjects. Answers lie beside the sheets in answers.json; look at them last.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from anyref import Request, generate, load_pipeline
from anyref.lab.catalog import Catalog, load_catalog
from anyref.lab.pictures import still
from anyref.lab.world import World, compose
from anyref.media import frame_sheet, letterbox, on_white, save_picture

FREE_LICENCES = ("CC0", "CC-BY-4", "public domain")
SHEETS, CANDIDATES, FRAMES, CELL = 10, 6, 9, 96


def candidates_row(pictures: list[Image.Image]) -> Image.Image:
    """Numbered pictures in a row."""
    row = Image.new("RGB", (CELL * len(pictures), CELL + 20), "white")
    for i, picture in enumerate(pictures):
        row.paste(letterbox(on_white(picture), CELL - 8, CELL - 8)[0], (i * CELL + 4, 24))
        ImageDraw.Draw(row).text((i * CELL + CELL // 2, 4), str(i + 1), fill="black")
    return row


def shown_catalog() -> Catalog:
    """Held-out subjects and places with a licence to show them, all as one test split."""
    catalog = load_catalog()
    subjects = tuple(s for s in catalog.subjects("test") if "MIT" in s.licence)
    held_out = (*catalog.backgrounds("test"), *catalog.backgrounds("validation"))
    places = tuple(
        replace(b, split="test") for b in held_out if b.licence.startswith(FREE_LICENCES)
    )
    return Catalog(catalog.cache, subjects, places)


def sheet(frames: np.ndarray, pictures: list[Image.Image]) -> Image.Image:
    """Nine frames above the candidates."""
    above, row = frame_sheet(frames, num_frames=FRAMES, cell=CELL), candidates_row(pictures)
    whole = Image.new("RGB", (above.width, above.height + row.height), "white")
    whole.paste(above, (0, 0))
    whole.paste(row, (0, above.height))
    return whole


def main(model: str, out: Path) -> None:
    """Write ten sheets and their answers."""
    catalog, pipe = shown_catalog(), load_pipeline(model, dtype=torch.float32)
    by_key = {subject.key: subject for subject in catalog.subjects("test")}
    answers = {}
    for i in range(SHEETS):
        rng = random.Random(f"fresh eyes/{model}/{i}")
        world = World(
            size=pipe.config.height, num_frames=pipe.config.num_frames, num_subjects=1 + i % 2
        )
        clip = compose(rng, catalog, "test", world)
        shown = [by_key[actor.key] for actor in clip.actors]
        taken = {subject.identity for subject in shown}
        others = [s for s in by_key.values() if s.identity not in taken]
        chosen = [*shown, *rng.sample(others, CANDIDATES - len(shown))]
        rng.shuffle(chosen)
        made = generate(pipe, Request(prompt=clip.prompt, references=clip.references, seed=i))
        pictures = [still(subject, CELL, catalog.cache) for subject in chosen]
        save_picture(out / model / f"sheet_{i}.jpg", sheet(made.frames, pictures))
        answers[f"sheet_{i}"] = {
            "prompt": clip.prompt,
            "subjects": {
                1 + chosen.index(subject): actor.motion.value
                for subject, actor in zip(shown, clip.actors, strict=True)
            },
        }
    (out / model / "answers.json").write_text(json.dumps(answers, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
