from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny
from anyref.errors import TrainingError
from anyref.request import PixelShape
from anyref.training.cache import ContentCache
from anyref.training.examples import (
    Preparer,
    collate,
    fit_clip,
    frames_to_tensor,
    nearest_bucket,
    sample_key,
    subject_cells,
)
from anyref.training.recipe import DataSection

OPTIONS = DataSection(shards=("unused",), shuffle=False)


@pytest.fixture(scope="module", params=["magref", "kaleido"])
def pipe(request):
    return getattr(tiny, request.param)(height=32, width=32, num_frames=5)


def prepare(pipe, sample, cache, options=OPTIONS, seed="s", **more):
    preparer = Preparer(pipe, options, cache, **more)
    key = preparer.key(sample_key(sample), seed)
    return preparer.cached(key) or preparer.prepare(sample, seed, key)


def test_an_example_is_what_the_pipeline_conditions_on(pipe, make_sample):
    sample = make_sample(0)
    example = prepare(pipe, sample, ContentCache(None))
    assert example.text == "a fox owl elk walks right"
    frames = frames_to_tensor(sample.frames())
    assert torch.equal(example.latents, pipe.encode_video(frames)[0].half())
    if example.channels is None:
        pictures = [tiny.Reference([sample.picture(k)]) for k in range(3)]
        made = pipe.condition(pictures, PixelShape(5, 32, 32), seed=1)
        expected = [r[0].half() for r in made.transformer_kwargs["reference_hidden_states"]]
        assert len(example.references) == 3
        assert all(torch.equal(a, b) for a, b in zip(example.references, expected, strict=True))
    else:
        pictures = [tiny.Reference([sample.picture(k)]) for k in range(3)]
        made = pipe.condition(pictures, PixelShape(5, 32, 32), shuffle=False)
        assert torch.equal(example.channels, made.channels[0].half())


def test_a_cached_example_equals_the_made_one(pipe, make_sample, tmp_path):
    made = prepare(pipe, make_sample(0), ContentCache(tmp_path), with_subjects=True)
    found = prepare(pipe, make_sample(0), ContentCache(tmp_path), with_subjects=True)
    assert torch.equal(made.latents, found.latents)
    assert torch.equal(made.subject, found.subject)
    assert (made.text, made.words, made.options) == (found.text, found.words, found.options)
    assert made.shapes == found.shapes
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1


def test_the_cache_key_follows_what_the_example_is_made_from(pipe, make_sample):
    def key(sample=0, seed="s", **options):
        chosen = DataSection(shards=("unused",), **{"shuffle": False} | options)
        return Preparer(pipe, chosen, ContentCache(None)).key(sample_key(make_sample(sample)), seed)

    keys = {key(), key(sample=1), key(seed="t"), key(max_references=2), key(height=16, width=16)}
    assert len(keys) == 5
    assert key() == key(workers=0)


def test_regions_and_words_are_kept_for_disentanglement(make_sample):
    pipe = tiny.magref(height=64, width=64, num_frames=5, lead_frames=0)
    options = DataSection(shards=("unused",), height=64, width=64, shuffle=False)
    example = prepare(pipe, make_sample(0), ContentCache(None), options, with_subjects=True)
    assert example.regions.shape == (3, 16)
    assert all(len(tokens) > 0 for tokens in example.words)
    assert prepare(pipe, make_sample(0), ContentCache(None), options).regions is None


def test_a_sample_without_references_is_conditioned_on_none(pipe, make_sample):
    options = DataSection(shards=("unused",), reference_dropout=1.0, shuffle=False)
    example = prepare(pipe, make_sample(0), ContentCache(None), options)
    assert example.references == ()
    if example.channels is not None:
        assert example.channels[: pipe.rules.temporal].eq(0).all()


def test_examples_of_unlike_shapes_go_into_batches_of_their_own(pipe, make_sample):
    examples = [prepare(pipe, make_sample(i, references=2 + i % 2), ContentCache(None))
                for i in range(4)]  # fmt: skip
    batches = collate(list(enumerate(examples)), None)
    positions = sorted(p for batch in batches for p in batch.positions)
    assert positions == [0, 1, 2, 3]
    if examples[0].references:
        assert [batch.positions for batch in batches] == [(0, 2), (1, 3)]
        counts = [
            len(b.conditioning.transformer_kwargs["reference_hidden_states"]) for b in batches
        ]
        assert counts == [2, 3]
    short = collate(list(enumerate(examples)), 1)
    assert all(batch.latents.shape[2] == 1 for batch in short)


def test_short_videos_are_refused_with_their_name():
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    with pytest.raises(TrainingError, match="'x' has 4 frames, 5 are needed"):
        fit_clip(frames, [], PixelShape(5, 32, 32), "x")


def test_clips_are_scaled_to_cover_and_boxes_move_along():
    frames = np.zeros((5, 20, 40, 3), np.uint8)
    frames[:, 5:15, 15:25] = 255  # in the middle
    fitted, (track,) = fit_clip(frames, [[(15, 5, 25, 15)] * 5], PixelShape(5, 40, 40), "x")
    assert fitted.shape == (5, 40, 40, 3)
    assert track[0] == (10, 10, 30, 30)
    assert fitted[0, 20, 20].tolist() == [255] * 3
    assert fitted[0, 4, 4].tolist() == [0] * 3


def test_the_nearest_bucket_has_the_shape_first_and_then_the_length():
    buckets = [(480, 832, 81), (480, 832, 33), (832, 480, 81)]
    assert nearest_bucket(buckets, (100, 720, 1280)) == (480, 832, 81)
    assert nearest_bucket(buckets, (40, 720, 1280)) == (480, 832, 33)
    assert nearest_bucket(buckets, (100, 1280, 720)) == (832, 480, 81)


def test_subject_cells_are_those_a_box_touches_in_their_own_frames():
    cells = subject_cells([[(0, 0, 8, 8), None, None, None, (7, 8, 9, 16)]], (2, 2, 2), (4, 8))
    assert cells[0].tolist() == [[True, False], [False, False]]
    assert cells[1].tolist() == [[False, False], [True, True]]
