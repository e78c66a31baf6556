"""Official key names and ours, as data: each table is read in both directions.

A row is (official module, our module or modules, parameters). Several modules of ours mean that the
official file stores them as one tensor, joined on axis 0. `{i}` stands for the block number.
Worked out from names and shapes, held by parity with the official outputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Row = tuple[str, "str | tuple[str, ...]", tuple[str, ...]]

LINEAR = ("weight", "bias")
WEIGHT = ("weight",)
GAMMA = ("gamma",)
BARE = ("",)  # the name is the parameter itself


@dataclass(frozen=True)
class Link:
    """One official tensor and the tensors of ours that hold the same numbers.

    Attributes:
        official: key in the published file.
        ours: keys in the diffusers or transformers model; several were joined on axis 0.
        lead: axes of length 1 in front that only the official tensor has.
    """

    official: str
    ours: tuple[str, ...]
    lead: int = 0


def link_rows(rows: Iterable[Row], depth: int = 1, lead: int = 0) -> list[Link]:
    """Write a table out for `depth` blocks; a row without `{i}` stays one row."""
    links = []
    for official, ours, parameters in rows:
        modules = (ours,) if isinstance(ours, str) else ours
        for block in range(depth if "{i}" in official else 1):
            for parameter in parameters:
                names = [
                    f"{module.replace('{i}', str(block))}.{parameter}".rstrip(".")
                    for module in (official, *modules)
                ]
                links.append(Link(names[0], tuple(names[1:]), lead))
    return links


_EMBEDDERS = "condition_embedder"

WAN: tuple[Row, ...] = (
    ("patch_embedding", "patch_embedding", LINEAR),
    ("text_embedding.0", f"{_EMBEDDERS}.text_embedder.linear_1", LINEAR),
    ("text_embedding.2", f"{_EMBEDDERS}.text_embedder.linear_2", LINEAR),
    ("time_embedding.0", f"{_EMBEDDERS}.time_embedder.linear_1", LINEAR),
    ("time_embedding.2", f"{_EMBEDDERS}.time_embedder.linear_2", LINEAR),
    ("time_projection.1", f"{_EMBEDDERS}.time_proj", LINEAR),
    ("blocks.{i}.modulation", "blocks.{i}.scale_shift_table", BARE),
    ("blocks.{i}.self_attn.q", "blocks.{i}.attn1.to_q", LINEAR),
    ("blocks.{i}.self_attn.k", "blocks.{i}.attn1.to_k", LINEAR),
    ("blocks.{i}.self_attn.v", "blocks.{i}.attn1.to_v", LINEAR),
    ("blocks.{i}.self_attn.o", "blocks.{i}.attn1.to_out.0", LINEAR),
    ("blocks.{i}.self_attn.norm_q", "blocks.{i}.attn1.norm_q", WEIGHT),
    ("blocks.{i}.self_attn.norm_k", "blocks.{i}.attn1.norm_k", WEIGHT),
    ("blocks.{i}.norm3", "blocks.{i}.norm2", LINEAR),
    ("blocks.{i}.cross_attn.q", "blocks.{i}.attn2.to_q", LINEAR),
    ("blocks.{i}.cross_attn.k", "blocks.{i}.attn2.to_k", LINEAR),
    ("blocks.{i}.cross_attn.v", "blocks.{i}.attn2.to_v", LINEAR),
    ("blocks.{i}.cross_attn.o", "blocks.{i}.attn2.to_out.0", LINEAR),
    ("blocks.{i}.cross_attn.norm_q", "blocks.{i}.attn2.norm_q", WEIGHT),
    ("blocks.{i}.cross_attn.norm_k", "blocks.{i}.attn2.norm_k", WEIGHT),
    ("blocks.{i}.ffn.0", "blocks.{i}.ffn.net.0.proj", LINEAR),
    ("blocks.{i}.ffn.2", "blocks.{i}.ffn.net.2", LINEAR),
    ("head.modulation", "scale_shift_table", BARE),
    ("head.head", "proj_out", LINEAR),
)

WAN_IMAGE: tuple[Row, ...] = (
    ("img_emb.proj.0", f"{_EMBEDDERS}.image_embedder.norm1", LINEAR),
    ("img_emb.proj.1", f"{_EMBEDDERS}.image_embedder.ff.net.0.proj", LINEAR),
    ("img_emb.proj.3", f"{_EMBEDDERS}.image_embedder.ff.net.2", LINEAR),
    ("img_emb.proj.4", f"{_EMBEDDERS}.image_embedder.norm2", LINEAR),
    ("blocks.{i}.cross_attn.k_img", "blocks.{i}.attn2.add_k_proj", LINEAR),
    ("blocks.{i}.cross_attn.v_img", "blocks.{i}.attn2.add_v_proj", LINEAR),
    ("blocks.{i}.cross_attn.norm_k_img", "blocks.{i}.attn2.norm_added_k", WEIGHT),
)

_LAYER = "transformer.layers.{i}"
_ADALN = "mixins.adaln_layer"

SAT: tuple[Row, ...] = (
    ("mixins.patch_embed.proj", "patch_embedding", LINEAR),
    ("text_embedding.0", f"{_EMBEDDERS}.text_embedder.linear_1", LINEAR),
    ("text_embedding.2", f"{_EMBEDDERS}.text_embedder.linear_2", LINEAR),
    ("time_embed.0", f"{_EMBEDDERS}.time_embedder.linear_1", LINEAR),
    ("time_embed.2", f"{_EMBEDDERS}.time_embedder.linear_2", LINEAR),
    ("adaln_projection.1", f"{_EMBEDDERS}.time_proj", LINEAR),
    (f"{_ADALN}.adaLN_modulations.{{i}}", "blocks.{i}.scale_shift_table", BARE),
    (
        f"{_LAYER}.attention.query_key_value",
        ("blocks.{i}.attn1.to_q", "blocks.{i}.attn1.to_k", "blocks.{i}.attn1.to_v"),
        LINEAR,
    ),
    (f"{_LAYER}.attention.dense", "blocks.{i}.attn1.to_out.0", LINEAR),
    (f"{_ADALN}.query_layernorm_list.{{i}}", "blocks.{i}.attn1.norm_q", WEIGHT),
    (f"{_ADALN}.key_layernorm_list.{{i}}", "blocks.{i}.attn1.norm_k", WEIGHT),
    (f"{_LAYER}.cross_attention.query", "blocks.{i}.attn2.to_q", LINEAR),
    (
        f"{_LAYER}.cross_attention.key_value",
        ("blocks.{i}.attn2.to_k", "blocks.{i}.attn2.to_v"),
        LINEAR,
    ),
    (f"{_LAYER}.cross_attention.dense", "blocks.{i}.attn2.to_out.0", LINEAR),
    (f"{_ADALN}.cross_query_layernorm_list.{{i}}", "blocks.{i}.attn2.norm_q", WEIGHT),
    (f"{_ADALN}.cross_key_layernorm_list.{{i}}", "blocks.{i}.attn2.norm_k", WEIGHT),
    (f"{_LAYER}.mlp.dense_h_to_4h", "blocks.{i}.ffn.net.0.proj", LINEAR),
    (f"{_LAYER}.mlp.dense_4h_to_h", "blocks.{i}.ffn.net.2", LINEAR),
    ("mixins.final_layer.adaLN_modulation", "scale_shift_table", BARE),
    ("mixins.final_layer.linear", "proj_out", LINEAR),
)

SAT_AFFINE_NORM: tuple[Row, ...] = (
    (f"{_LAYER}.post_cross_attention_layernorm", "blocks.{i}.norm2", LINEAR),
)

_T5_BLOCK = "encoder.block.{i}.layer"

T5: tuple[Row, ...] = (
    ("token_embedding", "shared", WEIGHT),
    ("blocks.{i}.norm1", f"{_T5_BLOCK}.0.layer_norm", WEIGHT),
    ("blocks.{i}.attn.q", f"{_T5_BLOCK}.0.SelfAttention.q", WEIGHT),
    ("blocks.{i}.attn.k", f"{_T5_BLOCK}.0.SelfAttention.k", WEIGHT),
    ("blocks.{i}.attn.v", f"{_T5_BLOCK}.0.SelfAttention.v", WEIGHT),
    ("blocks.{i}.attn.o", f"{_T5_BLOCK}.0.SelfAttention.o", WEIGHT),
    (
        "blocks.{i}.pos_embedding.embedding",
        f"{_T5_BLOCK}.0.SelfAttention.relative_attention_bias",
        WEIGHT,
    ),
    ("blocks.{i}.norm2", f"{_T5_BLOCK}.1.layer_norm", WEIGHT),
    ("blocks.{i}.ffn.gate.0", f"{_T5_BLOCK}.1.DenseReluDense.wi_0", WEIGHT),
    ("blocks.{i}.ffn.fc1", f"{_T5_BLOCK}.1.DenseReluDense.wi_1", WEIGHT),
    ("blocks.{i}.ffn.fc2", f"{_T5_BLOCK}.1.DenseReluDense.wo", WEIGHT),
    ("norm", "encoder.final_layer_norm", WEIGHT),
)

_CLIP_LAYER = "encoder.layers.{i}"

CLIP: tuple[Row, ...] = (
    ("visual.patch_embedding", "embeddings.patch_embedding", WEIGHT),
    ("visual.pre_norm", "pre_layrnorm", LINEAR),  # spelt so in transformers
    ("visual.transformer.{i}.norm1", f"{_CLIP_LAYER}.layer_norm1", LINEAR),
    (
        "visual.transformer.{i}.attn.to_qkv",
        (
            f"{_CLIP_LAYER}.self_attn.q_proj",
            f"{_CLIP_LAYER}.self_attn.k_proj",
            f"{_CLIP_LAYER}.self_attn.v_proj",
        ),
        LINEAR,
    ),
    ("visual.transformer.{i}.attn.proj", f"{_CLIP_LAYER}.self_attn.out_proj", LINEAR),
    ("visual.transformer.{i}.norm2", f"{_CLIP_LAYER}.layer_norm2", LINEAR),
    ("visual.transformer.{i}.mlp.0", f"{_CLIP_LAYER}.mlp.fc1", LINEAR),
    ("visual.transformer.{i}.mlp.2", f"{_CLIP_LAYER}.mlp.fc2", LINEAR),
    ("visual.post_norm", "post_layernorm", LINEAR),
)
CLIP_LINKS_WITH_LEAD = (
    Link("visual.cls_embedding", ("embeddings.class_embedding",), lead=2),
    Link("visual.pos_embedding", ("embeddings.position_embedding.weight",), lead=1),
)

VAE_ENDS: tuple[Row, ...] = (
    ("conv1", "quant_conv", LINEAR),
    ("conv2", "post_quant_conv", LINEAR),
)
# Under "encoder." and "decoder.":
VAE_HALF: tuple[Row, ...] = (
    ("conv1", "conv_in", LINEAR),
    ("middle.1.norm", "mid_block.attentions.0.norm", GAMMA),
    ("middle.1.to_qkv", "mid_block.attentions.0.to_qkv", LINEAR),
    ("middle.1.proj", "mid_block.attentions.0.proj", LINEAR),
    ("head.0", "norm_out", GAMMA),
    ("head.2", "conv_out", LINEAR),
)
VAE_RESIDUAL: tuple[Row, ...] = (
    ("residual.0", "norm1", GAMMA),
    ("residual.2", "conv1", LINEAR),
    ("residual.3", "norm2", GAMMA),
    ("residual.6", "conv2", LINEAR),
    ("shortcut", "conv_shortcut", LINEAR),
)
VAE_RESAMPLE: tuple[Row, ...] = (
    ("resample.1", "resample.1", LINEAR),
    ("time_conv", "time_conv", LINEAR),
)
