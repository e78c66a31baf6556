"""Clips as latents: through the pipelines' own condition, to disk and into batches."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from anyref import Reference
from anyref.errors import TrainingError
from anyref.lab.captions import Motion
from anyref.lab.world import Actor, Clip
from anyref.request import PixelShape
from anyref.training.latents import LatentDataset, encode_clip, subject_cells, write_shard


def clip(num_references=2):
    boxes = np.tile(np.array([[0, 0, 16, 16]], np.float32), (17, 1))
    masks = np.zeros((17, 64, 96), np.bool_)
    actor = Actor(key="k", name="fox", motion=Motion.STAY, boxes=boxes, masks=masks)
    frames = np.random.default_rng(0).integers(0, 255, (17, 64, 96, 3), np.uint8)
    references = (
        Reference(Image.new("RGB", (40, 30), "red"), "fox"),
        Reference(Image.new("RGB", (30, 40), "blue"), "beach", kind="background"),
    )[:num_references]
    prompt = "a @fox stays on a @beach" if num_references == 2 else "a @fox stays"
    return Clip(
        frames=frames, prompt=prompt, references=references, actors=(actor,), background="b"
    )


def test_a_clip_is_conditioned_as_at_inference():
    pipe = tiny.magref()
    made = encode_clip(pipe, clip(), seed=4)
    expected = pipe.condition(clip().references, PixelShape(17, 64, 96), seed=4)
    assert torch.equal(made.channels, expected.channels[0].half())
    assert made.text == "a fox stays on a beach"
    assert made.latents.shape == (16, 5, 8, 12)


def test_cells_under_a_box_are_the_subjects():
    boxes = np.array([[0, 0, 8, 8], [8, 0, 16, 8], [9, 0, 17, 8]], np.float32)
    cells = subject_cells([boxes], (2, 2, 3), (2, 8))
    assert cells[0].tolist() == [[True, False, False], [False, False, False]]
    assert cells[1].tolist() == [[False, True, True], [False, False, False]]


def test_shards_come_back_and_batch_by_what_fits_together(tmp_path):
    pipe = tiny.kaleido(reference_size="native")
    clips = [encode_clip(pipe, clip(n), seed=0) for n in (1, 1, 2)]
    write_shard(tmp_path / "0.safetensors", clips)
    data = LatentDataset(tmp_path)
    assert len(data) == 3
    assert sorted(len(group) for group in data.buckets.values()) == [1, 2]
    batches = [data.batch(4, None, 80, torch.Generator().manual_seed(s)) for s in range(8)]
    counts = {len(b.conditioning.transformer_kwargs["reference_hidden_states"]) for b in batches}
    assert counts == {1, 2}
    still = data.batch(4, 1, 80, torch.Generator().manual_seed(0))
    assert still.latents.shape == (4, 16, 1, 8, 12)
    assert still.subject.shape == (4, 1, 1, 8, 12)
    again = data.batch(4, 1, 80, torch.Generator().manual_seed(0))
    assert torch.equal(still.latents, again.latents)


def test_a_folder_without_latents_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="no latents"):
        LatentDataset(tmp_path)
