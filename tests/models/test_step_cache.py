"""Step caches leave steps out, keep videos and passes apart, and are gone afterwards."""

from __future__ import annotations

import pytest
import torch

import tiny
from anyref import Reference
from anyref.errors import RequestError
from anyref.models.step_cache import StepCache, skipping

STEPS = 8
FAMILIES = {"magref": tiny.magref, "kaleido": tiny.kaleido}


def latents(pipe, cache=None, strength=1.0, **options):
    return pipe(
        "a fox walks",
        references=[Reference([tiny.picture()], strength=strength), tiny.picture("blue", (30, 60))],
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        step_cache=cache,
        **{"num_inference_steps": STEPS} | options,
    ).frames


def counting(pipe):
    """Calls of the first and of the last block's own forward."""
    calls = [0, 0]
    for i, block in ((0, pipe.transformer.blocks[0]), (1, pipe.transformer.blocks[-1])):

        def count(*_, i=i):
            calls[i] += 1

        block.ffn.register_forward_hook(count)
    return calls


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cache", ["first-block:0.3", "taylorseer:3"])
def test_a_cache_leaves_steps_out_and_changes_the_video_a_little(family, cache):
    pipe = FAMILIES[family]()
    exact, calls = latents(pipe), counting(pipe)
    made = latents(pipe, cache)
    change = float((made - exact).norm() / exact.norm())
    assert 0 < change < 0.5
    assert calls[1] < 2 * STEPS
    assert calls[0] == (2 * STEPS if "first" in cache else calls[1])
    assert torch.equal(latents(pipe, cache), made)  # nothing is left of the video before
    assert torch.equal(latents(pipe), exact)
    assert not pipe.transformer.is_cache_enabled


@pytest.mark.parametrize("family", FAMILIES)
def test_a_threshold_that_nothing_falls_below_changes_no_bit(family):
    pipe = FAMILIES[family]()
    assert torch.equal(latents(pipe, "first-block:0.001"), latents(pipe))


def test_both_passes_of_guidance_have_their_own_cache():
    pipe, texts = tiny.kaleido(), []
    pipe.transformer.blocks[-1].attn2.register_forward_hook(
        lambda _, args, __: texts.append(args[1])
    )
    latents(pipe, "taylorseer:2")
    ways = {id(text) for text in texts}
    assert len(ways) == 2
    assert len(texts) % 2 == 0
    assert all(sum(id(t) == way for t in texts) == len(texts) // 2 for way in ways)


@pytest.mark.parametrize("cache", ["first-block:0.3", "taylorseer:2"])
def test_strength_acts_in_the_steps_that_are_computed(cache):
    pipe = tiny.kaleido()
    assert not torch.equal(latents(pipe, cache, 3.0), latents(pipe, cache))


def test_a_transformer_with_a_cache_of_its_own_is_refused():
    from diffusers import FirstBlockCacheConfig

    pipe = tiny.kaleido()
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(RequestError, match="disable_cache"):
        latents(pipe, "taylorseer")


def test_a_cache_is_gone_after_an_error():
    transformer = tiny.magref().transformer
    with pytest.raises(KeyError), skipping(transformer, StepCache("first-block", 0.1), 4):
        raise KeyError
    assert not transformer.is_cache_enabled
    assert not transformer.blocks[0]._diffusers_hook.hooks


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (None, None),
        ("none", None),
        ("first-block", "first-block:0.1"),
        ("first-block:0.25", "first-block:0.25"),
        ("taylorseer", "taylorseer:2"),
        ("taylorseer:4", "taylorseer:4"),
    ],
)
def test_a_cache_is_read_from_its_name_and_level(text, made):
    cache = StepCache.parse(text)
    assert (None if cache is None else str(cache)) == made


@pytest.mark.parametrize(
    "text", ["magic", "first-block:", "first-block:0", "first-block:2", "first-block:nan",
             "taylorseer:2.5", "taylorseer:1", "taylorseer:inf"],
)  # fmt: skip
def test_a_cache_that_cannot_be_is_refused(text):
    with pytest.raises(RequestError, match="step_cache"):
        StepCache.parse(text)
