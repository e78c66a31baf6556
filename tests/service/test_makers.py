"""Makers: the pipelines with progress and previews, and the stub."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import tiny
from anyref.errors import RequestError
from anyref.models.passes import AttentionPass
from anyref.models.reuse import attending
from anyref.pipelines.generation import generate
from anyref.request import Reference, Request
from anyref.service import makers
from anyref.service.makers import Pace, PipelineMaker, StubMaker, maker_for
from anyref.service.preview import Preview
from anyref.service.settings import Settings

FAMILIES = {"magref": tiny.magref, "kaleido": tiny.kaleido}


def request(**fields):
    fox = Reference(images=[Image.new("RGB", (40, 30), "orange")], name="fox")
    return Request(prompt="a @fox walks right", references=[fox], **fields)


@pytest.mark.parametrize("family", FAMILIES)
def test_previews_show_the_video_and_change_nothing(family, monkeypatch):
    monkeypatch.setattr(makers, "PREVIEW_SECONDS", 0.0)
    monkeypatch.setattr(makers, "PREVIEW_SHARE", 0.0)
    pipe, told = FAMILIES[family](), []
    plain = generate(pipe, request())
    pace = Pace(told.append)
    with Preview(pipe) as preview:
        assert preview.picture() is None
        pace.preview = preview.picture
        watched = generate(pipe, request(), on_stage=pace.stage, on_step=pace.step)
        last = preview.picture()
    assert (watched.frames == plain.frames).all()
    assert last.shape == plain.frames.shape[1:]
    assert last.dtype == np.uint8
    assert preview.picture() is None
    shown = [progress.preview for progress in told if progress.preview is not None]
    assert len(shown) == 1  # of two steps, the last needs none
    assert {progress.stage for progress in told} == {"encode", "steps", "decode"}


def test_what_may_change_the_bytes_is_in_the_record(tmp_path):
    folder = tiny.tiny_kaleido_folder(tmp_path / "model")
    settings = Settings(
        database="", store="", models=(str(folder),), memory="blocks-int8", dtype="bfloat16"
    )
    made = PipelineMaker(settings, "cpu").make(request(num_inference_steps=1), lambda _: None)
    assert (made.model["memory"], made.model["dtype"]) == ("blocks-int8", "bfloat16")


def test_a_preview_shows_no_pass_that_a_reference_is_hidden_from():
    import torch

    pipe = tiny.kaleido()
    transformer = pipe.transformer
    with Preview(pipe) as preview:
        for without, shift in ((None, 0.0), (0, 5.0)):
            with attending(transformer, AttentionPass(without=without)):
                transformer(
                    hidden_states=torch.full((1, 16, 3, 8, 12), shift),
                    timestep=torch.tensor([500.0]),
                    encoder_hidden_states=torch.zeros(1, 4, transformer.config.text_dim),
                    return_dict=False,
                )
        assert preview._sample.abs().max() == 0.0


def test_the_preview_of_a_flow_that_is_already_straight_is_the_video_itself():
    """With velocity noise - x0, x0 is found at any step (here from the first)."""
    import torch

    pipe = tiny.kaleido()
    clean, noise = torch.randn(1, 16, 3, 8, 12), torch.randn(1, 16, 3, 8, 12)
    preview = Preview(pipe)
    level = 0.7
    given = {
        "timestep": torch.tensor([level * 1000.0]),
        "hidden_states": (1 - level) * clean + level * noise,
    }
    for branch, velocity in (("cond", noise - clean), ("uncond", noise)):
        with attending(pipe.transformer, AttentionPass(branch=branch)):
            preview._remember(None, None, given, (velocity,))
    expected = pipe.decode_latents(clean[:, :, 1:2])[0, :, 0].clamp(-1, 1).add(1).mul(127.5)
    found = torch.from_numpy(preview.picture().astype(np.float32)).permute(2, 0, 1)
    assert (found - expected).abs().max() <= 1.0


def test_the_pipeline_stays_loaded_for_the_next_job(settings, monkeypatch):
    from anyref.pipelines import loading

    loads = []

    def load(place, **_):
        loads.append(place)
        return tiny.magref()

    monkeypatch.setattr(loading, "load_pipeline", load)
    monkeypatch.setattr(loading, "model_hash", lambda folder: f"hash of {folder.name}")
    maker = PipelineMaker(replace(settings, models=("tiny-magref", "tiny-kaleido")), "cpu")
    for model in ("tiny-magref", "tiny-magref", "tiny-kaleido"):
        made = maker.make(request(model=model), lambda _: None)
        assert made.model == {"name": model, "hash": f"hash of {model}"}
    assert loads == ["tiny-magref", "tiny-kaleido"]
    with pytest.raises(RequestError, match="not served by this worker"):
        maker.make(request(model="other"), lambda _: None)


def test_the_stub_makes_its_own_video_of_every_seed(settings):
    maker = maker_for(settings, "cpu")
    assert isinstance(maker, StubMaker)
    one, two, again = (
        maker.make(Request(prompt="a", seed=seed, num_frames=5, width=64), lambda _: None).frames
        for seed in (1, 2, 1)
    )
    assert one.shape == (5, 96, 64, 3)
    assert (one == again).all()
    assert (one != two).any()
