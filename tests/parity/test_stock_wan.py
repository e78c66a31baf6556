"""Without references both pipelines are the stock Wan pipelines, bit for bit."""

from __future__ import annotations

import types

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel

import tiny
from anyref.pipelines.solvers import set_official_timesteps


def with_official_sigmas(scheduler):
    """The stock pipelines ask for their own sigmas; give them the official ones."""
    plain = scheduler.set_timesteps

    def set_timesteps(self, num_inference_steps=None, device=None, **sigmas):
        if sigmas:
            return plain(device=device, **sigmas)
        return set_official_timesteps(self, num_inference_steps, device)

    scheduler.set_timesteps = types.MethodType(set_timesteps, scheduler)
    return scheduler


def arguments():
    return {
        "prompt": "a red fox walks right",
        "negative_prompt": "the",
        "guidance_scale": 3.0,
        "num_inference_steps": 3,
        "generator": torch.Generator().manual_seed(5),
        "output_type": "latent",
        **tiny.SIZE,
    }


def test_magref_with_a_canvas_and_an_all_ones_mask_is_wan_i2v():
    pipe = tiny.magref()
    first_frame = tiny.picture(size=(96, 64))
    ours = pipe(canvas=first_frame, **arguments()).frames
    stock = WanImageToVideoPipeline(
        tokenizer=pipe.tokenizer,
        text_encoder=pipe.text_encoder,
        vae=pipe.vae,
        scheduler=with_official_sigmas(pipe.scheduler),
        transformer=pipe.transformer,
    )
    stock.set_progress_bar_config(disable=True)
    assert torch.equal(ours, stock(image=first_frame, **arguments()).frames)


def test_a_region_mask_is_not_wan_i2v():
    pipe = tiny.magref()
    first_frame = tiny.picture(size=(96, 64))
    mask = torch.zeros(8, 12, dtype=torch.bool)
    ones = pipe(canvas=first_frame, **arguments()).frames
    assert not torch.equal(ones, pipe(canvas=first_frame, latent_mask=mask, **arguments()).frames)


@pytest.mark.parametrize("after_references", [False, True])
def test_kaleido_without_references_is_wan_t2v(after_references):
    pipe = tiny.kaleido()
    if after_references:
        pipe(references=[tiny.picture()], **arguments())
    ours = pipe(**arguments()).frames
    plain = WanTransformer3DModel(in_channels=16, **tiny.TRANSFORMER).eval()
    plain.load_state_dict(pipe.transformer.state_dict())
    stock = WanPipeline(
        tokenizer=pipe.tokenizer,
        text_encoder=pipe.text_encoder,
        vae=pipe.vae,
        scheduler=with_official_sigmas(pipe.scheduler),
        transformer=plain,
    )
    stock.set_progress_bar_config(disable=True)
    assert torch.equal(ours, stock(**arguments()).frames)
