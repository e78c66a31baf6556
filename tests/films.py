"""Films of text, and stages that take them apart: the data engine without a model.

A film is a file of lines "<word> <brightness> <detail>", each a shot. As a script it makes a
dataset of them, for tests that kill it.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from functools import partial
from pathlib import Path

from anyref.data.dataset import Dataset
from anyref.data.record import Asset, Caption, Sample, SampleReference, Video, sample_id
from anyref.data.runners import RaySettings, run
from anyref.data.stages import Blob, Rejection, Stage
from anyref.data.thresholds import Recipe, Rule

RECIPE = Recipe(
    rules=(
        Rule(measurement="brightness", at_least=0.2),
        Rule(measurement="detail", at_most=0.9, stop=False),
    )
)
RAY = RaySettings(cpus=2, gpus=0, object_store_mb=100)


def write_films(folder, films=4, shots=10):
    folder.mkdir(parents=True, exist_ok=True)
    for f in range(films):
        lines = [f"w{f}-{s} {(f * 7 + s) % 10 / 10} {(f + 3 * s) % 10 / 10}" for s in range(shots)]
        (folder / f"film{f:03d}.mp4").write_text("\n".join(lines))
    return folder


def cut(item):
    """One item per line, as they are asked for."""
    with item.source.path.open() as file:
        for number, line in enumerate(file):
            word, brightness, detail = line.split()
            if word == "short":
                yield Rejection("cut", "too short", 1, 2)
                continue
            name = sample_id(item.source.uri, number, number + 1)
            yield item.child(name).hold(word=word, levels=(float(brightness), float(detail)))


class Look:
    """Brightness, in batches; `load` is what a model would be."""

    def __init__(self, seconds=0.0, killer=None):
        self.seconds, self.killer = seconds, killer

    def __call__(self, items):
        time.sleep(self.seconds)
        if any(item.payload["word"] == "boom" for item in items):
            raise ValueError("this shot explodes")
        for item in items:
            if item.payload["word"] == "kill" and not self.killer.exists():
                self.killer.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return [item.measure(brightness=item.payload["levels"][0]) for item in items]


def keep(item, log=None):
    if log is not None:
        with log.open("a") as file:
            file.write(f"{item.id}\n")
    clip = Blob(item.payload["word"].encode() * 10, "mp4")
    return item.hold(clip=clip).measure(detail=item.payload["levels"][1])


def describe(item):
    picture = Blob(item.payload["clip"].read()[:3], "png")
    record = Sample(
        id=item.id,
        video=Video(
            uri=item.payload["clip"].asset.uri, end=9, fps=24, num_frames=9, width=64, height=64
        ),
        captions=(Caption(text=f"a {item.payload['word']}"),),
        references=(
            SampleReference(
                ref_id="r0",
                kind="object",
                label="word",
                entity_id="e",
                image=Asset(uri=picture.asset.uri, sha256=picture.asset.sha256),
            ),
        ),
    )
    return item.hold(picture=picture).record_as(record)


def stages(seconds=0.0, killer=None, mixes=False, log=None):
    """log: a file of the ids that `keep` was given."""
    look = Stage(
        name="look",
        load=lambda: Look(seconds, killer),
        batch_size=3,
        mixes_sources=mixes,
        measures=("brightness",),
        tool="eye",
        version="1",
    )
    return (
        Stage(name="cut", function=cut, spread=4),
        look,
        Stage(
            name="keep",
            function=partial(keep, log=log),
            measures=("detail",),
            settings={"times": 10},
        ),
        Stage(name="describe", function=describe),
    )


def tree(folder):
    """Every file that belongs to the dataset, with its bytes."""
    files = (p for p in Path(folder).rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("films")
    parser.add_argument("out")
    parser.add_argument("--runner", default="local")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--log", type=Path)
    given = parser.parse_args()
    run(
        [given.films],
        stages(given.seconds, log=given.log),
        given.out,
        recipe=RECIPE,
        runner=given.runner,
        ray=RAY,
        on_progress=lambda p: print(p.sources, p.accepted, flush=True),  # noqa: T201
    )


def make(inputs, out, chain=None, **given):
    """A dataset of a folder of films; by the stages of this module when none are given."""
    return run([inputs], chain or stages(), out, recipe=RECIPE, **given)


def one_film(tmp_path, *lines):
    (tmp_path / "in").mkdir(exist_ok=True)
    (tmp_path / "in/film.mp4").write_text("\n".join(lines))
    return tmp_path / "in"


def rows(folder):
    return list(Dataset.open(folder).rows())


if __name__ == "__main__":
    main()
