"""Time and memory of `complete` on a made dataset of many clips.

python benchmarks/completion_scale.py FOLDER --clips 100000

Every clip shows two of clips / 10 characters in two pictures each, in sources of 100 clips; one
clip in 50 is a copy. Making it takes four files per clip; a folder that holds a dataset is used as
it is.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from anyref.data.completion import CompletionSettings, complete
from casts import Role, Scene, write_cast


def scenes(clips: int) -> Iterator[Scene]:
    characters = max(4, clips // 10)
    for number in range(clips):
        first = number * 7919 % characters
        copied = number - 1 if number % 50 == 49 else number
        yield Scene(
            id=f"c{number:07}",
            uri=f"{number // 100:05}.mp4",
            start=20 * (number % 100),
            roles=(
                Role(who=first + 10, noise=0.4),
                Role(who=(first + 1) % characters + 10, noise=0.4),
            ),
            shows=copied,
            background=False,
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=2000)
    arguments = parser.parse_args()
    if not (arguments.folder / "manifest.json").exists():
        write_cast(arguments.folder, scenes(arguments.clips))
    for turn in ("first call", "second call"):
        started = time.perf_counter(), time.process_time()
        report = complete(arguments.folder, CompletionSettings(synthesis=None))
        wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{turn}: {wall:.1f} s, {cpu:.1f} s of CPU, peak {peak:.2f} GiB: {report}")


if __name__ == "__main__":
    main()
