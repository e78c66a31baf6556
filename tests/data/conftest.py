from __future__ import annotations

import io
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anyref.data.masks import encode
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


@pytest.fixture(scope="session")
def opens2v():
    """The folder of OpenS2V-Nexus's published data: eval/, dataset/."""
    place = os.environ.get("ANYREF_OPENS2V", "../shared/data/opens2v")
    folder = Path(__file__).parents[2] / place
    if not folder.is_dir():
        pytest.skip(f"no OpenS2V-Nexus data in {place}; name its folder in ANYREF_OPENS2V")
    return folder


def columns(start, stop, width=40):
    """The JSON of a mask that covers some columns of a frame of 20 rows."""
    pixels = np.zeros((20, width), bool)
    pixels[:, start:stop] = True
    mask = encode(pixels)
    return {"size": list(mask.size), "counts": mask.counts, "score": [0.75]}


@pytest.fixture
def opens2v_record():
    """A record in OpenS2V-5M's form with everything odd that the format allows."""
    notes = [
        {"class_name": "white hat", "bbox": [0, 0.5, 10, 20], "gme_score": 0.25, "aes_score": 5.5},
        {"class_name": "person", "bbox": [10, 0, 40, 20], "gme_score": None, "aes_score": 4.5},
        {"class_name": "woman", "bbox": [10, 0, 39, 20], "aes_score": 4.25, "seen": True},
        {"class_name": "park", "bbox": [1, 1, 2, 2]},
    ]
    masks = {"1": columns(0, 10), "2": columns(10, 40), "3": columns(10, 39), "4": columns(0, 0)}
    masks["3"]["score"] = [0.5, 0.25]
    masks["9"] = columns(0, 1)
    return {
        "metadata": {
            "cut": [0, 120],
            "face_cut": [10, 110],
            "crop": [8, 48, 0, 20],
            "tech": 2.0,
            "motion": 0.5,
            "fps": 25,
            "num_frames": 120,
            "resolution": {"height": 720, "width": 1280},
            "path": "sub/v.mp4",
            "aesthetic": 5,
            "cap": ["A person walks.", ""],
            "face_cap_glm": "A woman in a White Hat\nwalks.",
            "face_cap_qwen": "A white  hat on a woman, in a park.",
        },
        "word_tags": {
            "background": ["park"],
            "subject": ["woman"],
            "pre_define": ["person", "human head"],
        },
        "annotation": {
            "ann_frame_data": {
                "ann_frame_idx": 10,
                "annotations": notes,
                "box_format": "xyxy",
                "img_width": 40,
                "img_height": 20,
                "foreground_ase_score": 4.75,
                "background_ase_score": 4.5,
            },
            "mask_map": {str(k): {"class_name": n["class_name"]} for k, n in enumerate(notes, 1)},
            "mask_annotation": {"10": masks, "55": {"1": columns(3, 4)}},
        },
        "later": [1, {"two": None}],
    }
