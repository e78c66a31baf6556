"""Sheets for people: pairs across clips and masks of a dataset, drawn at random.

    python benchmarks/film_sheets.py DATASET benchmarks/film

A pair: the picture that another clip lends, beside the frame it conditions with the subject's box.
A mask: its outline in the frame, beside the cut-out. Ten to a sheet, numbered through.
"""

# Axes: Y X pixels

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from anyref.data.dataset import Dataset
from anyref.data.masks import decode
from anyref.data.record import Sample, SampleReference
from anyref.data.shards import open_png
from anyref.data.stills import clip_frame
from anyref.media import letterbox

PER_SHEET, COLUMNS = 10, 2
PICTURE, FRAME, HEIGHT, CAPTION = 230, 400, 226, 18  # pixels
GROUND = (255, 0, 255)  # of cut-outs: no subject has it
MARK = (255, 230, 0)

Shown = tuple[Sample, SampleReference, SampleReference]  # the own reference, and what is shown


def pairs_of(samples: Sequence[Sample]) -> Iterator[Shown]:
    """All pictures from other clips, each with the reference of the clip that it stands for."""
    for sample in samples:
        own = {r.ref_id: r for r in sample.references if r.pair_type == "regular"}
        for reference in sample.references:
            if reference.pair_type != "cross_clip":
                continue
            end = f"-{reference.origin.sample_id}-"
            name = reference.ref_id.removeprefix("pair-").partition(end)[0]
            yield sample, own[name], reference


def masks_of(samples: Sequence[Sample]) -> Iterator[Shown]:
    """All masks of the clips' own frames."""
    for sample in samples:
        for reference in sample.references:
            if reference.mask is not None:
                yield sample, reference, reference


def cut_out(dataset: Dataset, reference: SampleReference) -> Image.Image:
    """A reference's picture, what is cut away in magenta."""
    picture = open_png(dataset.read(reference.image), reference.ref_id).convert("RGBA")
    ground = Image.new("RGBA", picture.size, (*GROUND, 255))
    return Image.alpha_composite(ground, picture).convert("RGB")


def boxed(dataset: Dataset, sample: Sample, own: SampleReference) -> Image.Image:
    """The frame of a reference with its box."""
    frame = clip_frame(dataset, sample, own.origin.frame or 0)
    if own.bbox_xyxy is not None:
        ImageDraw.Draw(frame).rectangle(own.bbox_xyxy, outline=MARK, width=5)
    return frame


def outlined(dataset: Dataset, sample: Sample, own: SampleReference) -> Image.Image:
    """The frame of a reference with the outline of its mask."""
    assert own.mask is not None
    frame = clip_frame(dataset, sample, own.origin.frame or 0)
    mask = Image.fromarray(decode(own.mask).astype(np.uint8) * 255)
    inside = np.asarray(mask.filter(ImageFilter.MinFilter(5)))  # (Y, X)
    line = Image.fromarray(np.where(inside, 0, np.asarray(mask)).astype(np.uint8))
    frame.paste(Image.new("RGB", frame.size, MARK), mask=line)
    return frame


def sheet(cells: Sequence[Image.Image], first: int) -> Image.Image:
    """Numbered cells, in two columns."""
    rows = -(-len(cells) // COLUMNS)
    width, height = PICTURE + FRAME + 12, HEIGHT + CAPTION
    whole = Image.new("RGB", (COLUMNS * width, rows * height), "white")
    for place, cell in enumerate(cells):
        left, top = place % COLUMNS * width, place // COLUMNS * height
        ImageDraw.Draw(whole).text((left + 4, top + 3), str(first + place), fill="black")
        whole.paste(cell, (left, top + CAPTION))
    return whole


def beside(picture: Image.Image, frame: Image.Image) -> Image.Image:
    """A picture and a frame in one cell."""
    cell = Image.new("RGB", (PICTURE + FRAME + 4, HEIGHT), "white")
    cell.paste(letterbox(picture, PICTURE, HEIGHT)[0], (0, 0))
    cell.paste(letterbox(frame, FRAME, HEIGHT)[0], (PICTURE + 4, 0))
    return cell


def write_sheets(
    dataset: Dataset,
    drawn: Sequence[Shown],
    framed: Callable[[Dataset, Sample, SampleReference], Image.Image],
    out: Path,
    name: str,
) -> None:
    """`name`-0.jpg and so on."""
    cells = [
        beside(cut_out(dataset, shown), framed(dataset, sample, own))
        for sample, own, shown in drawn
    ]
    for first in range(0, len(cells), PER_SHEET):
        picture = sheet(cells[first : first + PER_SHEET], first + 1)
        picture.save(out / f"{name}-{first // PER_SHEET}.jpg", quality=80)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dataset = Dataset.open(arguments.dataset)
    samples = sorted(dataset.samples(), key=lambda sample: sample.id)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, found, framed in (
        ("pairs", list(pairs_of(samples)), boxed),
        ("masks", list(masks_of(samples)), outlined),
    ):
        chance = random.Random(f"{name} {arguments.seed}")
        drawn = chance.sample(found, min(arguments.count, len(found)))
        write_sheets(dataset, drawn, framed, arguments.out, name)
        print(f"{len(drawn)} of {len(found)} {name}")


if __name__ == "__main__":
    main()
