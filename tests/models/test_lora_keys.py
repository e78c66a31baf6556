"""LoRA files in every style change the model as adding their deltas by hand does."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

import tiny
from anyref.errors import ModelError
from anyref.lora import Lora
from anyref.models.lora_keys import layer_names, read_deltas
from anyref.pipelines.loading import add_loras

RANK, ALPHA, STRENGTH = 2, 3.0, 0.7
# our layer, the official name
LAYERS = {
    "blocks.0.attn1.to_q": "blocks.0.self_attn.q",
    "blocks.1.attn1.to_out.0": "blocks.1.self_attn.o",
    "blocks.1.attn2.to_v": "blocks.1.cross_attn.v",
    "blocks.0.ffn.net.0.proj": "blocks.0.ffn.0",
    "blocks.1.ffn.net.2": "blocks.1.ffn.2",
    "proj_out": "head.head",
}


def pair(transformer, layer):
    """Matrices (RANK, in) and (out, RANK) of a layer."""
    generator = torch.Generator().manual_seed(sum(map(ord, layer)))
    out, inner = transformer.get_submodule(layer).weight.shape
    return (
        torch.randn(RANK, inner, generator=generator) / 4,
        torch.randn(out, RANK, generator=generator) / 4,
    )


def written(transformer, style):
    """A file's tensors in one style, and what they add to each parameter at strength 1."""
    tensors, deltas = {}, {}
    for layer, official in LAYERS.items():
        down, up = pair(transformer, layer)
        scale = 1.0
        if style == "diffusers":
            names = f"transformer.{layer}.lora_A.weight", f"transformer.{layer}.lora_B.weight"
        elif style == "lightx2v":
            names = [f"diffusion_model.{official}.lora_{x}.weight" for x in "AB"]
            bias = torch.full((len(up),), 0.05)
            tensors[f"diffusion_model.{official}.diff_b"] = deltas[f"{layer}.bias"] = bias
        else:
            flat = official.replace(".", "_")
            base = f"diffusion_model.{official}" if style == "comfyui" else f"lora_unet_{flat}"
            names = f"{base}.lora_down.weight", f"{base}.lora_up.weight"
            tensors[f"{base}.alpha"] = torch.tensor(ALPHA)
            scale = ALPHA / RANK
        tensors[names[0]], tensors[names[1]] = down, up
        deltas[f"{layer}.weight"] = scale * up @ down
    if style == "lightx2v":
        for official, ours in (("norm3", "norm2"), ("self_attn.norm_q", "attn1.norm_q")):
            diff = torch.full((24,), 0.1)
            tensors[f"diffusion_model.blocks.0.{official}.diff"] = diff
            deltas[f"blocks.0.{ours}.weight"] = diff
    return tensors, deltas


def latents(pipe):
    return pipe(
        "a fox walks",
        references=[tiny.picture()],
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    ).frames


@pytest.mark.parametrize("style", ["diffusers", "comfyui", "lightx2v", "musubi"])
def test_a_file_acts_as_its_deltas_added_by_hand(style, tmp_path):
    pipe, by_hand = tiny.kaleido(), tiny.kaleido()
    plain = latents(pipe)
    tensors, deltas = written(pipe.transformer, style)
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "lora.safetensors")
    add_loras(pipe, [Lora(tmp_path / "lora.safetensors", STRENGTH)])
    with torch.no_grad():
        for name, delta in deltas.items():
            by_hand.transformer.get_parameter(name).add_(STRENGTH * delta)
    loaded, expected = latents(pipe), latents(by_hand)
    assert ((loaded - expected).norm() / expected.norm()) < 1e-5
    assert ((loaded - plain).norm() / plain.norm()) > 1e-3


def test_two_files_of_other_styles_act_together(tmp_path):
    pipe, by_hand = tiny.kaleido(), tiny.kaleido()
    loras = []
    for style, scale in (("lightx2v", 0.5), ("musubi", -0.4)):
        tensors, deltas = written(by_hand.transformer, style)
        save_file(
            {k: v.contiguous() for k, v in tensors.items()}, tmp_path / f"{style}.safetensors"
        )
        loras.append(Lora(tmp_path / f"{style}.safetensors", scale))
        with torch.no_grad():
            for name, delta in deltas.items():
                by_hand.transformer.get_parameter(name).add_(scale * delta)
    add_loras(pipe, loras)
    expected = latents(by_hand)
    assert ((latents(pipe) - expected).norm() / expected.norm()) < 1e-5


def test_every_layer_is_known_by_its_official_name_and_the_flat_one():
    names = layer_names(tiny.magref(clip=True).transformer)
    for official in ("blocks.1.cross_attn.k_img", "img_emb.proj.1", "time_projection.1"):
        assert names[official] == names[official.replace(".", "_")]
        assert names[names[official]] == names[official]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"lora_te_layers_0.lora_down.weight": torch.zeros(2, 4)},
            "1 of its 19 keys name no layer",
        ),
        ({"diffusion_model.blocks.9.self_attn.q.alpha": torch.ones(())}, "blocks.9.self_attn.q"),
        ({"diffusion_model.blocks.0.self_attn.q.dora_scale": torch.ones(24)}, "dora_scale"),
        ({"diffusion_model.blocks.0.self_attn.k.lora_up.weight": torch.ones(24, 2)}, "up of"),
        ({"diffusion_model.blocks.0.self_attn.q.lora_up.weight": torch.ones(20, 2)}, "(20, 24)"),
        ({"diffusion_model.blocks.0.norm3.diff": torch.ones(9)}, "(9,) in it, here it is (24,)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(change, says):
    transformer = tiny.kaleido().transformer
    tensors, _ = written(transformer, "comfyui")
    with pytest.raises(ModelError) as error:
        read_deltas(tensors | change, transformer)
    assert says in str(error.value)


def test_a_file_of_another_model_is_refused_with_the_keys_of_both_sides():
    with pytest.raises(ModelError) as error:
        read_deltas({"unet.mid.lora_up.weight": torch.ones(1, 1)}, tiny.kaleido().transformer)
    assert "unet.mid.lora_up.weight" in str(error.value)
    assert ".lora_down.weight" in str(error.value)


def test_a_file_without_tensors_is_refused(tmp_path):
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(ModelError, match="0 of its 0 keys"):
        add_loras(tiny.kaleido(), [Lora(tmp_path / "empty.safetensors")])
