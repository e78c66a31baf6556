"""The gradient of our loss is that of the equations, written out here a second time.

x_s = (1 - s) x + s e,  v = e - x,  loss = mean of weight * (velocity - v)^2, video tokens only
z0' = z0 + alpha * sum_k M_k v_k       in every layer (MAGREF paper, equations 5 and 6)
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tiny
from anyref import Reference
from anyref.models.disentanglement import Disentanglement, SubjectRegions
from anyref.pipelines.conditioning import Conditioning
from anyref.request import PixelShape
from anyref.training.objective import flow_matching_loss

SIGMAS = (0.25, 0.8)
LENGTH = 6
CHOICES = [
    Disentanglement(0.6, pooling, where, projected)
    for pooling, where, projected in itertools.product(
        ("mean", "sum"), ("after", "before"), (False, True)
    )
]


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def subject_matrices(how, tokens_of_frame, dtype):
    """Two samples: two references, then one with three tokens and one without words."""
    masks = torch.zeros(2, 2, tokens_of_frame, dtype=dtype)
    masks[0, 0, :2] = masks[0, 1, 3:5] = masks[1, 0, 1:4] = masks[1, 1, 4:] = 1
    words = torch.zeros(2, 2, LENGTH, dtype=dtype)
    for b, k, indices in ((0, 0, [0, 1]), (0, 1, [4]), (1, 0, [1, 2, 5])):
        words[b, k, indices] = 1 / len(indices) if how.pooling == "mean" else 1
    return masks, words


def equation_six(attention, how, masks, words, text):
    """alpha * sum_k M_k v_k of one sample: loops and dot products, straight from the weights."""
    total = torch.zeros(masks.shape[1], attention.to_v.weight.shape[0], dtype=text.dtype)
    for k in range(len(masks)):
        if not words[k].any():
            continue
        value = sum(
            words[k, i] * (attention.to_v.weight @ text[i] + attention.to_v.bias)
            for i in range(len(text))
        )
        if how.output_projection:
            value = attention.to_out[0].weight @ value + attention.to_out[0].bias
        total = total + masks[k][:, None] * value[None]
    return how.alpha * total


def gradients(loss, network):
    network.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def assert_equal(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = max(gradient.abs().max().item(), 1e-3)
        assert (found[name] - gradient).abs().max().item() <= tolerance * scale, name


def mean_by_hand(samples, velocities, weight):
    """The loss of each sample from its clean latents, noise and velocity, cell by cell."""
    losses = []
    for i, (clean, noise) in enumerate(samples):
        error = (velocities[i] - (noise - clean)) ** 2
        losses.append((error if weight is None else error * weight[i]).sum() / error.numel())
    return torch.stack(losses)


# --- a stand-in network in double precision ---------------------------------------------------


class Rotary(nn.Module):
    def forward(self, x):
        n = x.shape[2] * x.shape[3] * x.shape[4]
        return torch.linspace(0.5, 1, n).double(), torch.linspace(0, 1, n).double()


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x, context):
        scores = self.to_q(x) @ self.to_k(context).transpose(1, 2)
        return self.to_out[0](scores.softmax(-1) @ self.to_v(context))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm2, self.attn2 = nn.LayerNorm(width), Attention(width)
        self.mix, self.ff = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x, context, temb, rotary):
        cos, sin = rotary
        n = len(cos)
        turned = torch.cat([x[:, :-n], x[:, -n:] * cos[:, None] + sin[:, None]], 1)
        x = x + self.mix(turned).mean(1, keepdim=True) + temb
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(x).tanh()


class StandIn(nn.Module):
    """A transformer's signature and joints, one token per latent cell."""

    dtype = torch.float64

    def __init__(self, channels, out=3, width=8, text_width=5):
        super().__init__()
        torch.manual_seed(channels)
        self.rope = Rotary()
        self.embed, self.text = nn.Linear(channels, width), nn.Linear(text_width, width)
        self.reference = nn.Linear(out, width)
        self.blocks = nn.ModuleList([Block(width), Block(width)])
        self.out = nn.Linear(width, out)
        self.double()

    def forward(
        self,
        hidden_states,
        timestep,
        encoder_hidden_states,
        encoder_hidden_states_image=None,
        attention_kwargs=None,
        return_dict=False,
        reference_hidden_states=(),
    ):
        rotary = self.rope(hidden_states)
        x = self.tokens(hidden_states, reference_hidden_states)
        context, temb = self.text(encoder_hidden_states), (timestep / 1000)[:, None, None].sin()
        for block in self.blocks:
            x = block(x, context, temb, rotary)
        return (self.video(x, hidden_states.shape),)

    def tokens(self, latents, references):
        video = self.embed(latents.flatten(2).transpose(1, 2))
        clean = [self.reference(r.flatten(2).transpose(1, 2)) for r in references]
        return torch.cat([*clean, video], 1)

    def video(self, x, shape):
        cells = shape[2] * shape[3] * shape[4]
        return self.out(x[:, -cells:]).transpose(1, 2).unflatten(2, shape[2:])


def stand_in_velocity(network, x, sigma, text, references, subjects, sample):
    """One sample through the stand-in, with equation 6 written into its blocks."""
    rotary, context = network.rope(x), network.text(text)
    tokens = network.tokens(x, references)
    for block in network.blocks:
        cos, sin = rotary
        n = len(cos)
        turned = torch.cat([tokens[:, :-n], tokens[:, -n:] * cos[:, None] + sin[:, None]], 1)
        tokens = tokens + block.mix(turned).mean(1, keepdim=True) + torch.sin(sigma)
        added = torch.zeros_like(tokens)
        if subjects is not None:
            how, masks, words = subjects
            first = equation_six(block.attn2, how, masks[sample], words[sample], context[0])
            added = torch.cat([first[None], added[:, len(first) :]], 1)
        if subjects is not None and how.where == "before":
            tokens = tokens + added
            tokens = tokens + block.attn2(block.norm2(tokens), context)
        else:
            tokens = tokens + block.attn2(block.norm2(tokens), context) + added
        tokens = tokens + block.ff(tokens).tanh()
    return network.video(tokens, x.shape)[0]


def stand_in_case(family, how=None):
    double = {"dtype": torch.float64}
    clean, noise = draw(2, 3, 3, 2, 3, seed=1, **double), draw(2, 3, 3, 2, 3, seed=2, **double)
    text = draw(2, LENGTH, 5, seed=3, **double)
    if family == "kaleido":
        references = [draw(2, 3, 1, 2, 3, seed=4, **double), draw(2, 3, 1, 1, 2, seed=5, **double)]
        made = Conditioning(transformer_kwargs={"reference_hidden_states": references})
        return StandIn(3), clean, noise, text, made, None
    subjects = None if how is None else (how, *subject_matrices(how, 6, torch.float64))
    made = Conditioning(
        channels=draw(2, 4, 3, 2, 3, seed=6, **double),
        subjects=subjects
        and SubjectRegions(weights=subjects[1], tokens=subjects[2], how=subjects[0]),
    )
    return StandIn(7), clean, noise, text, made, subjects


CASES = [("magref", None), ("kaleido", None), *(("magref", how) for how in CHOICES)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("family", "how"), CASES)
def test_in_double_precision_the_gradient_is_the_equations(family, how, weighted):
    network, clean, noise, text, made, subjects = stand_in_case(family, how)
    weight = 2 * torch.rand(2, 1, 3, 2, 3, dtype=torch.float64) if weighted else None
    sigmas = torch.tensor(SIGMAS, dtype=torch.float64)
    ours = flow_matching_loss(network, clean, made, text, sigmas, noise, weight)
    found = gradients(ours.sum(), network)
    velocities = []
    for i in range(2):
        x = (1 - sigmas[i]) * clean[i : i + 1] + sigmas[i] * noise[i : i + 1]
        if family == "magref":
            x = torch.cat([x, made.channels[i : i + 1]], 1)
        references = made.transformer_kwargs.get("reference_hidden_states", [])
        references = [r[i : i + 1] for r in references]
        one = text[i : i + 1]
        velocities.append(
            stand_in_velocity(network, x, sigmas[i], one, references, subjects, sample=i)
        )
    by_hand = mean_by_hand(list(zip(clean, noise, strict=True)), velocities, weight)
    assert torch.allclose(ours, by_hand, rtol=1e-10)
    assert_equal(found, gradients(by_hand.sum(), network), 1e-8)


# --- the stock transformer --------------------------------------------------------------------


def attend(attention, x, context, rotary=None):
    """Multi-head attention as Wan's, heads one by one."""
    q = attention.norm_q(attention.to_q(x))
    k, v = attention.norm_k(attention.to_k(context)), attention.to_v(context)
    parts = []
    for one in zip(*(t.chunk(attention.heads, dim=-1) for t in (q, k, v)), strict=True):
        query, key = (t if rotary is None else turn(t, rotary) for t in one[:2])
        scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
        parts.append(scores.softmax(-1) @ one[2])
    return attention.to_out[0](torch.cat(parts, -1))


def turn(x, rotary):
    cos, sin = (table[0, :, 0] for table in rotary)  # each frequency stands twice
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos[:, ::2], sin[:, ::2])).flatten(-2)


def block_by_hand(block, x, context, temb, rotary, added, where):
    shift1, scale1, gate1, shift2, scale2, gate2 = (block.scale_shift_table + temb).chunk(6, dim=1)
    normal = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale1) + shift1
    x = x + attend(block.attn1, normal, normal, rotary) * gate1
    if where == "before":
        x = x + added
    normal = F.layer_norm(x, x.shape[-1:], block.norm2.weight, block.norm2.bias, 1e-6)
    x = x + attend(block.attn2, normal, context)
    if where == "after":
        x = x + added
    normal = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale2) + shift2
    return x + block.ffn(normal) * gate2


def stock_velocity(network, x, timestep, text, subjects, sample):
    """One sample through Wan's transformer, written out; patches of (1, 2, 2)."""
    how, masks, words = subjects
    rotary = network.rope(x)
    frames, rows, columns = x.shape[2], x.shape[3] // 2, x.shape[4] // 2
    tokens = network.patch_embedding(x).flatten(2).transpose(1, 2)
    temb, modulation, context, _ = network.condition_embedder(timestep, text)
    for block in network.blocks:
        first = equation_six(block.attn2, how, masks[sample], words[sample], context[0])
        added = F.pad(first[None], (0, 0, 0, tokens.shape[1] - len(first)))
        modulated = modulation.unflatten(1, (6, -1))
        tokens = block_by_hand(block, tokens, context, modulated, rotary, added, how.where)
    shift, scale = (network.scale_shift_table + temb[:, None]).chunk(2, dim=1)
    tokens = network.proj_out(
        F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6) * (1 + scale) + shift
    )
    grid = tokens.view(frames, rows, columns, 2, 2, 16)
    return grid.permute(5, 0, 1, 3, 2, 4).reshape(16, frames, 2 * rows, 2 * columns)


def stock_inputs():
    clean, noise = draw(2, 16, 3, 4, 6, seed=1), draw(2, 16, 3, 4, 6, seed=2)
    return clean, noise, draw(2, LENGTH, 16, seed=3), torch.tensor(SIGMAS)


@pytest.mark.parametrize("how", CHOICES)
def test_through_the_stock_transformer_disentanglement_is_equation_six(how):
    network = tiny.magref().transformer
    clean, noise, text, sigmas = stock_inputs()
    masks, words = subject_matrices(how, 6, torch.float32)
    channels = draw(2, 20, 3, 4, 6, seed=4)
    made = Conditioning(
        channels=channels, subjects=SubjectRegions(weights=masks, tokens=words, how=how)
    )
    weight = draw(2, 1, 3, 4, 6, seed=5).abs()
    ours = flow_matching_loss(network, clean, made, text, sigmas, noise, weight)
    found = gradients(ours.sum(), network)
    velocities = []
    for i in range(2):
        noisy = (1 - sigmas[i]) * clean[i] + sigmas[i] * noise[i]
        x, one = torch.cat([noisy, channels[i]])[None], text[i : i + 1]
        velocities.append(
            stock_velocity(network, x, 1000 * sigmas[i : i + 1], one, (how, masks, words), i)
        )
    by_hand = mean_by_hand(list(zip(clean, noise, strict=True)), velocities, weight)
    assert_equal(found, gradients(by_hand.sum(), network), 1e-5)


@pytest.mark.parametrize("family", ["magref", "kaleido"])
def test_through_the_stock_transformer_the_gradient_is_the_equations(family):
    network = getattr(tiny, family)().transformer
    clean, noise, text, sigmas = stock_inputs()
    channels = draw(2, 20, 3, 4, 6, seed=4)
    references = [draw(2, 16, 1, 4, 6, seed=6), draw(2, 16, 1, 2, 4, seed=7)]
    made = (
        Conditioning(channels=channels)
        if family == "magref"
        else Conditioning(
            transformer_kwargs={
                "reference_hidden_states": references,
                "reference_offset": 80,
            }
        )
    )
    ours = flow_matching_loss(network, clean, made, text, sigmas, noise)
    found = gradients(ours.sum(), network)
    velocities = []
    for i in range(2):
        x = ((1 - sigmas[i]) * clean[i] + sigmas[i] * noise[i])[None]
        arguments = (1000 * sigmas[i : i + 1], text[i : i + 1])
        if family == "magref":
            x = torch.cat([x, channels[i : i + 1]], 1)
            velocities.append(network(x, *arguments, return_dict=False)[0][0])
            continue
        own = [r[i : i + 1] for r in references]
        velocities.append(
            network(
                x,
                *arguments,
                return_dict=False,
                reference_hidden_states=own,
                reference_offset=80,
            )[0][0]
        )
    by_hand = mean_by_hand(list(zip(clean, noise, strict=True)), velocities, None)
    assert_equal(found, gradients(by_hand.sum(), network), 1e-5)


# --- every reference counts -------------------------------------------------------------------

COLORS = ("red", "green", "blue")


def three_references(changed):
    return [
        Reference([tiny.picture("yellow" if k == changed else color)], f"r{k}")
        for k, color in enumerate(COLORS)
    ]


@pytest.mark.parametrize("family", ["magref", "kaleido"])
def test_references_two_and_three_change_loss_and_output(family):
    pipe = getattr(tiny, family)()
    clean, noise = draw(1, 16, 5, 8, 12, seed=1), draw(1, 16, 5, 8, 12, seed=2)
    text, losses, outputs = draw(1, LENGTH, 16, seed=3), [], []
    for changed in (None, 1, 2):
        references = three_references(changed)
        made = pipe.condition(references, PixelShape(17, 64, 96), seed=5)
        with torch.no_grad():
            losses.append(
                flow_matching_loss(
                    pipe.transformer, clean, made, text, torch.tensor([0.5]), noise
                ).item()
            )
        outputs.append(
            pipe(
                "a @r0 and @r1 and @r2",
                references=references,
                generator=torch.Generator().manual_seed(5),
                output_type="latent",
                num_inference_steps=1,
                guidance_scale=1.0,
            ).frames
        )
    for one, other in itertools.combinations(range(3), 2):
        assert abs(losses[one] - losses[other]) > 1e-6 * losses[one]
        assert not torch.allclose(outputs[one], outputs[other], atol=1e-5)
