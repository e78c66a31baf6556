from __future__ import annotations

import torch

from anyref.models.presets import tiny_text_encoder


def test_each_head_of_a_new_text_encoder_starts_with_a_direction():
    for block in tiny_text_encoder(20).encoder.block:
        bias = block.layer[0].SelfAttention.compute_bias(5, 5)[0]  # heads, query, key
        before, after, all_before, all_after = bias[:, 2].softmax(dim=-1)
        assert (before.argmax(), after.argmax()) == (1, 3)
        assert all_before[:3].sum() > 0.95
        assert all_after[3:].sum() > 0.95
        assert torch.allclose(all_before[:3], all_before[:1].expand(3))
