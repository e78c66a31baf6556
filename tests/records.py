"""A finished dataset without an engine: two clips that share a fox, and three rejected records."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from anyref.data.dataset import DatasetWriter, StageEntry
from anyref.data.masks import encode
from anyref.data.record import (
    Caption,
    Origin,
    Sample,
    SampleReference,
    Scores,
    Video,
)
from anyref.data.rows import Row
from anyref.media import encode_video

SIZE, FRAMES, FPS = (64, 48), 9, 8  # width and height
HOSTILE = '<script>alert("x")</script>\x1b[31m\u202egnp.mp4'
RULES = [{"measurement": "sharpness", "at_least": 10.0}]
TEXT = "A fox runs past an owl."
BOX = (8.0, 8.0, 40.0, 40.0)


def frames(shade):
    """uint8 (T, Y, X, 3): a square that brightens on a ground of one shade."""
    made = np.full((FRAMES, SIZE[1], SIZE[0], 3), shade, np.uint8)
    for t in range(FRAMES):
        made[t, 8:40, 8:40] = (200, 80 + 10 * t, 40)
    return made


def cutout(colour):
    """PNG of a disc."""
    alpha = np.zeros((32, 32), np.uint8)
    rows, columns = np.mgrid[:32, :32]
    alpha[(rows - 16) ** 2 + (columns - 16) ** 2 < 200] = 255
    picture = Image.new("RGB", (32, 32), colour)
    picture.putalpha(Image.fromarray(alpha))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def reference(ref_id, entity, image, **more):
    pixels = np.zeros((SIZE[1], SIZE[0]), bool)
    pixels[8:40, 8:40] = True
    word = "fox" if entity == "fox" else "owl"
    given = {
        "kind": "object",
        "label": word,
        "caption_span": (TEXT.index(word), TEXT.index(word) + 3),
        "bbox_xyxy": BOX,
        "mask": encode(pixels),
        "track": (BOX,) * FRAMES,
        "origin": Origin(frame=4),
    } | more
    return SampleReference(ref_id=ref_id, entity_id=entity, image=image, **given)


def sample(writer, name, shade, other):
    """A record with a fox of its own, the other clip's fox, and an owl that has no picture."""
    clip = writer.write_asset(encode_video(frames(shade), FPS), "mp4")
    own = writer.write_asset(cutout((200, 120, shade)), "png")
    theirs = writer.write_asset(cutout((200, 120, other[1])), "png")
    made = Sample(
        id=name,
        video=Video(
            uri=clip.uri, sha256=clip.sha256, start=10, end=20, fps=FPS, num_frames=FRAMES,
            width=SIZE[0], height=SIZE[1],
        ),
        captions=(Caption(text=TEXT, model="<b>tags</b>"),),
        references=(
            reference("owl", f"{name}-2", {}),
            reference("fox", "fox", own),
            reference(
                "far", "fox", theirs, pair_type="cross_clip", track=None,
                origin=Origin(sample_id=other[0], frame=4),
                scores=Scores(gme_image_to_target=0.8),
            ),
        ),
    )  # fmt: skip
    return Row(
        id=name,
        source="s",
        uri=f"{name}.mp4",
        measurements={"sharpness": 20.0 + shade, "length": 1.1},
        assets={"clip": str(clip.uri), "crop-fox": str(own.uri)},
        record=made.to_json(),
    )


def write(folder):
    """The dataset."""
    stages = [
        StageEntry(name="clips", tool="cutter", version="1", measures=("length",)),
        StageEntry(name="quality", measures=("sharpness",)),
    ]
    writer = DatasetWriter(
        folder, recipe={"rules": RULES}, stages=stages, measures=["sharpness", "length"]
    )
    with writer:
        for row in (sample(writer, "a", 60, ("b", 90)), sample(writer, "b", 90, ("a", 60))):
            writer.add(row)
        clip = writer.write_asset(encode_video(frames(0), FPS), "mp4")
        dark = {"status": "rejected", "stage": "quality", "reason": "low sharpness"}
        writer.add(
            Row(id="c", source="s", uri=HOSTILE, number=3.0, limit=10.0, stopped="quality",
                assets={"clip": str(clip.uri)}, measurements={"sharpness": 3.0, "length": 1.1},
                **dark)
        )  # fmt: skip
        broken = {"status": "rejected", "stage": "clips", "reason": "not a readable video"}
        for name in ("d", "e"):
            writer.add(Row(id=name, source=name, uri=f"{name}.mp4", judged=False, stopped="clips",
                           detail=HOSTILE, **broken))  # fmt: skip
        writer.finish()
    return folder
