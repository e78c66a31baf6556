"""Videos of the cutout world of every quality, and what template matching says of them.

Each of the clips of anyref-lab is made again in several ways, from the composed clip itself to
noise. Truth is `anyref.lab.matching`, which knows the cut-outs and no network.
"""

# Axes: T frames, Y X pixels

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from anyref import Request, generate, load_pipeline
from anyref.evaluation.lab_cases import FRAMES, SIZE, lab_clip, shown_catalog
from anyref.lab.catalog import Catalog
from anyref.lab.matching import Template, best_match, make_strip, make_templates
from anyref.lab.pictures import animation, still
from anyref.lab.scoring import CYCLE_POSES, IDENTITY_FRAMES
from anyref.lab.world import Clip, World
from anyref.pipelines.base import AnyRefPipeline
from anyref.request import Reference

Frames = NDArray[np.uint8]  # (T, Y, X, 3)

CLIPS = 48
TUNED = 24  # clips before it are those that the metrics' constants were chosen on
PER_CLIP = 6
CANDIDATES = 20
MODELS = ("tiny-kaleido", "tiny-magref")
ONE = ("composed", "tiny-kaleido", "tiny-magref", "few-steps", "unguided", "other-references",
       "fewer-references", "grain", "crossfade", "blurred", "noise")  # fmt: skip
TWO = (*ONE, "twins", "mixed", "one-missing")


@dataclass(frozen=True)
class Output:
    """One way of making one clip."""

    clip: int
    way: str

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.clip:02d}-{self.way}"


def plan() -> list[Output]:
    """Every way about equally often."""
    outputs = []
    ways = {1: itertools.cycle(ONE), 2: itertools.cycle(TWO)}
    for clip in range(CLIPS):
        outputs += [Output(clip, next(ways[1 + clip % 2])) for _ in range(PER_CLIP)]
    return outputs


@dataclass(frozen=True)
class Studio:
    """Makes outputs."""

    catalog: Catalog

    @cached_property
    def pipes(self) -> Mapping[str, AnyRefPipeline]:
        """The tiny models."""
        return {name: load_pipeline(name, dtype=torch.float32) for name in MODELS}

    def clip(self, index: int) -> Clip:
        """A case's clip."""
        return lab_clip(self.catalog, index)

    def make(self, output: Output) -> Frames:
        """The video."""
        rng = random.Random(f"output/{output.name}")
        clip, other = self.clip(output.clip), self.clip(output.clip + 2)
        if output.way in {*MODELS, "few-steps", "unguided", "other-references", "fewer-references"}:
            return self._generated(output, clip, other, rng)
        changes: dict[str, Callable[[], NDArray]] = {
            "composed": lambda: clip.frames,
            "grain": lambda: mixed(clip.frames, noise(rng), rng.uniform(0.3, 0.85)),
            "crossfade": lambda: mixed(clip.frames, other.frames, rng.uniform(0.25, 0.75)),
            "blurred": lambda: blurred(clip.frames, rng.uniform(1.5, 6)),
            "noise": lambda: noise(rng),
            "twins": lambda: recast(clip, (0, 0)),
            "mixed": lambda: mixed(recast(clip, (0, 0)), recast(clip, (1, 1)), 0.5),
            "one-missing": lambda: recast(clip, (0, None)),
        }
        return np.clip(np.rint(changes[output.way]()), 0, 255).astype(np.uint8)

    def _generated(self, output: Output, clip: Clip, other: Clip, rng: random.Random) -> Frames:
        way = output.way
        model = way if way in MODELS else MODELS[rng.randrange(2)]
        references: tuple[Reference, ...] = clip.references
        if way == "other-references":
            references = tuple(
                a.model_copy(update={"images": b.images})
                for a, b in zip(references, other.references, strict=True)
            )
        if way == "fewer-references":
            references = (*references[: len(clip.actors) - 1], references[-1])
        request = Request(
            prompt=without_mentions(clip, references),
            references=references,
            seed=output.clip,
            height=SIZE,
            width=SIZE,
            num_frames=FRAMES,
            num_inference_steps=rng.choice((2, 3, 4)) if way == "few-steps" else None,
            guidance_scale=1.0 if way == "unguided" else None,
        )
        return generate(self.pipes[model], request).frames


def without_mentions(clip: Clip, references: tuple[Reference, ...]) -> str:
    """The prompt, words in place of mentions whose reference is not given."""
    prompt = clip.prompt
    for reference in clip.references:
        if reference not in references and reference.name not in {r.name for r in references}:
            prompt = prompt.replace(f"@{reference.name}", reference.text or reference.name or "")
    return prompt


def mixed(one: NDArray, other: NDArray, share: float) -> NDArray[np.float32]:
    """A blend; `share` is the other's."""
    return (1 - share) * one.astype(np.float32) + share * other


def noise(rng: random.Random) -> NDArray[np.float32]:
    """Grey noise in blocks of a codec's cell and in pixels, around the middle."""
    draw = np.random.default_rng(rng.randrange(2**32))
    cells = draw.normal(0, 40, (FRAMES, SIZE // 12, SIZE // 12, 3))
    pixels = draw.normal(0, 40, (FRAMES, SIZE, SIZE, 3))
    return (128 + np.kron(cells, np.ones((1, 12, 12, 1))) + pixels).astype(np.float32)


def blurred(frames: Frames, sigma: float) -> NDArray[np.float32]:
    """Every frame blurred."""
    return np.stack([cv2.GaussianBlur(f.astype(np.float32), (0, 0), sigma) for f in frames])


def recast(clip: Clip, cast: tuple[int | None, ...]) -> Frames:
    """The clip with the lanes' subjects exchanged: the number of an actor for each lane, or None.

    The subject is cut from its own lane by its mask and put where the lane's own one was; the scene
    behind is the median of the frames, or the reference of the place where that is hidden.
    """
    hidden = np.any([actor.masks for actor in clip.actors], axis=0)  # (T, Y, X)
    shown = np.where(hidden[..., None], np.nan, clip.frames.astype(np.float32))
    place = np.asarray(clip.references[-1].images[0], np.float32)[..., :3]
    with np.errstate(all="ignore"):
        scene = np.where(hidden.all(0)[..., None], place, np.nanmedian(shown, 0))
    frames = np.repeat(scene[None], len(clip.frames), 0)
    for lane, number in enumerate(cast):
        if number is None:
            continue
        actor, own = clip.actors[number], clip.actors[lane]
        for t, frame in enumerate(frames):
            rows, columns = np.nonzero(actor.masks[t])
            middle = (own.boxes[t, :2] + own.boxes[t, 2:]) / 2
            before = (actor.boxes[t, :2] + actor.boxes[t, 2:]) / 2
            x, y = np.rint(middle - before).astype(int)
            kept = (rows + y >= 0) & (rows + y < SIZE) & (columns + x >= 0) & (columns + x < SIZE)
            rows, columns = rows[kept], columns[kept]
            frame[rows + y, columns + x] = clip.frames[t, rows, columns]
    return np.rint(frames).astype(np.uint8)


@dataclass(frozen=True)
class Truth:
    """What template matching sees.

    Args:
        match: how much of the subjects' places their cut-outs explain, mean, at most 1.
        found: share of places and frames where the cut-out wins against 19 others.
        entangled: 0 where each place shows its own subject as the composed clip does, 0.5 nothing
            or a blend, 1 the other one; None for one subject.
    """

    match: float
    found: float
    entangled: float | None


@dataclass(frozen=True)
class Judge:
    """Template matching over the catalogue."""

    catalog: Catalog

    @cached_property
    def _templates(self) -> dict[str, tuple[Template, ...]]:
        return {}

    def templates(self, key: str) -> tuple[Template, ...]:
        """A subject's still picture and six poses of its cycle."""
        if key not in self._templates:
            (subject,) = (s for s in self.catalog.subjects("test") if s.key == key)
            views = [still(subject, SIZE, self.catalog.cache)]
            if subject.animation is not None:
                cycle = animation(subject, SIZE, self.catalog.cache)
                picks = np.linspace(0, len(cycle), CYCLE_POSES, endpoint=False).astype(int)
                views += [cycle[i] for i in picks]
            self._templates[key] = make_templates(views)
        return self._templates[key]

    def candidates(self, clip: Clip, index: int) -> tuple[str, ...]:
        """The clip's subjects and others, 20."""
        keys = [actor.key for actor in clip.actors]
        others = [s.key for s in self.catalog.subjects("test") if s.key not in keys]
        random.Random(f"candidates/{index}").shuffle(others)
        return (*keys, *others)[:CANDIDATES]

    def scores(self, frames: Frames, clip: Clip, keys: tuple[str, ...]) -> NDArray[np.float32]:
        """How well each key explains each lane in each of five frames: (lanes, keys, frames)."""
        picks = np.unique(np.linspace(0, len(frames) - 1, IDENTITY_FRAMES).round().astype(int))
        several = len(clip.actors) > 1
        box = World(size=SIZE, num_frames=FRAMES, num_subjects=len(clip.actors)).box
        lanes = []
        for lane in range(len(clip.actors)):
            strip = make_strip(
                frames[picks], box, (lane * box, (lane + 1) * box) if several else None
            )
            lanes.append([best_match(strip, self.templates(key)).scores for key in keys])
        return np.array(lanes)

    def truth(self, frames: Frames, clip: Clip, index: int) -> Truth:
        """Who is where in the lanes is not asked: the better of both orders counts."""
        keys = self.candidates(clip, index)
        scores = self.scores(frames, clip, keys)  # (lanes, keys, frames)
        count = len(clip.actors)
        orders = list(itertools.permutations(range(count)))
        order = max(orders, key=lambda o: sum(scores[lane, n].mean() for lane, n in enumerate(o)))
        own = np.stack([scores[lane, n] for lane, n in enumerate(order)])
        won = [scores[lane].argmax(0) == n for lane, n in enumerate(order)]
        entangled = None
        if count == 2:
            ideal = self.scores(clip.frames, clip, keys[:2]).mean(-1)  # (lanes, 2)
            full = max(1e-3, float(np.mean([ideal[n, n] - ideal[n, 1 - n] for n in range(2)])))
            leads = [scores[lane, n] - scores[lane, 1 - n] for lane, n in enumerate(order)]
            entangled = float((1 - np.clip(np.array(leads) / full, -1, 1)).mean() / 2)
        return Truth(float(own.mean()), float(np.mean(won)), entangled)


def studio() -> tuple[Studio, Judge]:
    """Both, over what may be shown to others."""
    catalog = shown_catalog()
    return Studio(catalog), Judge(replace(catalog))
