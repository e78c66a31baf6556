"""`anyref lab evaluate`: how well a model does on held-out clips of the cutout world.

Clip i with n subjects is a function of (seed, split, n, i) alone. Its video is made through the
public `generate` with the clip's own prompt and references. Beside the model's scores stand

    ceiling   the clip's true frames through the model's own VAE
    floor     the same video scored against the next clip: its truths, candidates, motions and scene

and in place of a model "ground-truth" can be evaluated: the true frames themselves, which shows
what the instrument can see at all.

A folder holds `settings.json` (what the records depend on), `clips.jsonl` (one record per clip,
synced as it is finished, so that a killed evaluation goes on where it stopped), `results.json` and
`sheets/`, pictures of the first clips.
"""

# Axes: T frames, Y X pixels

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from transformers.utils import logging as transformers_logging

from anyref.errors import LabError
from anyref.lab.catalog import Catalog, Split, load_catalog
from anyref.lab.scoring import Examiner, Frames, Scores, background_similarity
from anyref.lab.statistics import summarise
from anyref.lab.world import Clip, World, compose
from anyref.lora import Lora
from anyref.media import frame_sheet, open_picture, save_picture, write_atomically
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.generation import generate
from anyref.pipelines.loading import describe_model, load_pipeline, model_hash
from anyref.request import PixelShape, Reference, Request

GROUND_TRUTH = "ground-truth"  # in place of a model: how good the instrument is
GROUND_TRUTH_SIZE, GROUND_TRUTH_FRAMES = 96, 17
INSTRUMENT = 1  # raise it when a measure changes: older records are then refused
SHEETS = 4  # per number of subjects
COLUMNS = ("model", "ceiling", "floor")
METRICS = tuple(field.name for field in fields(Scores) if field.name != "found")

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is evaluated.

    Args:
        model: a shipped name or a model folder; "ground-truth" scores the true frames.
        size, num_frames: of the clips, pixels and delivered frames.
        steps: denoising steps, the model's own when None.
        wrong_references: give the next clip's pictures with this clip's words: what is right then
            comes from the words alone.
        cast: the only subjects that are asked for, by key or reference name; all of the split when
            empty. Candidates are drawn from the whole split in either case.
        loras: adapters on the model: path and strength of each.
    """

    model: str
    size: int
    num_frames: int
    split: Split = "test"
    seed: int = 0
    steps: int | None = None
    wrong_references: bool = False
    cast: tuple[str, ...] = ()
    loras: tuple[tuple[str, float], ...] = ()

    def settings(self) -> dict[str, Any]:
        """Everything that a record depends on."""
        weights = None
        if self.model != GROUND_TRUTH:
            weights = model_hash(describe_model(self.model).folder)
        files = [Lora(Path(path)).file for path, _ in self.loras]
        adapters = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        made_with = {"weights": weights, "adapters": adapters, "instrument": INSTRUMENT}
        return json.loads(json.dumps(asdict(self) | made_with))  # as it is read back


def make_protocol(
    model: str, *, size: int | None = None, num_frames: int | None = None, **options: Any
) -> Protocol:
    """A protocol whose sizes are the model's own where none are given.

    Raises:
        ModelError: for an unknown model. SizeError, LabError: for sizes it cannot make.
    """
    if model == GROUND_TRUTH:
        shape = (size or GROUND_TRUTH_SIZE, num_frames or GROUND_TRUTH_FRAMES)
    else:
        info = describe_model(model)
        height, width = info.defaults["height"], info.defaults["width"]
        if size is None and height != width:
            raise LabError(
                f"model {model!r} makes {width}x{height} by default, clips are square; give a size"
            )
        lead = info.rules.lead_frames
        shape = (size or height, num_frames or info.defaults["num_frames"] - lead)
        info.rules.check(PixelShape(info.rules.network_frames(shape[1]), shape[0], shape[0]))
    World(size=shape[0], num_frames=shape[1])
    return Protocol(model=model, size=shape[0], num_frames=shape[1], **options)


@dataclass(frozen=True)
class Session:
    """One process's model and catalogue.

    Args:
        folder: where sheets go.
        catalog: of the default cache when None.
    """

    protocol: Protocol
    folder: Path
    device: str | None = None
    catalog: Catalog | None = None

    @cached_property
    def pipe(self) -> AnyRefPipeline | None:
        """The model in float32, None for the ground truth."""
        if self.protocol.model == GROUND_TRUTH:
            return None
        for library in (diffusers_logging, transformers_logging):
            library.disable_progress_bar()
        return load_pipeline(
            self.protocol.model,
            dtype=torch.float32,
            device=self.device,
            loras=[Lora(Path(path), scale) for path, scale in self.protocol.loras],
        )

    @cached_property
    def _catalog(self) -> Catalog:
        return self.catalog or load_catalog()

    @cached_property
    def _examiners(self) -> dict[int, Examiner]:
        size, num_frames = self.protocol.size, self.protocol.num_frames
        return {
            n: Examiner(
                self._catalog,
                self.protocol.split,
                World(size=size, num_frames=num_frames, num_subjects=n, cast=self.protocol.cast),
            )
            for n in (1, 2, 3)
        }

    def clip(
        self, subjects: int, index: int, *, anyone: bool = False
    ) -> tuple[Clip, tuple[str, ...]]:
        """A clip and the keys of its candidates; of any subject where `anyone`."""
        protocol, examiner = self.protocol, self._examiners[subjects]
        rng = random.Random(f"evaluation/{protocol.split}/{protocol.seed}/{subjects}/{index}")
        world = replace(examiner.world, cast=()) if anyone else examiner.world
        clip = compose(rng, self._catalog, protocol.split, world)
        return clip, examiner.draw_candidates(rng, clip)

    def other_clip(self, subjects: int, index: int) -> tuple[Clip, tuple[str, ...]]:
        """The next clip that shares no subject with this one."""
        keys = {actor.key for actor in self.clip(subjects, index)[0].actors}
        for later in range(index + 1, index + 100):
            clip, candidates = self.clip(subjects, later, anyone=bool(self.protocol.cast))
            if not keys & {actor.key for actor in clip.actors}:
                return clip, candidates
        raise LabError(f"the {self.protocol.split} split has too few subjects; use another split")

    def run(self, task: tuple[int, int]) -> Record:
        """Make and measure one clip: (subjects, index)."""
        subjects, index = task
        examiner = self._examiners[subjects]
        clip, candidates = self.clip(subjects, index)
        other, other_candidates = self.other_clip(subjects, index)
        start = time.perf_counter()
        made = self._make(clip, other, subjects, index)
        made_at = time.perf_counter()
        record: Record = {
            "subjects": subjects,
            "index": index,
            "prompt": clip.prompt,
            "asked": [actor.key for actor in clip.actors],
            "motions": [actor.motion.value for actor in clip.actors],
            "background": clip.background,
            "model": asdict(examiner.score(made, clip, candidates)),
            "floor": asdict(examiner.score(made, other, other_candidates)),
        }
        if self.pipe is not None:
            through = through_vae(self.pipe, clip.frames)
            record["ceiling"] = asdict(examiner.score(through, clip, candidates))
            record["vae_psnr"] = psnr(through, clip.frames)
        record["reference_background"] = _copied_background(clip)
        measured_at = time.perf_counter()
        record["seconds"] = {"make": made_at - start, "measure": measured_at - made_at}
        if index < SHEETS:
            sheet = _sheet(clip, made)
            save_picture(self.folder / "sheets" / f"{subjects}-{index:03d}.png", sheet)
        return record

    def _make(self, clip: Clip, other: Clip, subjects: int, index: int) -> Frames:
        if self.pipe is None:
            return clip.frames
        references = clip.references
        if self.protocol.wrong_references:
            references = _with_pictures_of(references, other.references)
        request = Request(
            prompt=clip.prompt,
            references=references,
            seed=self.protocol.seed * 1_000_000 + subjects * 100_000 + index,
            height=self.protocol.size,
            width=self.protocol.size,
            num_frames=self.protocol.num_frames,
            num_inference_steps=self.protocol.steps,
        )
        return generate(self.pipe, request).frames


def _with_pictures_of(
    references: tuple[Reference, ...], others: tuple[Reference, ...]
) -> tuple[Reference, ...]:
    """The names and words of `references` with the pictures of `others`, as far as there are."""
    pictures = [*others[: len(references)], *references[len(others) :]]
    return tuple(
        Reference(images=p.images, name=r.name, kind=r.kind, text=r.text)
        for r, p in zip(references, pictures, strict=True)
    )


def through_vae(pipe: AnyRefPipeline, frames: Frames) -> Frames:
    """Frames (T, Y, X, 3) encoded and decoded by the model's VAE."""
    pixels = torch.from_numpy(frames).to(pipe.vae.device, torch.float32) / 127.5 - 1  # (T, Y, X, 3)
    latents = pipe.encode_video(pixels.permute(3, 0, 1, 2)[None])  # (1, C, F, H, W)
    decoded = pipe.decode_latents(latents)[0, :, : len(frames)]  # (3, T, Y, X)
    scaled = (decoded.float().permute(1, 2, 3, 0) + 1) * 127.5
    return scaled.round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def psnr(one: Frames, other: Frames) -> float:
    """Peak signal-to-noise ratio of two videos in dB, from the mean square over all pixels."""
    error = float(((one.astype(np.float32) - other.astype(np.float32)) ** 2).mean())
    return 10 * math.log10(255**2 / max(error, 1e-3))


def _copied_background(clip: Clip) -> float | None:
    """Background similarity of the reference picture itself: what a model that copies it gets."""
    if clip.background is None:
        return None
    picture = np.asarray(open_picture(clip.references[-1].images[0]))  # (Y, X, 3)
    return background_similarity(np.repeat(picture[None], len(clip.frames), axis=0), clip)


def _sheet(clip: Clip, made: Frames) -> Image.Image:
    """References and frames: as they were composed, then as they were made."""
    pictures = [open_picture(r.images[0]) for r in clip.references]
    rows = [
        frame_sheet(clip.frames, pictures, clip.prompt, cell=128),
        frame_sheet(made, pictures, cell=128),
    ]
    page = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    page.paste(rows[0], (0, 0))
    page.paste(rows[1], (0, rows[0].height))
    return page


def evaluate(
    protocol: Protocol,
    folder: Path,
    *,
    subjects: tuple[int, ...] = (1, 2, 3),
    clips: int = 100,
    workers: int = 1,
    device: str | None = None,
    catalog: Catalog | None = None,
    on_clip: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Make and measure what is not yet in the folder; the results over all clips asked for.

    Args:
        clips: per number of subjects.
        workers: processes, one thread each; 1 works in this process.
        on_clip: called with clips done and clips in all.

    Raises:
        LabError: when the folder holds clips of other settings, or a worker dies.
    """
    if clips < 1 or workers < 1 or not set(subjects) <= {1, 2, 3} or not subjects:
        raise LabError(
            f"{clips} clips of {subjects} subjects by {workers} workers cannot be evaluated; use "
            "at least 1 clip and 1 worker, and 1, 2 or 3 subjects"
        )
    _check_settings(protocol, folder)
    records = read_records(folder / "clips.jsonl")
    wanted = [(n, i) for i in range(clips) for n in sorted(set(subjects))]
    missing = [task for task in wanted if task not in records]
    session = Session(protocol, folder, device, catalog)
    with (folder / "clips.jsonl").open("a", encoding="utf-8") as file:
        for count, record in enumerate(_run(session, missing, workers), 1):
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
            records[record["subjects"], record["index"]] = record
            if on_clip is not None:
                on_clip(len(wanted) - len(missing) + count, len(wanted))
    results = {
        "settings": protocol.settings(),
        **summarise([records[task] for task in wanted], METRICS, COLUMNS),
    }
    text = json.dumps(results, indent=2).encode()
    write_atomically(folder / "results.json", lambda file: file.write(text))
    return results


def _check_settings(protocol: Protocol, folder: Path) -> None:
    settings, path = protocol.settings(), folder / "settings.json"
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        for name in settings:
            if known.get(name) != settings[name]:
                raise LabError(
                    f"{str(folder)!r} holds clips with {name} {known.get(name)!r}, this evaluation "
                    f"has {settings[name]!r}; give another folder or delete this one"
                )
        return
    text = json.dumps(settings, indent=2).encode()
    write_atomically(path, lambda file: file.write(text))


def read_records(path: Path) -> dict[tuple[int, int], Record]:
    """Finished clips by (subjects, index); a line that a kill cut short is removed."""
    if not path.is_file():
        return {}
    lines = path.read_bytes().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    if len(whole) != len(lines):
        write_atomically(path, lambda file: file.write(b"".join(whole)))
    records = [json.loads(line) for line in whole]
    return {(record["subjects"], record["index"]): record for record in records}


def _run(session: Session, tasks: list[tuple[int, int]], workers: int) -> Iterator[Record]:
    if workers == 1 or len(tasks) < 2:
        yield from map(session.run, tasks)
        return
    pool = ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_start_worker, initargs=(session,)
    )
    try:
        yield from pool.map(_run_in_worker, tasks)
    except BrokenProcessPool as error:
        raise LabError(
            f"one of {workers} workers died, perhaps of too little memory; run the command again "
            "(finished clips are kept), with fewer workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker: list[Session] = []  # this process's session, when it is a worker


def _start_worker(session: Session) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _worker.append(session)


def _end_with_parent() -> None:
    """A killed parent cannot stop its workers, and they would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(task: tuple[int, int]) -> Record:
    return _worker[-1].run(task)
