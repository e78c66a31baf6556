"""What a video keeps between its steps changes no bit; the CPU's kernels change the last ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

import tiny
from anyref import Reference
from anyref.errors import RequestError
from anyref.models import cpu_kernels
from anyref.models.passes import AttentionPass, Memory
from anyref.models.reuse import attending
from anyref.pipelines.sampling import VideoPasses

STEPS = 3
FAMILIES = {
    "magref": tiny.magref,
    "magref-clip": lambda: tiny.magref(clip=True),
    "kaleido": tiny.kaleido,
}
has_onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch has no oneDNN"
)


def latents(pipe, strength=1.0, **options):
    return pipe(
        "a fox walks",
        references=[Reference([tiny.picture()], strength=strength), tiny.picture("blue", (30, 60))],
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        num_inference_steps=STEPS,
        **options,
    ).frames


@pytest.fixture
def forgetful(monkeypatch):
    """Turns memory off until called with True."""
    made, remembers = VideoPasses.__init__, [False]

    def init(self, *args, **options):
        made(self, *args, **options | {"remember": remembers[0]})

    monkeypatch.setattr(VideoPasses, "__init__", init)
    return lambda value: remembers.__setitem__(0, value)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_video_with_memory_is_the_one_without_bit_for_bit(family, forgetful):
    pipe = FAMILIES[family]()
    without = latents(pipe)
    forgetful(True)
    assert torch.equal(latents(pipe), without)
    assert torch.equal(latents(pipe), without)


def test_the_text_is_projected_once_per_branch_and_the_first_attention_once_per_step():
    pipe, calls = tiny.magref(clip=True), {}

    def count(name, module):
        calls[name] = 0
        module.register_forward_hook(lambda *_: calls.__setitem__(name, calls[name] + 1))

    last = pipe.transformer.blocks[-1]
    count("text keys", last.attn2.to_k)
    count("image values", last.attn2.add_v_proj)
    count("first attention", pipe.transformer.blocks[0].attn1.to_q)
    count("last attention", last.attn1.to_q)
    latents(pipe)
    assert calls == {
        "text keys": 2,
        "image values": 2,
        "first attention": STEPS,
        "last attention": 2 * STEPS,
    }


@pytest.mark.parametrize("in_place", [False, True])
def test_embeddings_that_a_callback_changes_are_read(forgetful, in_place):
    pipe = tiny.kaleido()

    def change(_, i, __, tensors):
        if i != 0:
            return {}
        embeds = tensors["prompt_embeds"]
        return {"prompt_embeds": embeds.mul_(2) if in_place else embeds * 2}

    options = {
        "callback_on_step_end": change,
        "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
    }
    without = latents(pipe, **options)
    forgetful(True)
    assert torch.equal(latents(pipe, **options), without)
    assert not torch.equal(latents(pipe), without)


def test_a_copy_of_a_used_transformer_computes_with_its_own_weights():
    pipe = tiny.kaleido()
    before = latents(pipe)
    twin = copy.deepcopy(pipe.transformer)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    assert torch.equal(latents(pipe), before)
    pipe.transformer = twin
    assert not torch.equal(latents(pipe), before)


def test_another_text_is_never_taken_for_the_one_that_is_kept():
    transformer, memory = tiny.kaleido().transformer, Memory()
    project = transformer.condition_embedder.text_embedder
    texts = [torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    plain = [project(text) for text in texts]
    with torch.no_grad(), attending(transformer, AttentionPass(memory=memory)):
        for text, expected in zip([*texts, *texts], [*plain, *plain], strict=True):
            assert torch.equal(project(text), expected)
        texts[0].mul_(2)
        assert not torch.equal(project(texts[0]), plain[0])


@has_onednn
def test_kernels_equal_the_stock_layers_to_the_last_bits():
    transformer = tiny.kaleido().transformer
    block = transformer.blocks[0]
    x = torch.randn(2, 90, 24, generator=torch.Generator().manual_seed(0))
    heads = x.unflatten(2, (2, 12))
    with torch.no_grad():
        same = F.scaled_dot_product_attention(*(3 * [heads.transpose(1, 2)])).transpose(1, 2)
        pairs = (
            (cpu_kernels.attention(*(3 * [heads]), 12**-0.5), same),
            (cpu_kernels.linear(block.attn1.to_q, x), block.attn1.to_q(x)),
            (cpu_kernels.feed_forward(block.ffn, x), block.ffn(x)),
        )
    for fast, stock in pairs:
        assert relative_error(fast, stock) < 1e-6


def relative_error(one, other):
    return float((one - other).norm() / other.norm())


@has_onednn
@pytest.mark.parametrize("family", FAMILIES)
def test_a_video_by_kernels_is_the_stock_one_within_1e_5(family, monkeypatch):
    pipe = FAMILIES[family]()
    pipe.cpu_kernels = True
    short = latents(pipe)
    monkeypatch.setattr(cpu_kernels, "MIN_VALUES", 0)
    fast = latents(pipe)
    pipe.cpu_kernels = False
    stock = latents(pipe)
    assert torch.equal(short, stock)  # a sequence too short to pay
    assert not torch.equal(fast, stock)
    assert relative_error(fast, stock) < 1e-5


def test_layers_that_are_not_plain_keep_their_own_forward():
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    layer, x = Doubled(4, 4), torch.randn(3, 4)
    with torch.no_grad():
        assert torch.equal(cpu_kernels.linear(layer, x), layer(x))


def test_compiled_blocks_run_as_the_stock_ones_and_are_compiled_once():
    pipe = tiny.kaleido()
    expected = latents(pipe)
    pipe.transformer.compile_repeated_blocks(backend="eager", fullgraph=True)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert torch.equal(latents(pipe), expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
    with pytest.raises(RequestError, match="had no effect"):
        latents(pipe, strength=2.0)
    torch._dynamo.reset()
