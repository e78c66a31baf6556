"""What the data engine is measured against: a script as one writes it in an afternoon.

    python benchmarks/data_speed_baseline.py OUT FILM...

One film after another, one clip after another, one picture after another: the shots of a film,
clips of one speed, then every sampled frame through every model, and all that is found written
beside the clip. Models are loaded once, one thread each, and are those that the engine uses. What
it leaves out: tracks, near-duplicates, identities and pairs across clips.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from scenedetect import AdaptiveDetector, detect

from anyref.data.clips import thumbs_of
from anyref.data.looks import black_bars, brightness, sharpness, stillness, watermark_edges
from anyref.data.motion import cut_inside, motion_amplitude
from anyref.perception.contracts import Box, Picture
from anyref.perception.small import Grade, small_grade

FPS, SHORT_SIDE, SAMPLED = 16.0, 480, 8
MIN_FRAMES, MAX_FRAMES = 32, 81
MIN_SCORE = 0.6  # of a detection
GREY = 128


def shots_of(film: Path) -> list[tuple[float, float]]:
    """Seconds of the shots of a film."""
    scenes = detect(str(film), AdaptiveDetector())
    if not scenes:
        with av.open(str(film)) as opened:
            return [(0.0, (opened.duration or 0) / 1e6)]
    return [(start.seconds, end.seconds) for start, end in scenes]


def clips_of(film: Path) -> Iterator[list[Picture]]:
    """Frames of each clip at 16 per second, the short side 480 at most."""
    for start, end in shots_of(film):
        count = int((end - start) * FPS)
        for first in range(0, count, MAX_FRAMES):
            number = min(MAX_FRAMES, count - first)
            if number >= MIN_FRAMES:
                yield read(film, start + first / FPS, number)


def read(film: Path, start: float, number: int) -> list[Picture]:
    """So many frames from a time on."""
    frames: list[Picture] = []
    with av.open(str(film)) as opened:
        stream = opened.streams.video[0]
        opened.seek(int(start * 1e6))
        for frame in opened.decode(stream):
            while len(frames) < number and frame.time >= start + len(frames) / FPS:
                scale = min(1.0, SHORT_SIDE / min(frame.width, frame.height))
                width, height = (2 * round(s * scale / 2) for s in (frame.width, frame.height))
                frames.append(frame.to_ndarray(format="rgb24", width=width, height=height))
            if len(frames) == number:
                break
    return frames


def write_clip(path: Path, frames: list[Picture]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=int(FPS))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def numbers_of(frames: list[Picture], sampled: list[Picture], models: Grade) -> dict[str, float]:
    """What the clip is judged by."""
    thumbs = thumbs_of(frames)
    stack = np.stack(sampled)
    bars, inside = black_bars(thumbs)
    level, dark = brightness(inside)
    lines = [len(models.reader.read([picture])[0]) for picture in sampled]
    return {
        "black_bars": bars,
        "brightness": level,
        "dark_frames": dark,
        "still_frames": stillness(inside),
        "sharpness": sharpness(stack),
        "watermark_edges": watermark_edges(stack),
        "motion_amplitude": motion_amplitude(thumbs, FPS),
        "cut_inside": cut_inside(thumbs),
        "nsfw": max(models.safety.score([picture])[0] for picture in sampled),
        "naturalness": float(np.mean([models.quality.score([picture])[0] for picture in sampled])),
        "text_lines": max(lines),
    }


def subjects_of(
    picture: Picture, frame: int, models: Grade, folder: Path
) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Things and faces of one frame, each with its mask, its cut-out and its features."""
    found, features = [], []
    salient = models.masks.segment([picture])[0]  # (Y, X)
    things: list[tuple[Box, str, float, np.ndarray]] = [
        (thing.box, thing.label, thing.score, models.masks.segment([picture], [thing.box])[0])
        for thing in models.objects.detect([picture])[0]
        if thing.score >= MIN_SCORE
    ]
    if not things and (salient > 0.5).any():
        rows, columns = (np.flatnonzero((salient > 0.5).any(axis)) for axis in (1, 0))
        box = Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        things = [(box, "", 0.0, salient)]
    embedder: Any = models.picture_embedders[0]
    for number, (box, label, score, mask) in enumerate(things):
        place = box.pixels(picture)
        crop, alpha = picture[place], mask[place][..., None]
        cutout = np.dstack([crop, (alpha * 255).astype(np.uint8)])
        name = f"{frame}-{number}.png"
        Image.fromarray(cutout).save(folder / name)
        features.append(embedder.embed([(crop * alpha + GREY * (1 - alpha)).astype(np.uint8)])[0])
        word = embedder.words[int(embedder.name([crop])[0].argmax())]
        found.append({"frame": frame, "label": label or word, "score": score, "file": name})
    for number, face in enumerate(models.faces.detect([picture])[0]):
        name = f"{frame}-face-{number}.png"
        Image.fromarray(picture[face.box.pixels(picture)]).save(folder / name)
        features.append(models.face_embedders[0].embed([picture], [face])[0])
        found.append({"frame": frame, "label": "face", "score": face.score, "file": name})
    return found, features


def main() -> None:
    out, films = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    models = small_grade()
    done = 0
    for film in films:
        for frames in clips_of(film):
            folder = out / f"{done:06d}"
            folder.mkdir(parents=True)
            write_clip(folder / "clip.mp4", frames)
            places = np.linspace(0, len(frames) - 1, SAMPLED).astype(int).tolist()
            sampled = [frames[place] for place in places]
            record: dict[str, Any] = {"film": film.name, "frames": len(frames), "subjects": []}
            record["numbers"] = numbers_of(frames, sampled, models)
            features = [models.picture_embedders[0].embed([sampled[SAMPLED // 2]])[0]]
            for place, picture in zip(places, sampled, strict=True):
                found, vectors = subjects_of(picture, place, models, folder)
                record["subjects"] += found
                features += vectors
            words = sorted({subject["label"] for subject in record["subjects"]} - {"face"})
            record["caption"] = f"A video of {', '.join(words) or 'a scene'}."
            np.savez(folder / "features.npz", *features)
            (folder / "record.json").write_text(json.dumps(record))
            done += 1
    print(done)


if __name__ == "__main__":
    main()
