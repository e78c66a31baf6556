"""Sheets for people: which of five pictures is the subject, and where does it move?

    python benchmarks/fresh_eyes.py tiny-magref benchmarks/fresh_eyes

Ten held-out clips, seeds fixed: subjects of the test split, places of the test and validation
splits, of both only what may be shown here (MIT, CC0, CC BY, public domain; examples/LICENSES.md).
A sheet shows nine frames above five numbered candidates: the subject and four other test subjects.
Answers lie beside the sheets in answers.json; look at them afterwards only.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from anyref import Request, generate, load_pipeline
from anyref.lab.catalog import Catalog, load_catalog
from anyref.lab.pictures import still
from anyref.lab.world import World, compose
from anyref.media import frame_sheet, letterbox, on_white, save_picture

FREE_LICENCES = ("CC0", "CC-BY-4", "public domain")
SHEETS, CANDIDATES, CELL = 10, 5, 128


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


def main(model: str, out: Path) -> None:
    """Write ten sheets and their answers."""
    catalog, pipe = shown_catalog(), load_pipeline(model, dtype=torch.float32)
    by_key = {subject.key: subject for subject in catalog.subjects("test")}
    answers = {}
    for i in range(SHEETS):
        rng = random.Random(f"fresh eyes/{model}/{i}")
        clip = compose(rng, catalog, "test", World())
        actor = clip.actors[0]
        others = [s for s in by_key.values() if s.identity != by_key[actor.key].identity]
        chosen = [by_key[actor.key], *rng.sample(others, CANDIDATES - 1)]
        rng.shuffle(chosen)
        made = generate(pipe, Request(prompt=clip.prompt, references=clip.references, seed=i))
        frames = frame_sheet(made.frames, num_frames=9, cell=CELL)
        row = candidates_row([still(subject, CELL, catalog.cache) for subject in chosen])
        sheet = Image.new("RGB", (frames.width, frames.height + row.height), "white")
        sheet.paste(frames, (0, 0))
        sheet.paste(row, (0, frames.height))
        save_picture(out / model / f"sheet_{i}.png", sheet)
        keys = [subject.key for subject in chosen]
        answers[f"sheet_{i}"] = {
            "subject": keys.index(actor.key) + 1,
            "direction": actor.motion.value,
            "prompt": clip.prompt,
        }
    (out / model / "answers.json").write_text(json.dumps(answers, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
