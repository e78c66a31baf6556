"""Subject disentanglement on the stock transformer: what it adds, where, and when not at all."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

import tiny
from anyref.errors import RequestError
from anyref.models.disentanglement import (
    Disentanglement,
    SubjectRegions,
    disentangled,
    pooling_weights,
    prepare,
    stack_subjects,
    token_regions,
)
from anyref.pipelines.conditioning import Conditioning
from anyref.pipelines.sampling import predict_velocity, without_prompt

LENGTH = 8


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def regions(*columns):
    """(K, 8, 12) cells of the given ranges of columns."""
    made = torch.zeros(len(columns), 8, 12, dtype=torch.bool)
    for region, (left, right) in zip(made, columns, strict=True):
        region[:, left:right] = True
    return made


def subjects(tokens=((1, 2), (4,)), columns=((0, 5), (6, 12)), length=LENGTH, **how):
    how = Disentanglement(**{"alpha": 0.7} | how)
    weights = token_regions(regions(*columns), (1, 2, 2))
    return stack_subjects([(weights, pooling_weights(tokens, length, how.pooling))], how)


def conditioning(made, **more):
    return Conditioning(channels=draw(1, 20, 5, 8, 12, seed=2), subjects=made, **more)


def velocity(transformer, made, seed=3, **more):
    text = draw(1, more.pop("length", LENGTH), 16, seed=seed)
    latents, when = draw(1, 16, 5, 8, 12, seed=1), torch.tensor([500.0])
    return predict_velocity(transformer, latents, when, text, conditioning(made, **more))


@pytest.fixture
def transformer():
    return tiny.magref().transformer


def test_a_token_belongs_to_every_reference_that_covers_one_of_its_cells():
    tokens = token_regions(regions((0, 5), (5, 12)), (1, 2, 2)).view(2, 4, 6)
    assert tokens[0, 0].tolist() == [1, 1, 1, 0, 0, 0]
    assert tokens[1, 0].tolist() == [0, 0, 1, 1, 1, 1]
    assert torch.equal(tokens, tokens[:, :1].expand(-1, 4, -1))


def test_several_tokens_are_averaged_or_summed():
    tokens = ((0, 3), (), (2,))
    mean, total = (pooling_weights(tokens, 4, pooling) for pooling in ("mean", "sum"))
    assert mean.tolist() == [[0.5, 0, 0, 0.5], [0, 0, 0, 0], [0, 0, 1, 0]]
    assert total.tolist() == [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]


def test_nothing_changes_before_during_or_after_for_a_pass_without_regions(transformer):
    plain = velocity(transformer, None)
    changed = velocity(transformer, subjects())
    assert not torch.allclose(plain, changed)
    assert torch.equal(velocity(transformer, None), plain)
    assert torch.equal(velocity(transformer, subjects()), changed)


def test_only_the_first_frames_region_is_touched_in_a_layer(transformer):
    seen = {}
    last = transformer.blocks[0].norm3
    last.register_forward_pre_hook(lambda _, args: seen.setdefault("x", args[0].clone()))
    velocity(transformer, None)
    plain = seen.pop("x")
    velocity(transformer, subjects(tokens=((1, 2),), columns=((0, 4),)))
    moved = (seen["x"] - plain).abs().sum(-1).view(5, 4, 6) > 0
    expected = torch.zeros_like(moved)
    expected[0, :, :2] = True
    assert torch.equal(moved, expected)


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0.3},
        {"pooling": "sum"},
        {"where": "before"},
        {"output_projection": True},
        {"tokens": ((4,), (1, 2))},
        {"columns": ((6, 12), (0, 5))},
    ],
)
def test_every_choice_has_an_effect(transformer, change):
    found = velocity(transformer, subjects(**change))
    assert not torch.allclose(found, velocity(transformer, subjects()), atol=1e-6)


@pytest.mark.parametrize("projected", [False, True])
def test_a_reference_without_words_adds_nothing(transformer, projected):
    named = subjects(tokens=((1, 2), ()), output_projection=projected)
    alone = subjects(tokens=((1, 2),), columns=((0, 5),), output_projection=projected)
    found, expected = velocity(transformer, named), velocity(transformer, alone)
    assert torch.allclose(found, expected, atol=1e-6)
    nobody = subjects(tokens=((), ()), output_projection=projected)
    assert torch.equal(velocity(transformer, nobody), velocity(transformer, None))


def test_samples_of_a_batch_keep_to_themselves(transformer):
    one, two = subjects(), subjects(tokens=((3,),), columns=((2, 8),))
    both = stack_subjects([(s.weights[0], s.tokens[0]) for s in (one, two)], one.how)
    assert both.weights.shape == (2, 2, 24)
    assert both.tokens.shape == (2, 2, LENGTH)
    text = torch.cat([draw(1, LENGTH, 16, seed=3)] * 2)
    found = predict_velocity(
        transformer,
        draw(1, 16, 5, 8, 12, seed=1).expand(2, -1, -1, -1, -1),
        torch.tensor([500.0, 500.0]),
        text,
        conditioning(both).map(lambda x: x.expand(2, *x.shape[1:])),
    )
    for row, made in zip(found, (one, two), strict=True):
        assert torch.allclose(row, velocity(transformer, made)[0], atol=1e-6)


def test_text_tokens_are_the_last_512_behind_an_image_branch():
    transformer = tiny.magref(clip=True).transformer
    more = {"image_embeds": draw(1, 17, 16), "length": 512}
    found = velocity(transformer, subjects(length=512), **more)
    assert not torch.allclose(found, velocity(transformer, None, **more))
    seen = []
    attention = transformer.blocks[0].attn2
    attention.to_v.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    velocity(transformer, subjects(length=512), **more)
    ours, stock = seen  # our projection of the text, then the layer's own
    assert torch.equal(ours, stock)


@pytest.mark.parametrize("where", ["after", "before"])
def test_gradient_checkpointing_gives_the_same_gradients_even_for_two_passes(transformer, where):
    """The second pass must not replace what the first one's recomputation needs."""
    one = subjects(where=where)
    two = subjects(tokens=((5,), (6, 7)), columns=((6, 12), (0, 5)), where=where)
    gradients = []
    for checkpointing in (False, True):
        network = copy.deepcopy(transformer).train()
        if checkpointing:
            network.enable_gradient_checkpointing()
        loss = velocity(network, one).square().mean() + velocity(network, two).square().mean()
        loss.backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    for plain, repeated in zip(*gradients, strict=True):
        assert torch.equal(plain, repeated)


def test_the_gradient_reaches_the_value_projection(transformer):
    weight = transformer.blocks[-1].attn2.to_v.weight
    grads = []
    for made in (None, subjects()):
        loss = velocity(transformer, made).square().mean()
        grads.append(torch.autograd.grad(loss, weight)[0])
    assert not torch.allclose(grads[0], grads[1], rtol=1e-3)


def test_a_copied_transformer_adds_once_with_its_own_values(transformer):
    velocity(transformer, subjects())
    copied = copy.deepcopy(transformer)
    assert torch.equal(velocity(copied, subjects()), velocity(transformer, subjects()))
    with torch.no_grad():
        for block in copied.blocks:
            block.attn2.to_v.bias.add_(1.0)
    fresh = tiny.magref().transformer
    fresh.load_state_dict(copied.state_dict())
    assert torch.equal(velocity(copied, subjects()), velocity(fresh, subjects()))


def test_a_pass_that_fails_leaves_nothing_behind(transformer):
    plain = velocity(transformer, None)
    with pytest.raises(RuntimeError), disentangled(transformer, subjects()):
        transformer(draw(1, 36, 5, 8, 12), torch.tensor([1.0]), draw(1, 4, 16), return_dict=False)
    assert torch.equal(velocity(transformer, None), plain)


def test_regions_that_compiled_code_does_not_see_are_an_error(transformer):
    prepare(transformer)
    transformer.rope._forward_hooks.clear()  # as code compiled before the hooks came
    with pytest.raises(RequestError, match="before compiling"):
        velocity(transformer, subjects())


def test_preparing_twice_adds_once(transformer):
    once = velocity(transformer, subjects())
    prepare(transformer)
    assert torch.equal(velocity(transformer, subjects()), once)


def test_the_unconditional_pass_is_plain_unless_asked(transformer):
    prompt = draw(1, LENGTH, 16, seed=3)
    off, on = (conditioning(subjects(unconditional=flag)) for flag in (False, True))
    assert without_prompt(off, prompt).subjects is None
    kept = without_prompt(on, prompt).subjects
    assert torch.equal(velocity(transformer, kept), velocity(transformer, on.subjects))
    other = velocity(transformer, kept, seed=4)  # another text, still the prompt's words
    assert not torch.allclose(other, velocity(transformer, on.subjects, seed=4))
    assert not torch.allclose(other, velocity(transformer, None, seed=4))


def test_regions_without_a_canvas_are_refused(transformer):
    made = replace(conditioning(subjects()), channels=None)
    with pytest.raises(RequestError, match="has no canvas"):
        predict_velocity(transformer, draw(1, 36, 5, 8, 12), torch.tensor([1.0]), None, made)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"alpha": -1.0}, "below 0"), ({"pooling": "max"}, "mean or sum"), ({"where": "x"}, "after")],
)
def test_unknown_choices_are_refused(change, words):
    with pytest.raises(RequestError, match=words):
        Disentanglement(**{"alpha": 1.0} | change)


def test_map_reaches_every_tensor():
    made = replace(subjects(), text=draw(1, LENGTH, 16)).map(torch.Tensor.double)
    assert isinstance(made, SubjectRegions)
    assert {t.dtype for t in (made.weights, made.tokens, made.text)} == {torch.float64}
