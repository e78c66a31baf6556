from __future__ import annotations

import io

import numpy as np
import pytest
import torch

import tiny
from anyref.data.record import Caption, Sample, SampleReference, Video
from anyref.data.shards import PackedSample, ShardWriter
from anyref.media import encode_video
from anyref.training.recipe import Recipe

WORDS = ("fox", "owl", "elk")
FRAMES, SIDE = 5, 32


def png(colour, side):
    buffer = io.BytesIO()
    picture = tiny.picture(tuple(colour), (side, side))
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def packed(index, references=3):
    rng = np.random.default_rng(index)
    frames = np.full((FRAMES, SIDE, SIDE, 3), rng.integers(0, 255, 3), np.uint8)
    frames[:, 4:12, 4:12] = rng.integers(0, 255, 3)
    text = "a " + " ".join(WORDS[:references]) + " walks right"
    record = Sample(
        id=f"clip{index:03d}",
        video=Video(end=FRAMES, fps=8, num_frames=FRAMES, width=SIDE, height=SIDE),
        captions=(Caption(text=text),),
        references=tuple(
            SampleReference(
                ref_id=f"r{k}",
                kind="object",
                label=word,
                entity_id=word,
                caption_span=(text.index(word), text.index(word) + 3),
                track=((4, 4, 12, 12),) * FRAMES,
            )
            for k, word in enumerate(WORDS[:references])
        ),
        split="train",
    )
    return PackedSample(
        record=record,
        video=encode_video(frames, 8, full_chroma=True),
        references=tuple(png(rng.integers(0, 255, 3), 24) for _ in range(references)),
    )


@pytest.fixture(scope="session")
def make_sample():
    """Makes packed sample number `index`: one-coloured, with up to three references."""
    return packed


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """A folder of 24 samples with two or three references."""
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, max_samples=10) as writer:
        for index in range(24):
            writer.write(packed(index, references=2 + index % 2))
    return folder


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """Pipeline folders of both families at toy size."""
    root = tmp_path_factory.mktemp("bases")
    torch.manual_seed(0)
    size = {"height": SIDE, "width": SIDE, "num_frames": FRAMES, "max_sequence_length": 24}
    size["default_negative_prompt"] = ""
    tiny.magref(lead_frames=0, **size).save_pretrained(root / "magref")
    tiny.kaleido(**size).save_pretrained(root / "kaleido")
    return root


@pytest.fixture
def recipe(tmp_path, shards, bases):
    """Makes a toy recipe of a family; sections are updated by keyword."""

    def make(family="kaleido", **changes):
        values = {
            "name": "toy",
            "model": {"base": str(bases / family), "dtype": "fp32"},
            "data": {"shards": [str(shards)], "workers": 1, "variants": 2},
            "optim": {"learning_rate": 1e-3, "ema": 0.9},
            "engine": {"precision": "no"},
            "batch": 4,
            "steps": 6,
            "folder": str(tmp_path / "run"),
            "checkpoints": {"every": 3},
            "monitor": {"log_every": 1},
        }
        for name, value in changes.items():
            merged = isinstance(value, dict) and isinstance(values.get(name), dict)
            values[name] = values[name] | value if merged else value
        return Recipe(**values)

    return make
