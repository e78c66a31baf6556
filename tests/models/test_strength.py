"""Reference strength: the bias is the published one, through the fused kernel, and nothing at 1."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers.models.transformers import transformer_wan
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch.nn import functional as F

import tiny
from anyref import Reference
from anyref.errors import RequestError
from anyref.models import attention as attention_module
from anyref.models.passes import AttentionPass
from anyref.models.reuse import attending, install
from anyref.models.strength import (
    HIDDEN,
    STRENGTH_MAPS,
    KeyBias,
    StrengthOfVideo,
    _without_bias,
    strength_of_counts,
    strength_of_regions,
)

SHAPE = (2, 30, 3, 12)  # batch, tokens, heads, channels


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def keys():
    """30 tokens: five of the first reference, three of the second."""
    made = torch.zeros(1, 30, 2)
    made[:, :5, 0] = made[:, 5:8, 1] = 1.0
    return made


def attention(query, key, value, bias=0.0):
    """Weights (B, H, N, N) and result (B, N, H, D), written out in float64."""
    query, key, value = (x.double().transpose(1, 2) for x in (query, key, value))
    logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias
    weights = logits.softmax(-1)
    return weights, (weights @ value).transpose(1, 2)


def fused(query, key, value, scale):
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2)


@pytest.fixture(scope="module")
def made():
    """A biased pass through the widened kernel, and the same by hand."""
    query, key, value = (draw(*SHAPE, seed=i) for i in range(3))
    bias = KeyBias(keys=keys(), gains=draw(2, 30, 2, seed=3), reads=4)
    wide = fused(*bias.widen(query, key, value, 4), SHAPE[3] ** -0.5)
    result = bias.narrow(wide, SHAPE[3], 4)
    matrix = torch.einsum("bqk,njk->bqj", bias.gains, bias.keys)[:, None].double()
    return bias, result, attention(query, key, value, matrix), attention(query, key, value)


def test_widened_heads_give_the_attention_with_the_bias_added_to_its_logits(made):
    _, result, (_, expected), (_, plain) = made
    assert (result - expected).abs().max() < 1e-6
    assert (result - plain).abs().max() > 0.1


def test_what_is_read_is_each_references_share_of_attention_without_the_bias(made):
    bias, _, (biased, _), (plain, _) = made
    for weights, found in ((biased, bias.mass), (plain, _without_bias(bias))):
        share = torch.einsum("bhqj,jk->bqhk", weights, keys()[0].double())
        expected = share if found is bias.mass else share.mean(2)
        assert (found - expected).abs().max() < 1e-6


def test_a_token_between_two_regions_is_the_one_that_covers_more_of_it():
    regions = torch.zeros(2, 4, 8, dtype=torch.bool)
    regions[0, :, :3] = True  # columns 0 to 2: one token and half of the next
    regions[1, 1:, 3:6] = True
    strength = strength_of_regions(regions, (1, 2, 2), (2.0, 3.0), "uniform")
    owners = strength.keys.reshape(2, 4, 2)
    assert owners[..., 0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]
    assert owners[..., 1].tolist() == [[0, 0, 1, 0], [0, 0, 1, 0]]


def test_references_of_strength_1_get_no_channel():
    assert strength_of_counts((4, 6), (1.0, 1.0), "attention") is None
    strength = strength_of_counts((4, 6), (1.0, 2.0), "uniform")
    assert strength.gains == (2.0,)
    assert strength.keys.sum(0).tolist() == [6]


def test_the_map_is_that_of_the_step_before_and_rests_for_the_first_fifth():
    video = StrengthOfVideo(strength_of_counts((2,), (4.0,), "attention"), 6, 5)
    like = torch.zeros(1)
    first = video.bias("cond", 0.0, like)
    assert first.gains is None
    first.acts(0)
    first.mass = torch.tensor([0.5, 0.5, 0.1, 0.2, 0.4, 0.0]).reshape(1, 6, 1, 1)
    video.learn("cond", first)
    assert video.bias("cond", 0.1, like).gains is None
    assert video.bias("uncond", 0.5, like).gains is None
    gains = video.bias("cond", 0.5, like).gains[0, :, 0] / math.log(4)
    assert torch.allclose(gains, torch.tensor([0.0, 0.0, 0.25, 0.5, 1.0, 0.0]))


def latents(pipe, strength=1.0, color="red", **options):
    references = (
        Reference([tiny.picture(color)], "fox", strength=strength),
        Reference([tiny.picture("blue", (30, 60))]),
    )
    return pipe(
        "a @fox walks",
        references=references[: options.pop("count", 2)],
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        **{"num_inference_steps": 3} | options,
    ).frames


@pytest.mark.parametrize("family", ["magref", "kaleido"])
@pytest.mark.parametrize("how", STRENGTH_MAPS)
def test_strength_1_is_the_stock_model_bit_for_bit_before_and_after_others(family, how):
    untouched, pipe = (latents(getattr(tiny, family)()), getattr(tiny, family)())
    assert torch.equal(latents(pipe), untouched)
    stronger = latents(pipe, 3.0, strength_map=how)
    assert not torch.equal(stronger, untouched)
    assert not torch.equal(stronger, latents(pipe, 0.3, strength_map=how))
    assert torch.equal(latents(pipe), untouched)


@pytest.mark.parametrize("how", STRENGTH_MAPS)
def test_a_reference_of_strength_0_is_hidden_from_the_video(how):
    """Nor does another reference carry it there."""
    pipe = tiny.kaleido()
    red, green = (latents(pipe, 0.0, color, strength_map=how) for color in ("red", "green"))
    assert torch.equal(red, green)
    assert not torch.equal(latents(pipe, 0.5, "red", strength_map=how), red)


def test_a_strength_that_has_nothing_to_act_on_is_refused():
    regions = torch.zeros(2, 4, 8, dtype=torch.bool)
    regions[0] = True
    regions[1, 0, 0] = True
    with pytest.raises(RequestError, match=r"reference 1 .* covers no token of its own"):
        strength_of_regions(regions, (1, 2, 2), (1.0, 2.0), "uniform")
    whole = strength_of_regions(regions, (1, 2, 2), (2.0, 1.0), "uniform")
    StrengthOfVideo(whole, 16, 2).check(4)
    with pytest.raises(RequestError, match="cover the whole video"):
        StrengthOfVideo(whole, 8, 2).check(4)
    both = strength_of_counts((4, 6), (0.0, 0.0), "uniform")
    with pytest.raises(RequestError, match="cover the whole video"):
        StrengthOfVideo(both, 10, 2).check(4)


def test_guidance_hides_one_reference_a_pass_and_those_of_strength_0_in_all():
    strength = strength_of_counts((2, 2, 2), (3.0, 0.0, 0.5), "guidance")
    video, like = StrengthOfVideo(strength, 9, 5), torch.zeros(1)
    assert video.contrasts == [(0, 2.0), (2, -0.5)]
    plain, without = (video.bias("cond", 0.0, like, without=k).gains for k in (None, 2))
    absent, both = ([HIDDEN if k in names else 0.0 for k in range(3)] for names in ({1}, {1, 2}))
    assert plain[0].tolist() == [absent] * 9
    assert without[0].tolist() == [absent] * 6 + [both] * 3  # references are as in the plain pass


def test_guidance_on_one_reference_alone_goes_from_the_video_without_it_to_that_with_it():
    """One step of a solver that adds velocities shows them; strength 0 is the video without."""
    pipe = tiny.kaleido()
    pipe.set_solver("euler")
    options = {"strength_map": "guidance", "guidance_scale": 1.0, "num_inference_steps": 1}
    options["count"] = 1
    plain, hidden, doubled, half = (latents(pipe, g, **options) for g in (1.0, 0.0, 2.0, 0.5))
    for gamma, made in ((2.0, doubled), (0.5, half)):
        assert torch.allclose(made, hidden + gamma * (plain - hidden), atol=1e-5)
    assert (plain - hidden).abs().max() > 1e-3


def test_guidance_on_a_reference_rests_where_guidance_does():
    pipe = tiny.magref()
    options = {"strength_map": "guidance", "guidance_interval": (0.0, 0.5)}
    passes = count_passes(pipe)
    latents(pipe, 2.0, num_inference_steps=4, **options)
    assert passes == ["cond", "uncond", "uncond"] * 2 + ["cond"] * 2


def count_passes(pipe):
    """A list that every pass of the transformer adds its branch to, one after the other."""
    passes = []
    current = install(pipe.transformer)
    # a hook with a memory, as it were: passes do not run at once
    pipe.transformer.blocks[0]._hf_hook = None
    pipe.transformer.register_forward_hook(lambda *_: passes.append(current.run.branch))
    return passes


@pytest.mark.parametrize("family", ["magref", "kaleido"])
def test_all_pictures_of_a_reference_share_one_pass(family):
    pipe = getattr(tiny, family)()
    passes = count_passes(pipe)
    pictures = [tiny.picture("red"), tiny.picture("green")]
    kept = pictures if family == "kaleido" else pictures[:1]  # a canvas shows one of each
    pipe(
        "a",
        references=[Reference(kept, strength=2.0), Reference([tiny.picture("blue")])],
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        strength_map="guidance",
        num_inference_steps=1,
    )
    assert passes == ["cond", "uncond", "uncond"]


@pytest.mark.parametrize("how", STRENGTH_MAPS)
def test_no_attention_leaves_the_fused_kernel(how):
    with torch.profiler.profile() as profile:
        latents(tiny.kaleido(), 2.0, strength_map=how, num_inference_steps=2)
    kernels = {event.key for event in profile.key_averages() if "attention_" in event.key}
    assert kernels == {"aten::_scaled_dot_product_flash_attention_for_cpu"}


def test_what_cannot_act_is_refused():
    pipe = tiny.magref()
    with pytest.raises(RequestError, match="strength_map 'local' is not known"):
        latents(pipe, 2.0, strength_map="local")
    with pytest.raises(RequestError, match="1 step is too few"):
        latents(pipe, 2.0, num_inference_steps=1)

    class Foreign(WanAttnProcessor):
        pass

    for block in pipe.transformer.blocks:
        block.attn1.set_processor(Foreign())
    with pytest.raises(RequestError, match="had no effect"):
        latents(pipe, 2.0)


@pytest.mark.parametrize(("strength", "used"), [(1.0, {"sage"}), (3.0, {"sage", "_native_flash"})])
def test_wider_heads_go_to_a_kernel_that_takes_them(strength, used, monkeypatch):
    pipe, seen = tiny.kaleido(), set()
    stock = attention_module.dispatch_attention_fn

    def dispatch(*heads, backend=None, **options):
        seen.add(backend)
        return stock(*heads, **options)

    monkeypatch.setattr(attention_module, "dispatch_attention_fn", dispatch)
    monkeypatch.setattr(transformer_wan, "dispatch_attention_fn", dispatch)
    for block in pipe.transformer.blocks:
        for attention in (block.attn1, block.attn2):
            attention.processor._attention_backend = "sage"
    latents(pipe, strength)
    assert seen == used


def test_a_pass_ends_with_its_context_even_after_an_error():
    transformer = tiny.kaleido().transformer
    bias = KeyBias(keys=torch.zeros(1, 1, 1), gains=torch.zeros(1, 1, 1), reads=None)
    with pytest.raises(KeyError), attending(transformer, AttentionPass(bias)):
        raise KeyError
    assert transformer.blocks[0].attn1.processor.current.run is None
