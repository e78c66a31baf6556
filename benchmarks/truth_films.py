"""Collections of films: which clips they hold, written as mp4, and their truth."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import truth_clips
import truth_faces
from PIL import Image
from truth_clips import FPS, TruthClip

from anyref.data.masks import encode
from anyref.data.record import Mask
from anyref.lab import pictures
from anyref.lab.catalog import Catalog, load_catalog
from anyref.lab.sources import default_cache
from anyref.media import encode_video, write_atomically
from anyref.perception.runtimes import opencv

# Photographs that show a place and nothing that stands out in it, light enough, without letters.
PLACES = (
    "Blinds", "Dune", "GreenMeadow", "RainDrops", "Storm", "Wood", "BytheWater", "Volna",
    "summer_1am", "Path", "Bridge_by_Sander_Klootwijk", "aitzgorri_by_Aitzol_Berasategi",
    "life_by_Aitzol_Berasategi", "picosdeeuropa_by_Aitzol_Berasategi", "Valendas", "cloud",
    "flowers", "fog", "this-is-not-windows",
)  # fmt: skip
# Whole figures, not groups, marks or weather.
GROUPS = (
    "animal", "cat-face", "monkey-face", "transport", "food", "drink", "plant", "person-role",
    "household", "clothing", "musical", "sport", "game", "light-video", "book-paper",
)  # fmt: skip
CAST = 3  # subjects that come again in a collection
CLIPS_PER_FILM = 4
PER_KIND = 2  # planted clips of each defect in a collection
DEFECTS = ("blur", "darkness", "watermark", "static", "cut", "duplicate", "face")
CLEAN = ("clean", "control")
CUTS = ("jump", "reframed", "recast")
STILLS = ("still", "grain")
COPIES = ("cropped", "brightened", "smaller")
VARIANTS = {"cut": CUTS, "static": STILLS, "duplicate": COPIES}
ONE_PIECE = 0.95  # of a subject's pixels that hang together
PLANTED = {
    "blur": truth_clips.blurred,
    "darkness": truth_clips.darkened,
    "watermark": truth_clips.marked,
}


@dataclass(frozen=True)
class Spec:
    """A clip to be made. seed: of its own draws. copy_of: the seed of a duplicate's original."""

    kind: str
    seed: str
    variant: str = ""
    recurring: bool = False
    copy_of: str | None = None


@dataclass(frozen=True, eq=False)
class TruthFigure:
    """A figure of a segment; masks by frame."""

    key: str
    name: str
    motion: str
    masks: tuple[Mask, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """What a film shows from frame `start` to `end`; cut and faces as in `TruthClip`."""

    film: str
    start: int
    end: int
    spec: Spec
    figures: tuple[TruthFigure, ...] = ()
    variant: str = ""
    cut: int | None = None
    person: str | None = None
    faces: tuple[tuple[float, ...], ...] | None = None

    @property
    def kind(self) -> str:
        """Clean, control or the planted defect."""
        return self.spec.kind


def plan(size: int, number: int) -> list[list[Spec]]:
    """The clips of one collection, film by film: 8 clean, 2 controls, 2 of each defect."""
    name = f"data truth/{size}/{number}"
    rng = random.Random(name)
    specs = [Spec("clean", f"{name}/clean {i}", recurring=i < 6) for i in range(8)]
    originals = rng.sample(specs, PER_KIND)
    specs += [Spec("control", f"{name}/control {i}") for i in range(PER_KIND)]
    for kind in DEFECTS:
        for i in range(PER_KIND):
            turn = PER_KIND * number + i
            variants = VARIANTS.get(kind, ("",))
            copied = originals[i] if kind == "duplicate" else None
            specs.append(
                Spec(
                    kind,
                    f"{name}/{kind} {i}",
                    variants[turn % len(variants)],
                    recurring=copied is not None and copied.recurring,
                    copy_of=None if copied is None else copied.seed,
                )
            )
    rng.shuffle(specs)
    return [specs[i : i + CLIPS_PER_FILM] for i in range(0, len(specs), CLIPS_PER_FILM)]


def truth_catalog(work: Path) -> Catalog:
    """The lab's fitting subjects and places as one split; what it prepares is kept in `work`."""
    cache = work / "lab"
    (cache / "prepared").mkdir(parents=True, exist_ok=True)
    if not (cache / "packages").exists():
        (cache / "packages").symlink_to(default_cache() / "packages")
        known = default_cache() / "prepared/measures.json"
        if known.is_file():
            (cache / "prepared/measures.json").write_bytes(known.read_bytes())
    return chosen(load_catalog(cache))


def chosen(catalog: Catalog) -> Catalog:
    """Three-dimensional whole figures, and places with nothing in them."""
    subjects = tuple(
        replace(subject, split="test")
        for subject in catalog.all_subjects
        if subject.key.startswith("fluent/")
        and subject.group.startswith(GROUPS)
        and hangs_together(subject.picture)
    )
    places = tuple(
        replace(place, split="test")
        for place in catalog.all_backgrounds
        if place.key.rpartition("/")[2] in PLACES
    )
    return Catalog(catalog.cache, subjects, places)


def hangs_together(picture: Path) -> bool:
    """Whether nearly all opaque pixels are one connected part: no pair of socks."""
    with Image.open(picture) as file:
        opaque = np.asarray(file.convert("RGBA").getchannel("A")) > 127  # (Y, X)
    with opencv(1) as cv2:
        sizes = cv2.connectedComponentsWithStats(opaque.astype(np.uint8))[2][1:, cv2.CC_STAT_AREA]
    return bool(len(sizes)) and int(sizes.max()) >= ONE_PIECE * int(sizes.sum())


def cast_of(catalog: Catalog, size: int, number: int) -> tuple[str, ...]:
    """Keys of the animated subjects that come again in a collection."""
    animated = [s for s in catalog.all_subjects if s.animation is not None]
    rng = random.Random(f"data truth/{size}/{number}/cast")
    picked: dict[str, str] = {}
    while len(picked) < CAST:
        subject = rng.choice(animated)
        picked.setdefault(subject.identity, subject.key)
    return tuple(picked.values())


def shoot(spec: Spec, catalog: Catalog, cast: tuple[str, ...], size: int) -> TruthClip:
    """Make a clip; the same for the same arguments."""
    rng = random.Random(spec.seed)
    if spec.kind == "cut":
        return truth_clips.cut(rng, catalog, size, spec.variant)
    if spec.kind in ("face", "control"):
        portrait = rng.choice(truth_faces.portraits())
        return truth_faces.face_clip(rng, catalog, size, portrait, over=spec.kind == "face")
    source = random.Random(spec.copy_of) if spec.copy_of is not None else rng
    clip = truth_clips.clean(source, catalog, size, cast if spec.recurring else ())
    if spec.kind == "static":
        return truth_clips.stilled(clip, rng, spec.variant)
    if spec.kind == "duplicate":
        return truth_clips.copied(clip, rng, spec.variant)
    planted = PLANTED.get(spec.kind)
    return clip if planted is None else planted(clip, rng)


def write_films(folder: Path, size: int, number: int, catalog: Catalog) -> list[Segment]:
    """Write a collection's films, and say what is in them."""
    cast = cast_of(catalog, size, number)
    segments: list[Segment] = []
    for index, specs in enumerate(plan(size, number)):
        path = folder / f"film{index}.mp4"
        clips = [shoot(spec, catalog, cast, size) for spec in specs]
        segments += described(path.name, specs, clips)
        made = encode_video(np.concatenate([c.frames for c in clips]), FPS, preset="superfast")
        write_atomically(path, lambda file, made=made: file.write(made))
        pictures._prepared.cache_clear()  # it would hold every picture of the run
    return segments


def described(film: str, specs: list[Spec], clips: list[TruthClip]) -> Iterator[Segment]:
    """The truth of clips that follow one another in a film."""
    start = 0
    for spec, clip in zip(specs, clips, strict=True):
        end = start + len(clip.frames)
        figures = tuple(
            TruthFigure(f.key, f.name, f.motion, tuple(encode(mask) for mask in f.masks))
            for f in clip.figures
        )
        faces = None if clip.faces is None else tuple(tuple(map(float, box)) for box in clip.faces)
        yield Segment(
            film=film,
            start=start,
            end=end,
            spec=spec,
            figures=figures,
            variant=clip.variant,
            cut=None if clip.cut is None else start + clip.cut,
            person=clip.person,
            faces=faces,
        )
        start = end
