"""Memory of the data engine while records stream through it: is the line flat?

    python benchmarks/data_memory.py --records 100000 --runner local -o benchmarks/data_memory.json

Synthetic sources of 1,000 records each pass through four stages, one of them batched, with a small
array as payload. The resident memory of the process (and of Ray's workers, all together) is noted
some twenty times and saved, as [records, MiB] pairs, for a plot.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from anyref.data.record import Caption, Sample, Video, sample_id
from anyref.data.runners import Progress, RaySettings, Runner, run
from anyref.data.sources import Source
from anyref.data.stages import Item, Stage
from anyref.data.thresholds import Recipe, Rule

PER_SOURCE = 1000
POINTS = 20
PAGE = os.sysconf("SC_PAGE_SIZE")


def cut(item: Item) -> Iterator[Item]:
    """A source into records, each with 32 x 32 pixels."""
    for number in range(PER_SOURCE):
        pixels = np.full((32, 32, 3), number % 256, np.uint8)
        yield item.child(sample_id(item.source.uri, number, number + 1)).hold(pixels=pixels)


def look(items: Sequence[Item]) -> list[Item]:
    """Brightness of a batch."""
    means = np.stack([item.payload["pixels"] for item in items]).mean(axis=(1, 2, 3)) / 255
    return [item.measure(brightness=mean) for item, mean in zip(items, means, strict=True)]


def describe(item: Item) -> Item:
    """A small record."""
    record = Sample(
        id=item.id,
        video=Video(end=1, fps=1, num_frames=1, width=32, height=32),
        captions=(Caption(text="one grey square"),),
    )
    return item.drop("pixels").record_as(record)


STAGES = (
    Stage(name="cut", function=cut, spread=64),
    Stage(name="look", function=look, batch_size=32, measures=("brightness",)),
    Stage(name="describe", function=describe),
)
RECIPE = Recipe(rules=(Rule(measurement="brightness", at_least=0.1),))


def family() -> Iterator[Path]:
    """This process and all that descend from it, as folders of /proc."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
        except OSError:
            continue
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return (Path(f"/proc/{number}") for number in found)


def resident_mib(folder: Path) -> float:
    """Private resident memory: what the process shares (Ray's object store) is left out."""
    try:
        _, resident, shared = (folder / "statm").read_text().split()[:3]
    except OSError:
        return 0.0
    return (int(resident) - int(shared)) * PAGE / 2**20


def measure(records: int, runner: Runner) -> list[tuple[int, float, float]]:
    """Records so far, MiB of this process, MiB of its workers."""
    points: list[tuple[int, float, float]] = []

    def note(progress: Progress) -> None:
        done = progress.accepted + sum(progress.rejected.values())
        if points and done - points[-1][0] < records / POINTS and not progress.finished:
            return
        own = resident_mib(Path("/proc/self"))
        points.append((done, round(own, 1), round(sum(map(resident_mib, family())) - own, 1)))

    sources = (Source.of(f"synthetic://{n:06d}") for n in range(-(-records // PER_SOURCE)))
    with tempfile.TemporaryDirectory() as folder:
        run(
            sources,
            STAGES,
            folder,
            recipe=RECIPE,
            runner=runner,
            ray=RaySettings(cpus=2, gpus=0, object_store_mb=100),
            on_progress=note,
        )
    return points


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--runner", choices=["local", "ray"], default="local")
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    points = measure(given.records, given.runner)
    result = {
        "records": given.records,
        "runner": given.runner,
        "python": platform.python_version(),
        "columns": ["records", "process_mib", "workers_mib"],
        "points": points,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{given.out}: {points[0]} ... {points[-1]}")


if __name__ == "__main__":
    main()
