"""Converted official weights compute what the official code computed."""

from __future__ import annotations

from pathlib import Path

import official_folders as official
import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from official_folders import relative_error
from transformers import CLIPVisionModel, UMT5EncoderModel

from anyref.models.kaleido_transformer import KaleidoTransformer3DModel
from anyref.models.weights import convert_kaleido, convert_magref

NOTHING_ELSE = frozenset({"text_encoder", "image_encoder", "vae"})


@pytest.fixture(scope="module")
def magref(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("magref")
    convert_magref(
        official.write_magref(root / "official"), root / "out", clip_heads=official.CLIP_HEADS
    )
    return root / "out"


@torch.no_grad()
def test_text_encoder_gives_the_official_context(magref: Path) -> None:
    model = UMT5EncoderModel.from_pretrained(magref / "text_encoder").eval()
    case = official.golden(official.T5)
    found = model(input_ids=case["ids"], attention_mask=case["mask"]).last_hidden_state
    found = found * case["mask"].unsqueeze(-1)
    assert relative_error(found, case["context"]) <= 1e-5


@torch.no_grad()
def test_image_encoder_gives_the_official_features(magref: Path) -> None:
    model = CLIPVisionModel.from_pretrained(magref / "image_encoder").eval()
    case = official.golden(official.CLIP)
    found = model(case["pixel_values"], output_hidden_states=True).hidden_states[-2]
    assert relative_error(found, case["features"]) <= 1e-5


@torch.no_grad()
def test_vae_gives_the_official_latents_of_the_canvas(magref: Path) -> None:
    vae = AutoencoderKLWan.from_pretrained(magref / "vae", torch_dtype=torch.float32)
    case = official.golden(official.MAGREF)
    frame = case["vae_in_frame0"][None, :, None]  # (1, 3, 1, Y, X)
    clip = torch.cat([frame, torch.zeros(1, 3, 8, *frame.shape[-2:])], dim=2)
    latents = vae.encode(clip).latent_dist.mode()[0]  # (C, 3, H, W)
    mean = torch.tensor(vae.config.latents_mean).view(-1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(-1, 1, 1, 1)
    assert relative_error((latents - mean) / std, case["y_latents"][:, :3]) <= 1e-5


@torch.no_grad()
def test_magref_transformer_gives_the_official_step(magref: Path) -> None:
    model = WanTransformer3DModel.from_pretrained(
        magref / "transformer", torch_dtype=torch.float32
    ).eval()
    case = official.golden(official.MAGREF)
    context = case["context"]
    padded = torch.cat([context, torch.zeros(512 - len(context), context.shape[1])])
    found = model(
        hidden_states=torch.cat([case["noise"], case["step0_y"]])[None],
        timestep=case["step0_t"],
        encoder_hidden_states=padded[None],
        encoder_hidden_states_image=case["clip_fea"].float(),
    ).sample[0]
    assert relative_error(found, case["step0_cond"]) <= 1e-5


@torch.no_grad()
def test_kaleido_transformer_gives_the_official_step(tmp_path: Path) -> None:
    sat = official.write_sat(tmp_path / "sat", official.kaleido_weights())
    convert_kaleido(
        sat,
        tmp_path / "out",
        num_heads=official.KALEIDO_HEADS,
        allow_missing=NOTHING_ELSE,
    )
    model = KaleidoTransformer3DModel.from_pretrained(tmp_path / "out" / "transformer").eval()
    case = official.golden(official.KALEIDO)
    found = model(
        hidden_states=case["noise"].transpose(1, 2),
        timestep=case["step_t"],
        encoder_hidden_states=case["context"],
        reference_hidden_states=[ref[:, :, None] for ref in case["refs"].unbind(1)],
    ).sample
    assert relative_error(found.transpose(1, 2), case["step_out"]) <= 1e-5
