"""Plans on an accelerator: the same latents from anywhere, and less of its memory."""

from __future__ import annotations

import pytest
import torch

import tiny
from anyref import load_pipeline
from anyref.pipelines.memory.plan import Plan

pytestmark = pytest.mark.gpu


def latents_and_peak(folder, plan):
    pipe = load_pipeline(folder, memory=plan, device="cuda")
    for _ in range(2):  # the first pass learns the order of the blocks
        torch.cuda.reset_peak_memory_stats()
        latents = pipe(
            "a fox",
            references=[tiny.picture()],
            output_type="latent",
            generator=torch.Generator().manual_seed(0),
        ).frames
    return latents.cpu(), torch.cuda.max_memory_allocated()


@pytest.mark.parametrize("family", ["magref", "kaleido"])
@pytest.mark.parametrize("eight_bit", [False, True])
def test_offloaded_weights_give_the_same_latents_in_less_memory(family, eight_bit, tmp_path):
    getattr(tiny, family)().save_pretrained(tmp_path / "m")
    whole, most = latents_and_peak(tmp_path / "m", Plan(eight_bit=eight_bit))
    for placement in ("parts", "blocks", "disk"):
        plan = Plan(placement=placement, eight_bit=eight_bit)
        latents, peak = latents_and_peak(tmp_path / "m", plan)
        assert (latents - whole).norm() <= 1e-6 * whole.norm()
        assert peak <= most
