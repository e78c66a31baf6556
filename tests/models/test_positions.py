"""Rotary tables hold nothing that a device without float64 could not take."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tiny


class NoDoubles(TorchDispatchMode):
    """Fails at the first operation that makes a float64 tensor."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for x in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(x, torch.Tensor) and x.dtype == torch.float64:
                raise AssertionError(f"{func} makes a float64 tensor")
        return made


@pytest.mark.parametrize("family", ["magref", "kaleido"])
def test_a_pass_of_the_transformer_makes_no_float64(family):
    transformer = getattr(tiny, family)().transformer
    channels = transformer.config.in_channels
    options = {}
    if family == "kaleido":
        options["reference_hidden_states"] = [torch.zeros(1, channels, 1, 4, 6)]
    assert {x.dtype for x in transformer.rope.buffers()} == {torch.float32}
    with torch.no_grad(), NoDoubles():
        transformer(
            hidden_states=torch.zeros(1, channels, 2, 8, 12),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.zeros(1, 5, 16),
            return_dict=False,
            **options,
        )


@pytest.mark.parametrize("family", ["magref", "kaleido"])
def test_whole_videos_make_no_float64_in_their_steps(family, monkeypatch):
    from anyref.pipelines import base, sampling

    def checked(*args, **options):
        with NoDoubles():
            return sampling.denoise(*args, **options)

    monkeypatch.setattr(base, "denoise", checked)
    pipe = getattr(tiny, family)()
    pipe("a fox", references=[tiny.picture()], output_type="latent", num_inference_steps=3)
