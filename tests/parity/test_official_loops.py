"""Whole sampling loops equal the official implementations', through convert and load_pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import official_folders as official
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from anyref import load_pipeline
from anyref.models.weights import convert_kaleido, convert_magref

GOLDEN = Path(__file__).parents[1] / "golden"


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


def padded(context, length=512):
    return torch.cat([context, context.new_zeros(length - len(context), context.shape[1])])[None]


def convert_case(case: Path, folder: Path) -> tuple:
    """A golden MAGREF case as a published folder, converted and loaded."""
    settings = json.loads((case / "case.json").read_text())
    source = official.write_magref(folder / "official", case=case, encoders=False)
    convert_magref(
        source, folder / "out", allow_missing=frozenset({"text_encoder", "image_encoder"})
    )
    pipe = load_pipeline(folder / "out", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe, settings, load_file(case / "tensors.safetensors")


@pytest.mark.parametrize(("name", "solver"), [("e2e_2refs", "unipc"), ("e2e_1ref_dpm", "dpm++")])
def test_magref_equals_the_official_loop(tmp_path, name, solver):
    case = GOLDEN / "magref" / name
    pipe, settings, golden = convert_case(case, tmp_path)
    height, width = settings["height"], settings["width"]
    pictures = [Image.open(path) for path in sorted(case.glob("ref_*.png"))]

    canvas, mask = pipe.make_canvas(
        pictures, height=height, width=width, layout="grid", shuffle=False
    )
    assert np.array_equal(np.asarray(canvas), np.asarray(Image.open(case / "canvas.png")))
    assert torch.equal(mask, golden["latent_mask"].bool())

    pipe.set_solver(solver, flow_shift=settings["shift"])
    steps = []
    latents = pipe(
        references=pictures,
        layout="grid",
        shuffle=False,
        prompt_embeds=padded(golden["context"]),
        negative_prompt_embeds=padded(golden["context_null"]),
        image_embeds=golden["clip_fea"].float(),
        latents=golden["noise"][None],
        height=height,
        width=width,
        num_frames=settings["frames"],
        num_inference_steps=settings["steps"],
        guidance_scale=settings["guidance"],
        output_type="latent",
        callback_on_step_end=lambda *args: steps.append(args[1]) or {},
    ).frames
    assert relative_error(latents[0], golden["final_latents"]) <= 1e-4
    assert steps == list(range(settings["steps"]))


def test_magref_channels_and_one_step_equal_the_official_ones(tmp_path):
    case = GOLDEN / "magref" / "e2e_2refs"
    pipe, settings, golden = convert_case(case, tmp_path)
    from anyref.pipelines.base import as_references
    from anyref.request import PixelShape

    shape = PixelShape(settings["frames"], settings["height"], settings["width"])
    pictures = [Image.open(path) for path in sorted(case.glob("ref_*.png"))]
    made = pipe.condition(
        as_references(pictures),
        shape,
        layout="grid",
        shuffle=False,
        image_embeds=golden["clip_fea"].float(),
    )
    assert relative_error(made.channels[0], golden["step0_y"]) <= 1e-5
    with torch.no_grad():
        velocity = pipe.transformer(
            torch.cat([golden["noise"], golden["step0_y"]])[None],
            golden["step0_t"],
            padded(golden["context"]),
            golden["clip_fea"].float(),
            return_dict=False,
        )[0]
    assert relative_error(velocity[0], golden["step0_cond"]) <= 1e-5


@pytest.fixture(scope="module")
def kaleido(tmp_path_factory):
    case = GOLDEN / "kaleido" / "static_2refs"
    folder = tmp_path_factory.mktemp("kaleido")
    weights = load_file(case / "weights.safetensors")
    states = {f"model.diffusion_model.{k}": v.float() for k, v in weights.items()}
    (folder / "sat" / "1").mkdir(parents=True)
    (folder / "sat" / "latest").write_text("1")
    torch.save({"module": states}, folder / "sat" / "1" / "mp_rank_00_model_states.pt")
    convert_kaleido(
        folder / "sat",
        folder / "out",
        num_heads=4,
        allow_missing=frozenset({"text_encoder", "vae"}),
    )
    pipe = load_pipeline(folder / "out")
    pipe.set_progress_bar_config(disable=True)
    return (
        pipe,
        json.loads((case / "case.json").read_text()),
        load_file(case / "tensors.safetensors"),
    )


def test_kaleido_equals_the_official_step(kaleido):
    pipe, _, golden = kaleido
    with torch.no_grad():
        out = pipe.transformer(
            golden["noise"].transpose(1, 2),
            golden["step_t"],
            golden["context"],
            reference_hidden_states=[r[None, :, None] for r in golden["refs"][0]],
            return_dict=False,
        )[0]
    assert relative_error(out.transpose(1, 2), golden["step_out"]) <= 1e-5


def test_kaleido_equals_the_official_loop(kaleido):
    pipe, settings, golden = kaleido
    pipe.set_solver("euler", flow_shift=settings["shift"])
    latents = pipe(
        reference_latents=[r[None, :, None] for r in golden["refs"][0]],
        reference_offset=settings["rope_reference_offset"],
        prompt_embeds=golden["context"],
        negative_prompt_embeds=golden["context_null"],
        latents=golden["noise"].transpose(1, 2),
        height=8 * settings["latent_height"],
        width=8 * settings["latent_width"],
        num_frames=4 * settings["latent_frames"] - 3,
        num_inference_steps=settings["steps"],
        guidance_scale=settings["guidance"],
        output_type="latent",
    ).frames
    assert relative_error(latents.transpose(1, 2), golden["final_latents"]) <= 1e-4
    assert torch.allclose(pipe.scheduler.sigmas, golden["sigmas"], atol=1e-6)
