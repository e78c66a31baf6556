"""Official folders made from the golden cases, laid out as they are published."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

GOLDEN = Path(__file__).parents[2] / "golden"
MAGREF = GOLDEN / "magref" / "e2e_1ref_dpm"
KALEIDO = GOLDEN / "kaleido" / "static_2refs"
T5 = GOLDEN / "encoders" / "t5"
CLIP = GOLDEN / "encoders" / "clip"

CLIP_HEADS = 4
KALEIDO_HEADS = 4


def golden(case: Path, name: str = "tensors") -> dict[str, Tensor]:
    return load_file(case / f"{name}.safetensors")


def magref_weights(part: str, case: Path = MAGREF) -> dict[str, Tensor]:
    weights = golden(case, "weights")
    return {key.removeprefix(part): value for key, value in weights.items() if key.startswith(part)}


def kaleido_weights(affine: bool = False) -> dict[str, Tensor]:
    weights = golden(KALEIDO, "weights")
    if affine:
        generator = torch.Generator().manual_seed(0)
        for block in range(2):
            name = f"transformer.layers.{block}.post_cross_attention_layernorm"
            weights[f"{name}.weight"] = torch.randn(96, generator=generator)
            weights[f"{name}.bias"] = torch.randn(96, generator=generator)
    return weights


def clip_weights() -> dict[str, Tensor]:
    return golden(CLIP, "weights") | {
        "log_scale": torch.tensor(2.5),
        "textual.token_embedding.weight": torch.arange(12.0).view(3, 4),
    }


def write_magref_config(folder: Path, case: Path = MAGREF, **changes: object) -> None:
    dit = json.loads((case / "case.json").read_text())["dit"]
    config = {
        "model_type": "i2v",
        "dim": dit["dim"],
        "ffn_dim": dit["ffn"],
        "freq_dim": dit["freq_dim"],
        "in_dim": dit["in_dim"],
        "num_heads": dit["heads"],
        "num_layers": dit["layers"],
        "out_dim": 16,
        "text_len": dit["text_len"],
        "eps": 1e-6,
    }
    config |= changes
    known = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(known))


def write_magref(folder: Path, *, case: Path = MAGREF, encoders: bool = True) -> Path:
    """The published MAGREF folder, with everything or with the transformer and VAE only."""
    folder.mkdir(parents=True)
    write_magref_config(folder, case)
    save_file(magref_weights("dit.", case), folder / "diffusion_pytorch_model.safetensors")
    torch.save(magref_weights("vae.", case), folder / "Wan2.1_VAE.pth")
    if encoders:
        torch.save(golden(T5, "weights"), folder / "models_t5_umt5-xxl-enc-bf16.pth")
        torch.save(
            clip_weights(), folder / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
        )
        write_tokenizer(folder / "google" / "umt5-xxl")
    return folder


def write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "tokenizer_config.json").write_text("{}")


def write_sat(folder: Path, weights: dict[str, Tensor]) -> Path:
    """The SAT folder of Kaleido: `latest` and one states file."""
    (folder / "1").mkdir(parents=True)
    (folder / "latest").write_text("1")
    states = {f"model.diffusion_model.{key}": value for key, value in weights.items()}
    torch.save({"module": states}, folder / "1" / "mp_rank_00_model_states.pt")
    return folder


def read_sat(folder: Path) -> dict[str, Tensor]:
    path = folder / (folder / "latest").read_text() / "mp_rank_00_model_states.pt"
    states = torch.load(path, weights_only=True)["module"]
    return {key.removeprefix("model.diffusion_model."): value for key, value in states.items()}


def identical(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        value.dtype == right[key].dtype and torch.equal(value, right[key])
        for key, value in left.items()
    )


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()
