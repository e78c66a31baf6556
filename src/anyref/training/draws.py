"""What a training step takes from a sample: which references, which pictures, which words."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from anyref.data.record import Sample, SampleReference
from anyref.data.shards import PackedSample
from anyref.errors import TrainingError
from anyref.request import NAME_PATTERN, Kind, Reference
from anyref.training.recipe import DataSection

KINDS: dict[str, Kind] = {  # a request knows three kinds, a record five
    "human": "human",
    "face": "human",
    "object": "object",
    "style": "object",
    "background": "background",
}
OWN = "regular"


@dataclass(frozen=True)
class Draw:
    """One sample's references for one step.

    Args:
        references: with names where the caption names them. prompt: the caption with `@name`.
        tracks: of each drawn subject that is not a background, boxes per stored frame or None.
        seed: of order and placement.
    """

    references: tuple[Reference, ...]
    prompt: str
    tracks: tuple[tuple[tuple[float, ...] | None, ...], ...]
    seed: int


def draw(packed: PackedSample, options: DataSection, seed: str) -> Draw:
    """Choose subjects, pictures and order.

    Args:
        seed: everything drawn follows from it.

    Raises:
        TrainingError: when the sample has fewer subjects than `min_references`.
    """
    rng = random.Random(seed)
    entities = _entities(packed.record, options)
    if len(entities) < options.min_references:
        raise TrainingError(
            f"sample {packed.record.id!r} has {len(entities)} usable references, "
            f"min_references is {options.min_references}; lower it or filter the shards"
        )
    kept = sorted(rng.sample(range(len(entities)), _how_many(len(entities), options, rng)))
    if rng.random() < options.reference_dropout:
        kept = []
    chosen = [entities[i] for i in kept]
    prompt, names = _name_mentions(packed.record, chosen)
    references = [
        _reference(packed, indices, name, words, options, rng)
        for indices, (name, words) in zip(chosen, names, strict=True)
    ]
    tracks = [
        packed.record.references[indices[0]].track or ()
        for indices in chosen
        if packed.record.references[indices[0]].kind != "background"
    ]
    if options.shuffle:
        rng.shuffle(references)
    return Draw(tuple(references), prompt, tuple(map(tuple, tracks)), rng.getrandbits(32))


def _how_many(available: int, options: DataSection, rng: random.Random) -> int:
    most = min(available, options.max_references)
    least = max(1, options.min_references)
    if most > least and rng.random() < options.fewer_references:
        return rng.randint(least, most - 1)
    return most


def _entities(record: Sample, options: DataSection) -> list[list[int]]:
    """Indices of the pictures of each subject, subjects in order of appearance."""
    groups: dict[str, list[int]] = {}
    for i, reference in enumerate(record.references):
        if options.kinds is None or reference.kind in options.kinds:
            groups.setdefault(reference.entity_id or f"#{i}", []).append(i)
    return list(groups.values())


def _name_mentions(
    record: Sample, chosen: Sequence[Sequence[int]]
) -> tuple[str, list[tuple[str | None, str | None]]]:
    """The first caption with every chosen subject's words as a mention, and names with words."""
    text = record.captions[0].text
    names: list[tuple[str | None, str | None]] = []
    edits: list[tuple[int, int, str]] = []
    for indices in chosen:
        reference = record.references[indices[0]]
        if reference.caption_span is None:
            names.append((None, None))
            continue
        start, end = reference.caption_span
        name = _unused_name(reference, [n for n, _ in names])
        names.append((name, text[start:end]))
        edits.append((start, end, f"@{name}"))
    parts, position = [], 0
    for start, end, mention in sorted(edits):
        parts += [text[position:start].replace("@", "@@"), mention]
        position = end
    return "".join([*parts, text[position:].replace("@", "@@")]), names


def _unused_name(reference: SampleReference, taken: Sequence[str | None]) -> str:
    name = re.sub(r"[^a-z0-9_-]", "_", (reference.entity_id or reference.label).lower())
    if not NAME_PATTERN.fullmatch(name):
        name = f"r_{name}"
    while name in taken:
        name += "_"
    return name


def _reference(
    packed: PackedSample,
    indices: Sequence[int],
    name: str | None,
    words: str | None,
    options: DataSection,
    rng: random.Random,
) -> Reference:
    records = packed.record.references
    own = [i for i in indices if records[i].pair_type == OWN]
    others = [i for i in indices if records[i].pair_type != OWN]
    pool = others if others and (not own or rng.random() < options.cross_pair) else own
    picked = rng.sample(pool, min(options.views, len(pool)))
    return Reference(
        images=tuple(packed.picture(i) for i in picked),
        name=name,
        kind=KINDS[records[indices[0]].kind],
        text=words,
        mask=packed.mask(picked[0]) if len(picked) == 1 else None,
    )
