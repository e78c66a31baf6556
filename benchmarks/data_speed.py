"""The data engine against a straightforward script over the same models: CPU seconds per record.

    python benchmarks/data_speed.py bbb.mp4 WORK --cuts 30:50 200:220 400:420 --rounds 2

Takes cuts of a film (packets as they are), gives them to `data_speed_baseline.py` and to `anyref
data build --runner local` by turns, and adds up what the processes took, user and system time,
loading included. A record is a clip that was looked at, kept or not. The engine runs twice, the
second time without rules: then no record ends early, and all go through all stages. Prints a
Markdown table.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from anyref.data.dataset import Dataset

BASELINE = Path(__file__).with_name("data_speed_baseline.py")


@dataclass(frozen=True)
class Took:
    """What one run took. clips: that were looked at."""

    clips: int
    cpu: float
    wall: float

    @property
    def each(self) -> float:
        """CPU seconds per record."""
        return self.cpu / max(1, self.clips)


def cut(film: Path, first: float, last: float, out: Path) -> Path:
    """The picture of a film from the key frame before a time on, packets as they are."""
    with av.open(str(film)) as opened, av.open(str(out), "w") as made:
        source = opened.streams.video[0]
        stream = made.add_stream_from_template(source)
        opened.seek(int(first / source.time_base), stream=source)
        begin: int | None = None
        for packet in opened.demux(source):
            if packet.dts is None or packet.pts is None:
                continue
            begin = packet.pts if begin is None else begin
            if float(packet.pts * source.time_base) >= last:
                break
            packet.pts, packet.dts, packet.stream = packet.pts - begin, packet.dts - begin, stream
            made.mux(packet)
    return out


def run(command: Sequence[str], log: Path) -> tuple[float, float]:
    """CPU and wall seconds of a command and all its children."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started, before = time.perf_counter(), os.times()
    with log.open("w") as file:
        subprocess.run(command, check=True, stdout=file, stderr=file, env=environment)
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return cpu, time.perf_counter() - started


def baseline(films: Sequence[Path], work: Path) -> Took:
    out, log = work / "baseline", work / "baseline.log"
    shutil.rmtree(out, ignore_errors=True)
    names = [str(film) for film in films]
    cpu, wall = run([sys.executable, str(BASELINE), str(out), *names], log)
    return Took(int(log.read_text().split()[-1]), cpu, wall)


def engine(films: Sequence[Path], work: Path, *, keep_all: bool) -> Took:
    """keep_all: no rule ends a record, so that all go through all stages."""
    out, log = work / "engine", work / "engine.log"
    shutil.rmtree(out, ignore_errors=True)
    names = [str(film) for film in films]
    command = [sys.executable, "-m", "anyref", "data", "build", *names, "-o", str(out)]
    if keep_all:
        recipe = work / "keep-all.yaml"
        recipe.write_text("rules: []\n")
        command += ["--recipe", str(recipe)]
    cpu, wall = run([*command, "--runner", "local"], log)
    rows = Dataset.open(out).rows()
    return Took(sum("clip" in row.assets for row in rows), cpu, wall)


def table(rounds: Sequence[Mapping[str, Took]]) -> str:
    """The runs by turns, and the medians."""
    lines = [
        "| | records | CPU s | wall s | CPU s per record | records per core-second |",
        "|---|---|---|---|---|---|",
    ]
    for number, runs in enumerate(rounds, start=1):
        for name, took in runs.items():
            lines.append(
                f"| {name}, round {number} | {took.clips} | {took.cpu:.1f} | {took.wall:.1f} | "
                f"{took.each:.2f} | {1 / took.each:.3f} |"
            )
    medians = {name: statistics.median(runs[name].each for runs in rounds) for name in rounds[0]}
    lines.append("")
    for name, each in medians.items():
        times = f"{medians['script'] / each:.2f} times the script's records per core-second"
        lines.append(f"{name}: median {each:.2f} CPU s per record, {times}")
    return "\n".join(lines)


def machine() -> str:
    """What it ran on."""
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    load = os.getloadavg()[0]
    name = names[0] if names else platform.machine()
    return f"{name}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("film", type=Path)
    parser.add_argument("work", type=Path, help="folder for the cuts and what is made of them")
    parser.add_argument("--cuts", nargs="+", default=["30:50", "200:220", "400:420"])
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    films = []
    for text in given.cuts:
        first, last = map(float, text.split(":"))
        films.append(cut(given.film, first, last, given.work / f"cut-{first:g}-{last:g}.mp4"))
    print(machine(), flush=True)
    rounds: list[dict[str, Took]] = []
    for _ in range(given.rounds):
        runs = {
            "engine": engine(films, given.work, keep_all=False),
            "script": baseline(films, given.work),
            "engine without rules": engine(films, given.work, keep_all=True),
        }
        rounds.append(runs)
        print(runs, flush=True)
    print(table(rounds))


if __name__ == "__main__":
    main()
