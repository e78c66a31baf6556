"""References that no clip shows: a subject before another ground, in another light, turned.

The default needs no model: it puts cut-outs on the backgrounds of other clips. An `ImageModel`
takes its place where there is one, for a new pose (Kaleido's FLUX Redux) or scene (FLUX fill).
"""

# Axes: Y X pixels

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from anyref.data.appearance import read_cutout
from anyref.data.dataset import asset_of, hash_of, read_asset, write_asset
from anyref.data.record import Asset, Origin, SampleReference
from anyref.data.thresholds import Section
from anyref.errors import DataError
from anyref.media import on_white, write_atomically

JOURNAL = "synthesis.jsonl"
MIN_PIXELS = 32 * 32  # of a subject that is worth a picture
OPAQUE = 0.98  # a cut-out that covers more of its picture is no cut-out

Pixels = NDArray[np.uint8]


class SynthesisSettings(Section):
    """How many references are made, and how.

    Args:
        per_reference: for each main view of a subject. seed: of all choices.
        side: longest side of a made picture, pixels.
        turn: largest turn, degrees. light: largest change of the exponent of the light, as a part.
        warmth: largest change of red against blue, as a part. mirrored: how often.
    """

    per_reference: int = 1
    seed: int = 0
    side: int = 512
    turn: float = 12.0
    light: float = 0.25
    warmth: float = 0.08
    mirrored: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Job:
    """A picture to make.

    Args:
        cutout: (Y, X, 4), the subject under its alpha. ground: (Y, X, 3), what may be behind it;
            None when there is none. label: what the subject is called. seed: of this picture; the
            same job gives the same picture.
    """

    cutout: Pixels
    ground: Pixels | None
    label: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Made:
    """A made picture (Y, X, 3), and what was asked for or done, in words."""

    picture: Pixels
    prompt: str


class ImageModel(Protocol):
    """Makes pictures of a subject that differ from the one given."""

    @property
    def name(self) -> str:
        """What made the picture, its version included: pictures of another name are made anew."""
        ...

    def make(self, jobs: Sequence[Job]) -> Sequence[Made | None]:
        """One picture per job; None where none is good enough."""
        ...


@dataclass(frozen=True)
class Compositor:
    """Puts a cut-out on another ground, lit and turned otherwise; no model."""

    settings: SynthesisSettings

    @property
    def name(self) -> str:
        """anyref's compositor with its settings."""
        values = self.settings.model_dump(mode="json", exclude={"per_reference", "seed"})
        return f"anyref compositor 1 {hash_of(values)[:8]}"

    def make(self, jobs: Sequence[Job]) -> list[Made | None]:
        """One picture per job; None for a cut-out that shows next to nothing.

        A picture without transparency, such as a face, keeps its ground and is not turned.
        """
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> Made | None:
        covered = job.cutout[..., 3] > 127
        if covered.sum() < MIN_PIXELS:
            return None
        chance = random.Random(job.seed)
        if covered.mean() > OPAQUE:
            whole, words = self._varied(job.cutout, chance, turned=False)
            whole.thumbnail((self.settings.side,) * 2, Image.Resampling.LANCZOS)
            return Made(picture=np.asarray(on_white(whole)), prompt=", ".join([job.label, *words]))
        side = self.settings.side
        width, height = chance.choice(((side, side), (side, side * 3 // 4), (side * 3 // 4, side)))
        subject, words = self._varied(_trimmed(job.cutout, covered), chance)
        canvas, place = _ground(job.ground, (width, height), chance)
        part = chance.uniform(0.55, 0.9)
        size = ImageOps.contain(subject, (int(width * part), int(height * part))).size
        subject = subject.resize(size, Image.Resampling.LANCZOS)
        left = int(chance.uniform(0.1, 0.9) * (width - subject.width))
        top = int(chance.uniform(0.4, 1.0) * (height - subject.height))
        canvas.paste(subject, (left, top), subject.getchannel("A"))
        return Made(
            picture=np.asarray(canvas), prompt=", ".join([f"{job.label} on {place}", *words])
        )

    def _varied(
        self, cutout: Pixels, chance: random.Random, turned: bool = True
    ) -> tuple[Image.Image, list[str]]:
        """The subject mirrored, lit and turned, and which of it in words."""
        own, words = self.settings, []
        exponent = 1 + chance.uniform(-own.light, own.light)
        warmth = chance.uniform(-own.warmth, own.warmth)
        levels = (cutout[..., :3] / np.float32(255)) ** np.float32(exponent)
        levels *= np.array([1 + warmth, 1, 1 - warmth], np.float32)
        lit = (levels * 255).round().clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(np.dstack([lit, cutout[..., 3]]))
        if chance.random() < own.mirrored:
            picture = ImageOps.mirror(picture)
            words.append("mirrored")
        if turned:
            turn = chance.uniform(-own.turn, own.turn)
            picture = picture.rotate(turn, Image.Resampling.BICUBIC, expand=True)
            picture = picture.crop(picture.getchannel("A").getbbox())
            words.append(f"turned by {turn:.0f} degrees")
        words += [
            f"{'darker' if exponent > 1 else 'lighter'} (exponent {exponent:.2f})",
            f"{'warmer' if warmth > 0 else 'colder'} ({abs(warmth):.0%})",
        ]
        return picture, words


def _trimmed(cutout: Pixels, covered: NDArray[np.bool_]) -> Pixels:
    rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
    return cutout[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _ground(
    ground: Pixels | None, size: tuple[int, int], chance: random.Random
) -> tuple[Image.Image, str]:
    """What is behind the subject, and its name."""
    if ground is not None:
        picture = Image.fromarray(ground)
        centre = (chance.uniform(0.2, 0.8), chance.uniform(0.3, 0.7))
        zoomed = picture.crop(_zoomed(picture.size, chance.uniform(0.7, 1.0), centre))
        return ImageOps.fit(
            zoomed, size, Image.Resampling.LANCZOS
        ), "the background of another clip"
    colours = np.array([[chance.randint(40, 230) for _ in range(3)] for _ in range(2)], np.float32)
    ramp = np.linspace(0, 1, size[1], dtype=np.float32)[:, None, None]  # (Y, 1, 1)
    rows = colours[0] * (1 - ramp) + colours[1] * ramp  # (Y, 1, 3)
    pixels = np.broadcast_to(rows, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(pixels), "a plain ground"


def _zoomed(
    size: tuple[int, int], part: float, centre: tuple[float, float]
) -> tuple[int, int, int, int]:
    width, height = (max(1, int(side * part)) for side in size)
    left = int((size[0] - width) * centre[0])
    top = int((size[1] - height) * centre[1])
    return left, top, left + width, top + height


class Synthesis:
    """Makes the references of a dataset, each once: a later call finds them in a journal.

    Args:
        folder: of the dataset. backgrounds: of all clips, as (id of the clip, picture), in order.
    """

    def __init__(
        self,
        folder: Path,
        settings: SynthesisSettings,
        model: ImageModel | None,
        backgrounds: Sequence[tuple[str, Asset]],
    ) -> None:
        self._folder, self._settings, self._backgrounds = folder, settings, backgrounds
        self._model: ImageModel = Compositor(settings) if model is None else model
        self._known = _read_journal(folder / JOURNAL)
        self._used: dict[str, dict[str, str]] = {}

    def made(self, sample_id: str, references: Sequence[SampleReference]) -> list[SampleReference]:
        """The references that a clip gets beside its own main views.

        Raises:
            DataError: a picture that is missing or damaged.
        """
        plans = [
            _Plan(reference, number, *self._choice(sample_id, reference, number))
            for reference in references
            for number in range(self._settings.per_reference)
        ]
        keys = [plan.key(self._model.name, self._settings.side) for plan in plans]
        missing = [place for place, key in enumerate(keys) if not self._usable(key)]
        jobs = [self._job(plans[place]) for place in missing]
        for place, made in zip(missing, self._model.make(jobs) if jobs else (), strict=True):
            self._keep(keys[place], made)
        found = []
        for plan, key in zip(plans, keys, strict=True):
            said = self._used[key] = self._known[key]
            if said:
                found.append(plan.reference_with(said["uri"], said["prompt"], self._model.name))
        return found

    def finish(self) -> None:
        """Leave a journal of what is in use."""
        lines = [_line(key, self._used[key]) for key in sorted(self._used)]
        write_atomically(self._folder / JOURNAL, lambda file: file.write("".join(lines).encode()))

    def _choice(
        self, sample_id: str, reference: SampleReference, number: int
    ) -> tuple[int, Asset | None]:
        """The seed of a picture, and a background of another clip."""
        text = f"{sample_id}|{reference.ref_id}|{number}|{self._settings.seed}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
        chance = random.Random(seed)
        for _ in range(8 if self._backgrounds else 0):
            owner, ground = self._backgrounds[chance.randrange(len(self._backgrounds))]
            if owner != sample_id:
                return seed, ground
        return seed, None

    def _usable(self, key: str) -> bool:
        said = self._known.get(key)
        return said is not None and (not said or (self._folder / said["uri"]).exists())

    def _job(self, plan: _Plan) -> Job:
        side = 2 * self._settings.side
        ground = None
        if plan.ground is not None:
            ground = read_cutout(read_asset(self._folder, plan.ground), side)[..., :3]
        return Job(
            cutout=read_cutout(read_asset(self._folder, plan.reference.image), side),
            ground=ground,
            label=plan.reference.label,
            seed=plan.seed,
        )

    def _keep(self, key: str, made: Made | None) -> None:
        said: dict[str, str] = {}
        if made is not None:
            data = _png(made.picture)
            write_asset(self._folder, data, "png")
            said = {"uri": str(asset_of(data, "png").uri), "prompt": made.prompt}
        self._known[key] = said
        with (self._folder / JOURNAL).open("a", encoding="utf-8") as file:
            file.write(_line(key, said))


@dataclass(frozen=True)
class _Plan:
    reference: SampleReference
    number: int
    seed: int
    ground: Asset | None

    def key(self, model: str, side: int) -> str:
        """What the picture follows from."""
        ground = None if self.ground is None else self.ground.uri
        return hash_of(
            [model, self.reference.image.uri, ground, self.reference.label, self.seed, side]
        )

    def reference_with(self, uri: str, prompt: str, generator: str) -> SampleReference:
        own = self.reference
        return SampleReference(
            ref_id=f"made-{own.ref_id}-{self.number}",
            kind=own.kind,
            label=own.label,
            entity_id=own.entity_id,
            pair_type="generated",
            image=Asset(uri=uri, sha256=Path(uri).stem),
            origin=Origin(frame=own.origin.frame, generator=generator, prompt=prompt),
            caption_span=own.caption_span,
        )


def _png(picture: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()


def _line(key: str, said: dict[str, str]) -> str:
    return json.dumps({"key": key, **said}, ensure_ascii=True) + "\n"


def _read_journal(path: Path) -> dict[str, dict[str, str]]:
    """What was made before; a last line that a kill cut off is left out."""
    known: dict[str, dict[str, str]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} cannot be read ({error}); delete it") from error
    for line in lines:
        try:
            said = json.loads(line)
            known[said.pop("key")] = said
        except (ValueError, KeyError, AttributeError):
            continue
    return known
