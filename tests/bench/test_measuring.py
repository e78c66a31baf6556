"""A video measured: stages, the formula's floor, two ways in turn, how far apart they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from anyref.bench import comparing
from anyref.bench.devices import device_here, gpu_key, known_device
from anyref.bench.measuring import Made, alternate, bench_request, measure
from anyref.bench.models import bench_sizes, is_shape, random_pipeline, shape_sizes
from anyref.models.weights.eight_bit import ScaledLinear
from anyref.pipelines.memory.plan import Plan
from anyref.pipelines.memory.predict import Speed
from anyref.request import PixelShape, Reference
from anyref.training.shapes import architecture

CPU = torch.device("cpu")
SLOW = known_device("4090")


@pytest.fixture(scope="module")
def made():
    pipe = tiny.magref()
    request = bench_request(PixelShape(17, 64, 96), pipe.rules.lead_frames, steps=3)
    return measure(pipe, request, SLOW, CPU)


def test_every_stage_has_its_seconds_and_its_peak(made):
    measured = made.measurement
    parts = (measured.encode, measured.step, measured.decode)
    assert all(part > 0 for part in parts)
    assert sum(parts) < measured.total
    assert measured.steps == 3
    assert set(measured.peaks) >= {"encode", "steps", "decode"}
    assert measured.peak == max(measured.peaks.values())


def test_the_floor_is_the_formula_at_the_devices_peak(made):
    measured = made.measurement
    assert measured.floor == pytest.approx(measured.flops / 165e12)
    assert measured.utilisation == pytest.approx(measured.floor / measured.step)
    assert made.frames.shape == (13, 64, 96, 3)


def test_two_ways_are_made_in_turn_and_the_median_round_counts(made):
    order = []

    def way(name):
        return lambda: order.append(name) or made

    found = alternate([way("a"), way("b")], rounds=2, warm_up=True)
    assert order == ["a", "b"] * 3
    assert [one[1] for one in found] == [made, made]


@pytest.mark.parametrize("shape", ["tiny-magref", "tiny-kaleido"])
@pytest.mark.parametrize("plan", [Plan(), Plan(placement="disk", eight_bit=True)])
def test_a_shape_is_measured_from_random_weights(shape, plan):
    model = architecture("none", shape)
    pipe = random_pipeline(model, plan, "cpu")
    request = bench_request(PixelShape(9, 96, 96), pipe.rules.lead_frames, steps=1)
    found = measure(pipe, request, SLOW, CPU)
    assert np.ptp(found.frames) > 0
    assert isinstance(pipe.transformer.blocks[0].attn1.to_q, ScaledLinear) == plan.eight_bit
    held = sum(p.numel() * p.element_size() for p in pipe.vae.parameters())
    assert held == shape_sizes(model).parts["vae"].num_bytes(plan.form("vae"))


def test_published_shapes_are_known_without_a_file():
    assert is_shape("magref-14b")
    assert not is_shape("tiny-magref")
    sizes = bench_sizes("kaleido-14b")
    assert sizes.references_are_tokens
    assert sum(t.num_bytes for t in sizes.parts["transformer"].tensors) == pytest.approx(
        28.6e9, rel=0.01
    )


def test_devices_are_known_by_name_or_measured():
    assert gpu_key("NVIDIA H100 PCIe") == "h100-pcie"
    assert gpu_key("NVIDIA GeForce RTX 4090") == "4090"
    assert gpu_key("Radeon") is None
    here = device_here("cpu")
    assert not here.known
    assert 1e8 < here.speed.flops < 1e14
    assert Speed(1e12, 1e9, 1e9).utilisation < 1


def video(made: Made, change: int) -> Made:
    frames = np.clip(made.frames.astype(int) + change, 0, 255).astype(np.uint8)
    return Made(made.measurement, frames, made.latents * (1 + change / 100))


def test_the_distance_of_two_videos_in_pixels_and_latents(made):
    assert comparing.compare(made, made).psnr == float("inf")
    middle = Made(made.measurement, np.full_like(made.frames, 100), made.latents)
    found = comparing.compare(middle, video(middle, 10))
    assert found.psnr == pytest.approx(20 * np.log10(25.5))
    assert found.latents == pytest.approx(0.1, rel=1e-4)
    assert found.identity == {}


def test_a_cut_out_is_found_where_it_is_and_not_where_it_is_not():
    pytest.importorskip("cv2")
    cut = Image.new("RGBA", (48, 48))
    cut.paste((255, 0, 0, 255), (4, 4, 44, 24))
    cut.paste((0, 0, 255, 255), (14, 24, 34, 44))
    empty = np.full((3, 96, 96, 3), 200, np.uint8)
    empty += np.random.default_rng(0).integers(0, 20, empty.shape, np.uint8)
    there = Image.fromarray(empty[0])
    there.paste(cut, (30, 20), cut)
    frames = np.stack([np.asarray(there)] * 3)
    assert comparing.identity(frames, cut) > comparing.identity(empty, cut) + 0.3
    names = [name for name, _ in comparing._cutouts([Reference(cut, "fox"), Reference(there)])]
    assert names == ["fox"]
