"""The loss is the equation of the papers, for both families."""

from __future__ import annotations

import pytest
import torch

import tiny
from anyref.pipelines.conditioning import Conditioning
from anyref.training.objective import flow_matching_loss, resolution_shift, sample_sigmas
from anyref.training.recipe import ObjectiveSection


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape):
    return torch.randn(*shape, generator=generator(sum(shape)))


CASES = {
    "magref": Conditioning(channels=draw(2, 20, 5, 8, 12)),
    "kaleido": Conditioning(
        transformer_kwargs={
            "reference_hidden_states": [draw(2, 16, 1, 4, 4), draw(2, 16, 1, 4, 6)],
            "reference_offset": 80,
        }
    ),
}


@pytest.mark.parametrize("family", list(CASES))
def test_the_loss_is_the_squared_error_of_noise_minus_data(family):
    transformer = getattr(tiny, family)().transformer
    clean, noise, text = draw(2, 16, 5, 8, 12), draw(2, 16, 5, 8, 13)[..., :12], draw(2, 8, 16)
    sigmas = torch.tensor([0.2, 0.9])
    found = flow_matching_loss(transformer, clean, CASES[family], text, sigmas, noise)
    for i, sigma in enumerate(sigmas):
        x = (1 - sigma) * clean[i : i + 1] + sigma * noise[i : i + 1]
        if family == "magref":
            x = torch.cat([x, CASES[family].channels[i : i + 1]], 1)
            more = {}
        else:
            kwargs = CASES[family].transformer_kwargs
            references = [r[i : i + 1] for r in kwargs["reference_hidden_states"]]
            more = {"reference_hidden_states": references}
        with torch.no_grad():
            v = transformer(x, sigma[None] * 1000, text[i : i + 1], return_dict=False, **more)[0]
        expected = ((v - (noise - clean)[i : i + 1]) ** 2).mean()
        assert found[i].item() == pytest.approx(expected.item(), rel=1e-5)


def test_every_reference_changes_the_loss():
    transformer = tiny.kaleido().transformer
    clean, noise, text = draw(2, 16, 5, 8, 12), draw(2, 16, 5, 8, 13)[..., :12], draw(2, 8, 16)
    references = [draw(2, 16, 1, 4, 4) * k for k in (1, 2, 3)]
    losses = set()
    for changed in (None, 0, 1, 2):
        given = [-r if k == changed else r for k, r in enumerate(references)]
        made = Conditioning(transformer_kwargs={"reference_hidden_states": given})
        loss = flow_matching_loss(
            transformer, clean, made, text, torch.tensor([0.5, 0.5]), noise
        ).sum()
        losses.add(round(loss.item(), 7))
    assert len(losses) == 4


def test_weights_move_the_loss_to_the_cells_they_name():
    transformer = tiny.magref().transformer
    clean, noise, text = draw(2, 16, 5, 8, 12), draw(2, 16, 5, 8, 13)[..., :12], draw(2, 8, 16)
    arguments = (transformer, clean, CASES["magref"], text, torch.tensor([0.5, 0.5]), noise)
    left = torch.zeros(2, 1, 5, 8, 12)
    left[..., :6] = 2.0
    plain = flow_matching_loss(*arguments)
    both = flow_matching_loss(*arguments, left) + flow_matching_loss(*arguments, 2.0 - left)
    assert torch.allclose(both / 2, plain, rtol=1e-5)


def sigmas(count=4096, tokens=256, **law):
    return sample_sigmas(count, ObjectiveSection(**law), tokens, generator())


def test_sigmas_are_shifted_towards_noise_and_repeat():
    plain, shifted = sigmas(shift=1.0), sigmas(shift=3.0)
    assert 0.0 < plain.min() < plain.max() < 1.0
    assert plain.median().item() == pytest.approx(0.5, abs=0.02)
    assert shifted.median().item() == pytest.approx(0.75, abs=0.02)
    assert torch.equal(plain, sigmas(shift=1.0))


def test_the_laws_have_their_means_and_spreads():
    logits = torch.logit(sigmas(shift=1.0, mean=0.5, std=2.0))
    assert logits.mean().item() == pytest.approx(0.5, abs=0.05)
    assert logits.std().item() == pytest.approx(2.0, abs=0.1)
    uniform = sigmas(shift=1.0, timesteps="uniform")
    assert uniform.std().item() == pytest.approx(12**-0.5, abs=0.01)


def test_strata_spread_the_levels_of_one_batch():
    levels = sigmas(8, shift=1.0, timesteps="uniform").sort().values
    assert ((levels * 8).long() == torch.arange(8)).all()
    free = sigmas(8, shift=1.0, timesteps="uniform", stratified=False)
    assert not torch.equal(free.sort().values, levels)


@pytest.mark.parametrize(("tokens", "shift"), [(1560, 2.06), (1792, 2.14), (3600, 2.90)])
def test_the_resolution_shift_is_kaleido_s(tokens, shift):
    assert resolution_shift(tokens) == pytest.approx(shift, abs=0.006)
    assert torch.equal(
        sigmas(tokens=tokens, shift="resolution"), sigmas(shift=resolution_shift(tokens))
    )
