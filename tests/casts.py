"""Made datasets in which known characters play in several clips."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from anyref.data.dataset import DatasetWriter, StageEntry
from anyref.data.record import Caption, Origin, Sample, SampleReference, Scores, Video
from anyref.data.rows import Row

FEATURES, FACE_FEATURES = 32, 16


@dataclass(frozen=True, kw_only=True)
class Role:
    """A character in a clip: who, in how many pictures, how much they differ from the usual."""

    who: int
    views: int = 2
    noise: float = 0.5
    face: int | None = None
    label: str = "thing"
    sure: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A clip; scenes of one `shows` look the same in their middle frame."""

    id: str
    roles: tuple[Role, ...] = ()
    uri: str = "a.mp4"
    start: int = 0
    shows: int | None = None
    blur: float = 0.0
    background: bool = True


def direction(seed, size=FEATURES):
    vector = np.random.default_rng(seed).normal(size=size)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def near(seed, noise, text, size=FEATURES):
    """A unit vector whose cosine with that of `seed` is about 1 / sqrt(1 + noise ** 2)."""
    other = direction([*text.encode()], size)
    vector = direction(seed, size) + noise * other
    return vector / np.linalg.norm(vector)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def cutout(who, seed=0, size=(64, 48)):
    """An ellipse of the character's colour on nothing: uint8 (Y, X, 4)."""
    ys, xs = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    colour = np.random.default_rng(who).integers(40, 230, 3)
    noise = np.random.default_rng(seed).integers(-8, 8, (*size, 3))
    alpha = np.where(ys**2 + xs**2 < 0.8, 255, 0)
    return np.dstack([np.clip(colour + noise, 0, 255), alpha]).astype(np.uint8)


def ground(seed):
    return np.random.default_rng(seed).integers(0, 255, (36, 64, 3), np.uint8)


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, np.float32), allow_pickle=False)
    return buffer.getvalue()


def cast_row(writer, scene):
    references, features, faces = [], [], []

    def add(ref_id, kind, entity, picture, vector, face=None, main=True, **fields):
        references.append(
            SampleReference(
                ref_id=ref_id,
                kind=kind,
                entity_id=f"{scene.id}-{entity}",
                pair_type="regular" if main else "in_clip_other_frame",
                image=writer.write_asset(png(picture), "png"),
                origin=Origin(frame=len(references)),
                **fields,
            )
        )
        features.append(vector)
        faces.append(np.full(FACE_FEATURES, np.nan) if face is None else face)

    for number, role in enumerate(scene.roles, start=1):
        for view in range(role.views):
            text = f"{scene.id}/{number}/{view}"
            face = None if role.face is None else 0.9 * near(role.face, 0.2, text, FACE_FEATURES)
            add(
                f"{number}-{view}",
                "object",
                number,
                cutout(role.who, [*text.encode()]),
                near(role.who, role.noise, text),
                face,
                view == 0,
                label=role.label,
                scores=Scores(det_conf=role.sure),
                caption_span=(0, 3),
            )
    if scene.background:
        picture = ground([*scene.id.encode()])
        add("background", "background", 0, picture, direction(99), label="place")
    record = Sample(
        id=scene.id,
        video=Video(
            start=scene.start, end=scene.start + 16, fps=8, num_frames=8, width=64, height=36
        ),
        captions=(Caption(text="see it"),),
        references=tuple(references),
    )
    shows = [*scene.id.encode()] if scene.shows is None else scene.shows
    assets = {
        "features": npy(features),
        "face-features": npy(faces),
        "clip-features": npy(direction(shows)),
    }
    return Row(
        id=scene.id,
        source=scene.uri,
        uri=scene.uri,
        measurements={"blur": scene.blur},
        assets={name: writer.write_asset(data, "npy").uri for name, data in assets.items()},
        record=record.to_json(),
    )


def write_cast(folder, scenes, rules=()):
    """A dataset of the scenes, in their order."""
    stages = (StageEntry(name="quality", measures=("blur",)),)
    with DatasetWriter(
        folder, recipe={"rules": list(rules)}, stages=stages, measures=("blur",)
    ) as writer:
        for scene in scenes:
            writer.add(cast_row(writer, scene))
        writer.finish()
    return folder
