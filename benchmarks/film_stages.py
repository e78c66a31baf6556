"""What each stage of the data engine takes of a film: video seconds per core second, share of time.

    python benchmarks/film_stages.py bbb.mp4 DATASET [--first 60]

Builds the dataset in one process, as `anyref data build --runner local` does. `--first` takes only
that many seconds of the film, copied without coding it anew.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import av

from anyref.data import engine
from anyref.data.dataset import Dataset
from anyref.data.flow import Work
from anyref.data.runners import Progress


def film_seconds(path: Path) -> float:
    """How long a film is."""
    with av.open(str(path)) as film:
        return float((film.duration or 0) / av.time_base)


def cut(path: Path, seconds: float, out: Path) -> Path:
    """The first seconds of a film's picture, packets as they are."""
    with av.open(str(path)) as film, av.open(str(out), "w") as made:
        source = film.streams.video[0]
        stream = made.add_stream_from_template(source)
        for packet in film.demux(source):
            if packet.dts is None or float(packet.pts * source.time_base) >= seconds:
                continue
            packet.stream = stream
            made.mux(packet)
    return out


def table(work: Mapping[str, Work], seconds: float) -> str:
    """Markdown: CPU seconds of each stage, its share, and video seconds of the film per CPU second.

    Args:
        seconds: of the film.
    """
    total = sum(done.cpu_seconds for done in work.values())
    lines = [
        "| stage | in | out | rejected | CPU s | share | film s per CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, done in work.items():
        cpu = max(done.cpu_seconds, 1e-6)
        lines.append(
            f"| {name} | {done.taken} | {done.given} | {done.rejected} | {cpu:.1f} | "
            f"{cpu / total:.1%} | {seconds / cpu:.2f} |"
        )
    lines.append(f"| all | | | | {total:.1f} | | {seconds / total:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("film", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--first", type=float)
    arguments = parser.parse_args()
    film: Path = arguments.film
    if arguments.first is not None:
        arguments.dataset.mkdir(parents=True, exist_ok=True)
        film = cut(film, arguments.first, arguments.dataset.with_suffix(f".film{film.suffix}"))
    seen: list[Progress] = []
    started = time.process_time()
    built = engine.build([film], arguments.dataset, on_progress=seen.append)
    whole = time.process_time() - started
    seconds = film_seconds(film)
    print(table(built.progress.work, seconds))
    kept = sum(s.video.num_frames / s.video.fps for s in Dataset.open(arguments.dataset).samples())
    print(f"\nfilm {seconds:.1f} s, clips in use {kept:.1f} s, the whole build {whole:.1f} CPU s")


if __name__ == "__main__":
    main()
