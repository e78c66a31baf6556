"""The shapes of the small models: the released classes with other numbers.

The codec turns every 12x12 patch of every frame into 48 channels, so that a 96x96 clip of 17 frames
is 17 x 8 x 8 latents; the transformer takes each latent cell as one token. No layer changes
resolution, so that the codec can start from principal components (`training.codec`, docs/log.md).
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from anyref.models.kaleido_transformer import KaleidoTransformer3DModel

PATCH = 12
LATENT_CHANNELS = 48
TEMPORAL_FACTOR = 1
TEXT_WIDTH = 128
TEXT_LENGTH = 80
NEAR, FAR = 4.0, -4.0  # attention logits

_TRANSFORMER = {
    "patch_size": (1, 1, 1),
    "num_attention_heads": 4,
    "attention_head_dim": 48,
    "out_channels": LATENT_CHANNELS,
    "text_dim": TEXT_WIDTH,
    "freq_dim": 64,
    "ffn_dim": 512,
    "num_layers": 6,
    "rope_max_seq_len": 256,
}


def tiny_codec() -> AutoencoderKLWan:
    """Wan's VAE on 12x12 pixel patches, 5.0M parameters; latent statistics still to be measured."""
    return AutoencoderKLWan(
        base_dim=100,
        decoder_base_dim=98,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1],
        num_res_blocks=0,
        temperal_downsample=[],
        patch_size=PATCH,
        in_channels=3 * PATCH**2,
        out_channels=3 * PATCH**2,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
        scale_factor_temporal=TEMPORAL_FACTOR,
        scale_factor_spatial=PATCH,
    )


def tiny_transformer(family: str) -> WanTransformer3DModel:
    """The transformer of "magref" (noise, mask and canvas channels) or "kaleido" (noise only)."""
    if family == "magref":
        channels = 2 * LATENT_CHANNELS + TEMPORAL_FACTOR
        return WanTransformer3DModel(in_channels=channels, **_TRANSFORMER)
    return KaleidoTransformer3DModel(in_channels=LATENT_CHANNELS, **_TRANSFORMER)


def tiny_text_encoder(vocab_size: int) -> UMT5EncoderModel:
    """A two-layer UMT5 encoder, trained along with the transformer."""
    config = UMT5Config(
        vocab_size=vocab_size,
        d_model=TEXT_WIDTH,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        dense_act_fn="gelu_new",
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    encoder = UMT5EncoderModel(config)
    with torch.no_grad():
        encoder.shared.weight.normal_(0.0, 0.05)
        for block in encoder.encoder.block:
            _give_directions(block.layer[0].SelfAttention.relative_attention_bias.weight)
    return encoder


def _give_directions(bias: Tensor) -> None:
    """Start the heads looking at the token before, the one after, all before, and all after.

    With the usual small random start two layers do not learn which of two subjects a phrase belongs
    to, "from left to right" against its reverse neither (docs/log.md).

    Args:
        bias: (32, 4), buckets by heads; buckets 1 to 15 lie before, 17 to 31 after, and 1 and 17
            are the neighbours (transformers, `UMT5Attention._relative_position_bucket`).
    """
    bias.zero_()
    bias[1, 0] = bias[17, 1] = NEAR
    bias[16:, 2] = bias[:16, 3] = FAR
