"""Clips of the cutout world as training shards, in several processes, resumable."""

# Axes: T frames, Y X pixels

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from math import inf
from pathlib import Path

from anyref import __version__
from anyref.data.captions import spell_out
from anyref.data.record import (
    Caption,
    Origin,
    Provenance,
    Sample,
    SampleReference,
    Tags,
    Video,
    sample_id,
)
from anyref.data.shards import (
    MAX_SAMPLES,
    PackedSample,
    bucket_name,
    parse_sidecar,
    sidecar_path,
    write_shard,
)
from anyref.errors import LabError, TrainingError
from anyref.lab.catalog import Catalog, Split, load_catalog
from anyref.lab.world import FPS, Clip, World, compose
from anyref.media import encode_video, write_atomically
from anyref.request import Picture

SETTINGS_FILE = "world.json"


@dataclass(frozen=True, kw_only=True)
class LabClips:
    """An endless series of clips; clip i follows from these values and i alone.

    Args:
        world_weights: share of clips by number of subjects (1, 2 or 3), ascending.
        size: frame side in pixels. cast: subjects that may appear, see `World`.

    Raises:
        LabError: for shares that are not positive, or a world that cannot be drawn.
    """

    split: Split
    world_weights: tuple[tuple[int, float], ...]
    size: int = 96
    num_frames: int = 17
    seed: int = 0
    cast: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.world_weights or any(not 0 < share < inf for _, share in self.world_weights):
            raise LabError(
                f"world_weights {dict(self.world_weights)} must be positive shares by number of "
                "subjects, as in {1: 0.5, 2: 0.5}"
            )
        for count, _ in self.world_weights:
            World(size=self.size, num_frames=self.num_frames, num_subjects=count)

    def world(self, index: int) -> World:
        """How clip `index` looks."""
        rng = random.Random(f"{self.seed}/{self.split}/{index}/subjects")
        counts, weights = zip(*self.world_weights, strict=True)
        count = rng.choices(counts, weights)[0]
        return World(size=self.size, num_frames=self.num_frames, num_subjects=count, cast=self.cast)

    def clip(self, catalog: Catalog, index: int) -> Clip:
        """Clip `index`, the same on every machine."""
        rng = random.Random(f"{self.seed}/{self.split}/{index}")
        return compose(rng, catalog, self.split, self.world(index))


def write_lab_shards(
    folder: str | Path,
    *,
    clips: int,
    split: Split,
    world_weights: Mapping[int, float],
    size: int = 96,
    num_frames: int = 17,
    seed: int = 0,
    cast: Sequence[str] = (),
    processes: int = 2,
    catalog: Catalog | None = None,
    clips_per_shard: int = MAX_SAMPLES,
    on_shard: Callable[[Path], object] | None = None,
) -> tuple[Path, ...]:
    """Compose clips 0 to `clips` - 1 of a split and write them as shards.

    Whole shards that are there already are kept, so that a killed or a longer run goes on. Scripts
    that use several processes need the usual `if __name__ == "__main__"`.

    Args:
        world_weights: share of clips by number of subjects, such as {1: 0.5, 2: 0.3, 3: 0.2}.
        size: frame side in pixels. cast: subjects that may appear, by key or reference name; all
            of the split when empty. catalog: the fetched packages' by default.
        on_shard: is told of every shard as it is finished.

    Returns:
        the paths of all shards, in order.

    Raises:
        LabError: for shares that are not positive, or a folder made from other settings.
    """
    if clips < 1:
        raise LabError(f"{clips} clips asked for; ask for at least 1")
    series = LabClips(
        split=split,
        world_weights=tuple(sorted(world_weights.items())),
        size=size,
        num_frames=num_frames,
        seed=seed,
        cast=tuple(cast),
    )
    catalog = catalog or load_catalog()
    _claim(Path(folder), series, catalog, clips_per_shard)
    jobs = _parts(Path(folder) / bucket_name((size, size, num_frames)), clips, clips_per_shard)
    missing = {path: part for path, part in jobs.items() if not _is_done(path, len(part))}
    for path in _write_all(series, catalog, missing, processes):
        if on_shard is not None:
            on_shard(path)
    return tuple(jobs)


def _parts(bucket: Path, clips: int, clips_per_shard: int) -> dict[Path, range]:
    """The clips of every shard."""
    jobs = {
        bucket / f"{n:06d}.tar": range(first, min(first + clips_per_shard, clips))
        for n, first in enumerate(range(0, clips, clips_per_shard))
    }
    if extra := sorted(set(bucket.glob("*.tar")) - set(jobs)):
        raise LabError(
            f"{str(extra[0])!r} is beyond the {clips} clips asked for; ask for as many as before "
            "or use another folder"
        )
    return jobs


def _write_all(
    series: LabClips, catalog: Catalog, jobs: Mapping[Path, range], processes: int
) -> Iterator[Path]:
    """Write every shard of `jobs`, yielding its path when it is finished."""
    if processes < 2 or len(jobs) < 2:
        for path, part in jobs.items():
            yield _write_part(series, catalog, path, part)
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(min(processes, len(jobs)), mp_context=context) as pool:
        running = [pool.submit(_write_part, series, catalog, *job) for job in jobs.items()]
        for done in as_completed(running):
            yield done.result()


def _claim(folder: Path, series: LabClips, catalog: Catalog, clips_per_shard: int) -> None:
    """Write down what the folder is made from, or check that it is the same."""
    keys = [entry.key for entry in catalog.subjects(series.split)]
    keys += [entry.key for entry in catalog.backgrounds(series.split)]
    settings = {
        "split": series.split,
        "world_weights": {str(count): share for count, share in series.world_weights},
        "size": series.size,
        "num_frames": series.num_frames,
        "seed": series.seed,
        "cast": list(series.cast),
        "clips_per_shard": clips_per_shard,
        "catalog": hashlib.sha256("\n".join(keys).encode()).hexdigest(),
    }
    file = folder / SETTINGS_FILE
    text = json.dumps(settings, indent=2).encode()
    if not file.is_file():
        write_atomically(file, lambda opened: opened.write(text))
        return
    try:
        before = json.loads(file.read_bytes())
    except ValueError as error:
        raise LabError(f"{str(file)!r} is not JSON; use another folder") from error
    for name, value in settings.items():
        if before.get(name) != value:
            raise LabError(
                f"{str(folder)!r} holds shards with {name} {before.get(name)!r}, not {value!r}; "
                "use another folder"
            )


def _is_done(path: Path, count: int) -> bool:
    """Whether the shard is there with all its clips."""
    sidecar = Path(sidecar_path(str(path)))
    if not (path.is_file() and sidecar.is_file()):
        return False
    try:
        return len(parse_sidecar(sidecar.read_bytes(), str(path))) == count
    except TrainingError:
        return False


def _write_part(series: LabClips, catalog: Catalog, path: Path, part: range) -> Path:
    write_shard(path, (pack_clip(series, catalog, series.clip(catalog, i), i) for i in part))
    return path


def pack_clip(series: LabClips, catalog: Catalog, clip: Clip, index: int) -> PackedSample:
    """Clip `index` as a record with its video and pictures.

    The subjects' boxes become tracks; entity ids are the reference names.
    """
    frames, height, width, _ = clip.frames.shape
    text, spans = spell_out(clip.prompt, clip.references)
    references = tuple(_records_of(clip, spans))
    # the number of subjects is drawn by shares, which two series of one seed may not have in common
    uri = f"cutout-world/{series.seed}/{series.split}/{len(clip.actors)}/{index}"
    record = Sample(
        id=sample_id(uri, 0, frames, (0, 0, width, height)),
        source_key=uri,
        video=Video(end=frames, fps=FPS, num_frames=frames, width=width, height=height),
        captions=(Caption(text=text, kind="template", model="anyref.lab.captions"),),
        tags=_tags(references),
        references=references,
        split=series.split,
        license=_licence(clip, catalog),
        provenance=(Provenance(stage="compose", tool="anyref.lab.world", version=__version__),),
    )
    return PackedSample(
        record=record,
        # drawn edges are sharp: halved chroma would cost them 12 dB
        video=encode_video(clip.frames, FPS, full_chroma=True),
        references=tuple(_png(reference.images[0]) for reference in clip.references),
    )


def _records_of(clip: Clip, spans: Mapping[str, tuple[int, int]]) -> Iterator[SampleReference]:
    tracks = {actor.name: actor.boxes.tolist() for actor in clip.actors}
    for k, reference in enumerate(clip.references):
        name = reference.name or ""
        track = tracks.get(name)
        yield SampleReference(
            ref_id=f"r{k}",
            kind=reference.kind,
            label=reference.words,
            entity_id=name,
            origin=Origin(frame=0),
            bbox_xyxy=track[0] if track else None,
            caption_span=spans[name],
            track=track,
        )


def _tags(references: Sequence[SampleReference]) -> Tags:
    by_role: dict[str, tuple[str, ...]] = {}
    for reference in references:
        role = {"human": "subject", "background": "background"}.get(reference.kind, "object")
        by_role[role] = (*by_role.get(role, ()), reference.label)
    return Tags(**by_role)


def _licence(clip: Clip, catalog: Catalog) -> str:
    """The licences of everything the clip shows, joined by AND."""
    licences = {entry.key: entry.licence for entry in catalog.all_subjects}
    licences |= {entry.key: entry.licence for entry in catalog.all_backgrounds}
    shown = [actor.key for actor in clip.actors] + ([clip.background] if clip.background else [])
    return " AND ".join(sorted({licences[key] for key in shown}))


def _png(picture: Picture) -> bytes:
    """The reference picture as PNG, alpha kept."""
    if isinstance(picture, Path):
        return picture.read_bytes()
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
