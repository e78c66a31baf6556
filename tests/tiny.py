"""Whole pipelines of random weights, in kilobytes."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from anyref import KaleidoPipeline, MagrefPipeline, Reference, Request
from anyref.models.kaleido_transformer import KaleidoTransformer3DModel
from anyref.pipelines.solvers import make_scheduler
from anyref.training.wording import make_tokenizer

TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "out_channels": 16,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 128,
}
SIZE = {"height": 64, "width": 96, "num_frames": 17}


def vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=3,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    ).eval()


def text_encoder(vocabulary: int) -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=vocabulary, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    return UMT5EncoderModel(config).eval()


def image_encoder() -> CLIPVisionModel:
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=56,
    )
    return CLIPVisionModel(config).eval()


def magref(*, clip: bool = False, **options) -> MagrefPipeline:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(["a", "walks", "right", "the"], 512)
    image = {"image_dim": 16, "added_kv_proj_dim": 24} if clip else {}
    pipe = MagrefPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder(len(tokenizer)),
        vae=vae(),
        scheduler=make_scheduler("unipc", 3.0),
        transformer=WanTransformer3DModel(in_channels=36, **TRANSFORMER, **image).eval(),
        image_encoder=image_encoder() if clip else None,
        num_inference_steps=2,
        **SIZE | options,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def kaleido(**options) -> KaleidoPipeline:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(["a", "walks", "right", "the"], 512)
    pipe = KaleidoPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder(len(tokenizer)),
        vae=vae(),
        scheduler=make_scheduler("euler", 7.0),
        transformer=KaleidoTransformer3DModel(in_channels=16, **TRANSFORMER).eval(),
        num_inference_steps=2,
        **SIZE | options,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_magref_folder(path: Path) -> Path:
    magref().save_pretrained(path)
    return path


def tiny_kaleido_folder(path: Path) -> Path:
    kaleido().save_pretrained(path)
    return path


def picture(color: str = "red", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture with some structure, so that order and place can be told apart."""
    image = Image.new("RGB", size, color)
    image.paste((20, 40, 60), (0, 0, size[0] // 3, size[1] // 2))
    return image


def request(strength: float = 1.0, **changes) -> Request:
    """Two references and a prompt that mentions one of them, which has a strength."""
    fox = Reference([picture()], "fox", strength=strength)
    references = (fox, Reference([picture("blue", (30, 60))]))
    return Request(prompt="a @fox walks", references=references, **changes)
