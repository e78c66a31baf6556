"""Seconds per video and metric of the default grade, and memory, on videos of 81 frames at 832x480.

Seconds per metric are the processor's, of one thread, so that other work does not count.

    anyref evaluate fetch anyref-120
    python benchmarks/evaluation_speed.py bbb.mp4 WORK --videos 12 --loops 2

Videos are stretches of a film with the references of cases of anyref-120 moving over them, so that
every metric has something to see. They are scored twice: by `anyref evaluate` as a user would, with
as many workers as cores, for wall time and peak memory; and in this process metric by metric, with
what they share (decoding, cut-outs, detections, thumbs) timed apart and divided equally between
those that use it.

Then each metric runs as a straightforward script would: it decodes the video for itself, shares
nothing, and gives models one picture at a time; over the frames that ours looks at, and over every
frame. Slow loops over every frame are timed at 4 and 8 frames and continued in a straight line, the
others are run whole. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from PIL import Image

from anyref.evaluation.anyref_120 import FILE, benchmark_120
from anyref.evaluation.baselines import without_ground
from anyref.evaluation.benchmark import Case
from anyref.evaluation.decoding import FootageLimits, read_footage
from anyref.evaluation.metric import Footage, Metric
from anyref.evaluation.metrics import base, identity, metrics_of, motion, quality
from anyref.media import open_picture, write_video
from anyref.packages import default_cache
from anyref.perception.small import Grade, small_grade

FRAMES, HEIGHT, WIDTH, FPS = 81, 480, 832, 16
CATEGORY = "person, object, place"  # its cases have all kinds of references
SKIPPED_SECONDS = 20.0  # of the film's start
SUBJECT = 300  # pixels of a pasted subject's height
FEW, MORE = 4, 8  # frames at which loops over every frame are timed
QUICK = 3.0  # seconds over the frames that ours looks at, below which all frames are looped over
EXTRAPOLATED = 120  # videos
CONSTANTS = (
    (base, "NUM_VIEWS"),
    (identity, "NUM_FRAMES"),
    (quality, "NUM_FRAMES"),
    (motion, "SMOOTH_FRAMES"),
)
EVERY_FRAME = ("motion_amplitude", "frozen_frames", "flicker", "first_frame_flash")  # as they are

Made = TypeVar("Made")


def compose(film: Path, case: Case, number: int, count: int, target: Path) -> None:
    """A stretch of the film with the case's subjects moving over it."""
    assert case.request is not None
    pictures = [open_picture(r.images[0]) for r in case.request.references
                if r.kind != "background"]  # fmt: skip
    scaled = [p.resize((round(SUBJECT * p.width / p.height), SUBJECT)) for p in pictures]
    masks = [without_ground(p) for p in scaled]
    made = []
    for t, frame in enumerate(stretch(film, number, count)):
        canvas = Image.fromarray(frame)
        for place, (picture, mask) in enumerate(zip(scaled, masks, strict=True)):
            canvas.paste(picture, (40 + t + place * WIDTH // len(scaled), 120 + t % 9), mask)
        made.append(np.asarray(canvas))
    write_video(target, np.stack(made), FPS)


def stretch(film: Path, number: int, count: int) -> Iterator[np.ndarray]:
    """Frames of the film, the stretches evenly spread over it."""
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        length = float(container.duration / 1_000_000) - 2 * SKIPPED_SECONDS
        start = SKIPPED_SECONDS + length * number / (count + 1)
        container.seek(int(start / stream.time_base), stream=stream)
        for t, frame in enumerate(container.decode(stream)):
            if t == FRAMES:
                return
            wide = frame.reformat(round(HEIGHT * frame.width / frame.height), HEIGHT, "rgb24")
            pixels = wide.to_ndarray()
            left = (pixels.shape[1] - WIDTH) // 2
            yield np.ascontiguousarray(pixels[:, left : left + WIDTH])


@dataclass
class Clock:
    """Seconds by name; what is timed inside something else is not counted there."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    users: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _inner: list[float] = field(default_factory=list)

    def time(self, name: str, work: Callable[[], Made]) -> Made:
        """What the work returns."""
        start = time.process_time()
        self._inner.append(0.0)
        made = work()
        took = time.process_time() - start
        self.seconds[name] += took - self._inner.pop()
        if self._inner:
            self._inner[-1] += took
        return made


@dataclass(frozen=True, eq=False)
class TimedFootage(Footage):
    """Footage whose shared parts are timed, and note which metric uses them."""

    clock: Clock = field(default_factory=Clock)
    asking: list[str] = field(default_factory=list)
    _within: list[str] = field(default_factory=list)
    _uses: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """As of `Footage`."""
        if self._within:
            self._uses[self._within[-1]].add(name)
        self._note(name)
        if name not in self._made:
            self._within.append(name)
            self._made[name] = self.clock.time(name, make)
            self._within.pop()
            self._note(name)
        return self._made[name]

    def _note(self, name: str) -> None:
        """A metric uses what it asks for, and what that was made of."""
        self.clock.users[name].add(self.asking[-1])
        for part in self._uses[name]:
            self._note(part)


def ours(cases: Mapping[str, Case], videos: Mapping[str, Path], metrics: Sequence[Metric]) -> Clock:
    """All metrics on all videos in this process."""
    clock = Clock()
    for name, path in videos.items():
        plain = clock.time("decode", partial(read_footage, path, "", FootageLimits()))
        footage = TimedFootage(plain.frames, plain.fps, "", clock=clock)
        for metric in metrics:
            if metric.applies(cases[name]) is None:
                footage.asking.append(metric.spec.name)
                clock.users["decode"].add(metric.spec.name)
                clock.time(metric.spec.name, partial(metric.score, cases[name], footage))
    return clock


def shared_out(clock: Clock, metrics: Sequence[Metric]) -> dict[str, float]:
    """Seconds by metric, those of what is shared divided between its users."""
    totals = {metric.spec.name: clock.seconds[metric.spec.name] for metric in metrics}
    for name, users in clock.users.items():
        for user in users:
            totals[user] += clock.seconds[name] / len(users)
    return totals


@dataclass(frozen=True, eq=False)
class OneByOne:
    """A model that is given one picture at a time."""

    model: Any

    def __getattr__(self, name: str) -> Any:
        said = getattr(self.model, name)
        if name not in ("detect", "segment", "embed", "score", "name"):
            return said

        def call(pictures: Sequence[Any], *others: Sequence[Any] | None) -> Any:
            answers = [
                said([picture], *(None if o is None else [o[n]] for o in others))
                for n, picture in enumerate(pictures)
            ]
            if answers and isinstance(answers[0], np.ndarray):
                return np.concatenate(answers)
            return [one for answer in answers for one in answer] if answers else said(pictures)

        return call


def one_by_one(grade: Grade) -> Grade:
    """The same models, one picture at a time."""
    changed = {}
    for part in fields(grade):
        value = getattr(grade, part.name)
        if isinstance(value, tuple):
            changed[part.name] = tuple(OneByOne(one) for one in value)
        elif value is not None:
            changed[part.name] = OneByOne(value)
    return replace(grade, **changed)


@contextmanager
def looking_at(frames: int) -> Iterator[None]:
    """Metrics look at so many frames in this block."""
    before = [getattr(module, name) for module, name in CONSTANTS]
    for module, name in CONSTANTS:
        setattr(module, name, frames)
    try:
        yield
    finally:
        for (module, name), value in zip(CONSTANTS, before, strict=True):
            setattr(module, name, value)


def loop(case: Case, video: Path, metric: Metric) -> float:
    """Seconds of one metric that shares nothing."""
    start = time.process_time()
    metric.score(case, read_footage(video, "", FootageLimits()))
    return time.process_time() - start


def loops(case: Case, video: Path, metrics: Sequence[Metric]) -> dict[str, tuple[float, float]]:
    """Seconds over the frames that ours looks at, and over every frame, by metric."""
    found = {}
    for metric in metrics:
        if metric.applies(case) is None:
            same = loop(case, video, metric)
            if metric.spec.name in EVERY_FRAME:
                every = same
            elif same < QUICK:
                every = loop_over(FRAMES, case, video, metric)
            else:
                few, more = (loop_over(count, case, video, metric) for count in (FEW, MORE))
                every = more + (FRAMES - MORE) * max(0.0, (more - few) / (MORE - FEW))
            found[metric.spec.name] = same, max(same, every)
    return found


def loop_over(frames: int, case: Case, video: Path, metric: Metric) -> float:
    """Seconds of one metric that shares nothing and looks at so many frames."""
    with looking_at(frames):
        return loop(case, video, metric)


def as_user(work: Path, names: Sequence[str], workers: int) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak MiB of a process of `anyref evaluate`, nothing cached."""
    said = json.loads(FILE.read_text("utf-8"))
    said["cases"] = [case for case in said["cases"] if case["id"] in names]
    (work / "set.json").write_text(json.dumps(said))
    with tempfile.TemporaryDirectory(dir=work) as empty:
        command = [sys.executable, "-m", "anyref", "evaluate", str(work / "videos"),
                   "--benchmark", str(work / "set.json"), "--root", str(benchmark_120().root),
                   "--cache", str(default_cache("perception")), "--workers", str(workers),
                   "-o", str(work / "report")]  # fmt: skip
        start = time.perf_counter()
        environment = {**os.environ, "ANYREF_CACHE": empty}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def table(clock: Clock, metrics: Sequence[Metric], videos: int,
          looped: Sequence[Mapping[str, tuple[float, float]]]) -> Iterator[str]:  # fmt: skip
    """Seconds per video and metric, and the ratios to the loops."""
    totals = shared_out(clock, metrics)
    yield "| metric | s per video | alone | same frames, loop | times | every frame, loop | times |"
    yield "|---|---|---|---|---|---|---|"
    sums = np.zeros(3)
    for name, seconds in totals.items():
        found = [one[name] for one in looped if name in one]
        if not found:
            continue
        each, alone = seconds / videos, clock.seconds[name] / videos
        same, every = np.mean(found, axis=0)
        sums += each, same, every
        yield (f"| {name} | {each:.2f} | {alone:.2f} | {same:.2f} | {same / each:.1f} "
               f"| {every:.1f} | {every / each:.1f} |")  # fmt: skip
    each, same, every = sums
    ratios = f"{same:.2f} | {same / each:.1f} | {every:.1f} | {every / each:.1f}"
    yield f"| all | {each:.2f} | | {ratios} |"
    yield ""
    yield "| shared | s per video | by |"
    yield "|---|---|---|"
    for name, users in sorted(clock.users.items(), key=lambda item: -clock.seconds[item[0]]):
        yield f"| {name} | {clock.seconds[name] / videos:.2f} | {len(users)} metrics |"


def main() -> None:
    """Compose, score, loop, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("film", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--loops", type=int, default=2, help="videos that the loops run on")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    cases = {c.id: c for c in benchmark_120().cases if c.category == CATEGORY}
    names = list(cases)[: given.videos]
    if len(names) < given.videos:
        parser.error(f"there are {len(names)} cases; give --videos {len(names)} or fewer")
    videos = {name: given.work / "videos" / f"{name}.mp4" for name in names}
    for number, (name, path) in enumerate(videos.items()):
        if not path.is_file():
            compose(given.film, cases[name], number, given.videos, path)
    wall, busy, peak = as_user(given.work, names, given.workers)
    grade = small_grade(None, 1)
    metrics = metrics_of(grade)
    first = dict([next(iter(videos.items()))])
    ours(cases, first, metrics)  # loads the models
    clock = ours(cases, videos, metrics)
    scripts = metrics_of(one_by_one(grade))
    looped = [loops(cases[name], videos[name], scripts) for name in names[: given.loops]]
    print(f"{len(names)} videos, {FRAMES} frames of {WIDTH}x{HEIGHT}, {platform.processor()}, "
          f"Python {platform.python_version()}\n\n"
          f"`anyref evaluate`, {given.workers} workers, loading included: {wall:.0f} s, of the "
          f"processors {busy:.0f} s, {busy / len(names):.1f} s per video; for {EXTRAPOLATED} "
          f"{busy / len(names) * EXTRAPOLATED / given.workers / 60:.0f} min on as many cores as "
          f"workers; the largest process held {peak:.0f} MiB\n")  # fmt: skip
    print("\n".join(table(clock, metrics, len(names), looped)))


if __name__ == "__main__":
    main()
