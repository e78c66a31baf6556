from __future__ import annotations

import sys
import threading
from functools import partial

import pytest
import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch import nn

import tiny
from anyref import Reference
from anyref.models.reuse import install
from anyref.pipelines import sampling
from anyref.pipelines.side_by_side import fits, side_by_side


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_two_passes_run_at_the_same_time_each_on_half_of_the_threads(two_threads):
    met = threading.Barrier(2, timeout=10)

    def work():
        met.wait()
        return torch.get_num_threads(), torch.is_grad_enabled()

    with torch.no_grad(), side_by_side(at_once=True) as together:
        assert together([work, work]) == [(1, False), (1, False)]
    assert torch.get_num_threads() == 2


def test_one_after_the_other_the_first_comes_first():
    order = []
    with side_by_side(at_once=False) as together:
        together([lambda: order.append(1), lambda: order.append(2)])
    assert order == [1, 2]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("count", range(5))
def test_results_keep_the_order_of_any_number_of_passes(at_once, count, two_threads):
    with side_by_side(at_once=at_once) as together:
        assert together([partial(str, i) for i in range(count)]) == [str(i) for i in range(count)]


def test_an_error_of_either_pass_is_raised_and_the_threads_come_back(two_threads):
    def fails():
        raise ValueError("here")

    for pair in ((fails, int), (int, fails)):
        with pytest.raises(ValueError, match="here"), side_by_side(at_once=True) as together:
            together(pair)
        assert torch.get_num_threads() == 2


def test_a_mode_without_gradients_is_the_same_in_both(two_threads):
    with torch.inference_mode(), side_by_side(at_once=True) as together:
        one, other = together([lambda: torch.ones(2) * 2] * 2)
    assert one.is_inference() and other.is_inference()


def test_passes_share_the_processor_only_where_nothing_keeps_a_memory(two_threads):
    model, x = nn.Sequential(nn.Linear(2, 2)), torch.zeros(1)
    assert fits(model, x)
    assert not fits(model, torch.zeros(1, device="meta"))
    with torch.autocast("cpu"):
        assert not fits(model, x)
    model[0]._hf_hook = object()
    assert not fits(model, x)
    del model[0]._hf_hook
    registry = HookRegistry.check_if_exists_or_initialize(model[0])
    assert fits(model, x)
    registry.register_hook(ModelHook(), "keeps")
    assert not fits(model, x)
    registry.remove_hook("keeps")
    model.compile()
    assert not fits(model, x)
    torch.set_num_threads(1)
    assert not fits(nn.Linear(2, 2), x)


def test_passes_that_share_a_text_may_run_at_once_while_a_callback_changes_it(two_threads):
    """Guidance on a reference without guidance on text: both passes read the prompt."""
    pipe = tiny.kaleido()

    def video():
        return pipe(
            "a",
            references=[Reference([tiny.picture()], strength=2.0)],
            strength_map="guidance",
            guidance_scale=1.0,
            num_inference_steps=20,
            generator=torch.Generator().manual_seed(3),
            output_type="latent",
            callback_on_step_end=lambda *given: {"prompt_embeds": given[3]["prompt_embeds"] * 1.01},
            callback_on_step_end_tensor_inputs=["prompt_embeds"],
        ).frames

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        at_once = video()
    finally:
        sys.setswitchinterval(interval)
    torch.set_num_threads(1)
    assert torch.allclose(video(), at_once, atol=1e-6)


@pytest.mark.parametrize("family", [tiny.magref, tiny.kaleido])
def test_a_video_whose_passes_run_at_once_is_the_same_bit_for_bit(family, two_threads, monkeypatch):
    pipe, threads = family(), {}

    def remember(*_):
        threads.setdefault(install(pipe.transformer).run.branch, set()).add(threading.get_ident())

    pipe.transformer.register_forward_hook(remember)

    def latents():
        threads.clear()
        return pipe(
            "a",
            references=[tiny.picture("red")],
            generator=torch.Generator().manual_seed(3),
            output_type="latent",
        ).frames

    at_once = latents()
    assert len(threads["cond"]) == len(threads["uncond"]) == 1
    assert threads["cond"] != threads["uncond"]
    monkeypatch.setattr(sampling, "fits", lambda transformer, x: False)
    assert torch.equal(latents(), at_once)
    assert threads["cond"] == threads["uncond"]
