"""Time and memory of `complete` on a made dataset of many clips.

python benchmarks/completion_scale.py FOLDER --clips 100000 [--no-files]

Every clip shows two of clips / 10 characters in two pictures each, in sources of 100 clips; one
clip in 50 is a copy. Making it takes seven files per clip, of which none is waited for; a folder
that holds a dataset is used as it is. With --no-files vectors are made when they are asked for, and
pictures are not looked at (no colours): what is left is the work that grows faster than the number
of clips, and all that stays in memory. Results: completion_scale.md.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import casts
from anyref.data.completion import Completed, CompletionSettings, complete
from anyref.data.gallery import CLIP_FEATURES, FEATURES, Gallery
from anyref.data.identities import IdentitySettings
from anyref.data.rows import Row
from casts import Role, Scene, write_cast


def scene(number: int, clips: int) -> Scene:
    characters = max(4, clips // 10)
    first = number * 7919 % characters
    return Scene(
        id=f"c{number:07}",
        uri=f"{number // 100:05}.mp4",
        start=20 * (number % 100),
        roles=(
            Role(who=first + 10, noise=0.4),
            Role(who=(first + 1) % characters + 10, noise=0.4),
        ),
        shows=number - 1 if number % 50 == 49 else number,
        background=False,
    )


def scenes(clips: int) -> Iterator[Scene]:
    for number in range(clips):
        yield scene(number, clips)


def vectors_of(row: Row, name: str, clips: int, width: int) -> np.ndarray | None:
    """What the asset would hold, repeated to that width: angles stay."""
    shown = scene(int(row.id[1:]), clips)
    if name == CLIP_FEATURES:
        return np.tile(casts.direction(shown.shows), width // casts.FEATURES)
    if name == FEATURES:
        views = [
            casts.near(role.who, role.noise, f"{shown.id}/{number}/{view}")
            for number, role in enumerate(shown.roles, start=1)
            for view in range(role.views)
        ]
        return np.tile(np.asarray(views, np.float32), width // casts.FEATURES)
    return None


def without_files(stack: ExitStack, clips: int, width: int) -> None:
    """Make rows name one empty file, and vectors when they are asked for."""
    for name in ("png", "npy"):
        stack.enter_context(mock.patch(f"casts.{name}", lambda value: b""))  # noqa: ARG005
    stack.enter_context(mock.patch("casts.cutout", lambda who, seed: None))  # noqa: ARG005
    stack.enter_context(
        mock.patch.object(
            Gallery,
            "_read",
            lambda gallery, row, name: vectors_of(row, name, clips, width),  # noqa: ARG005
        )
    )


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def timed(folder: Path, settings: CompletionSettings) -> tuple[float, float, Completed]:
    started = time.perf_counter(), time.process_time()
    report = complete(folder, settings)
    return time.perf_counter() - started[0], time.process_time() - started[1], report


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--no-files", action="store_true")
    parser.add_argument("--width", type=int, default=32, help="numbers per vector, of no files")
    parser.add_argument("--calls", type=int, default=2)
    given = parser.parse_args()
    settings = CompletionSettings(synthesis=None)
    with ExitStack() as stack:
        if given.no_files:
            without_files(stack, given.clips, given.width)
            settings = CompletionSettings(
                synthesis=None, identities=IdentitySettings(colour_share=0)
            )
        if not (given.folder / "manifest.json").exists():
            with mock.patch("os.fsync"):
                write_cast(given.folder, scenes(given.clips))
        print(f"{given.clips} clips, {peak_mib():.0f} MiB before", flush=True)
        for call in range(1, given.calls + 1):
            wall, cpu, report = timed(given.folder, settings)
            told = f"call {call}: {wall:.1f} s, {cpu:.1f} s of CPU, peak {peak_mib():.0f} MiB"
            print(f"{told}: {report}", flush=True)


if __name__ == "__main__":
    main()
