from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image

from anyref.data.record import Caption, Sample, SampleReference, Video
from anyref.data.shards import PackedSample, ShardWriter
from anyref.media import encode_video

COLOURS = ((200, 30, 30), (30, 160, 30), (30, 60, 200))


def png(colour, size=(12, 8), mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, format="PNG")
    return buffer.getvalue()


@lru_cache
def clip(width, height, frames):
    ramp = np.linspace(0, 200, frames, dtype=np.uint8)
    return np.broadcast_to(ramp[:, None, None, None], (frames, height, width, 3))


@lru_cache
def video(width, height, frames):
    return encode_video(clip(width, height, frames), 8)


def make_sample(key="a", references=2, bucket=(32, 16, 5), masks=()):
    width, height, frames = bucket
    words = ("fox", "owl", "elk")[:references]
    text = "see " + " ".join(words)
    record = Sample(
        id=key,
        video=Video(end=frames, fps=8, num_frames=frames, width=width, height=height),
        captions=(Caption(text=text),),
        references=tuple(
            SampleReference(
                ref_id=f"r{i}",
                kind="object",
                label=word,
                entity_id=word,
                caption_span=(text.index(word), text.index(word) + 3),
                track=((0, 0, 8, 8), *[None] * (frames - 1)),
            )
            for i, word in enumerate(words)
        ),
        split="train",
    )
    return PackedSample(
        record=record,
        video=video(*bucket),
        references=tuple(png(COLOURS[i]) for i in range(references)),
        masks={i: png(255, mode="L") for i in masks},
    )


@pytest.fixture(scope="session")
def sample():
    """Makes a packed sample: a caption, a grey ramp and one-coloured pictures."""
    return make_sample


@pytest.fixture
def shard(tmp_path):
    """A shard of three samples a, b, c, each with two references."""
    with ShardWriter(tmp_path / "data") as writer:
        for key in "abc":
            writer.write(make_sample(key))
    return writer.finished[0]
