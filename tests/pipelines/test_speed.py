"""Presets are fields of a request; guidance acts in its interval only."""

from __future__ import annotations

import numpy as np
import pytest

import tiny
from anyref import Request, generate
from anyref.errors import RequestError
from anyref.pipelines.sampling import VideoPasses
from anyref.pipelines.speed import EXACT, PRESETS, paced, with_preset


def test_a_preset_fills_what_the_request_leaves_open():
    request = Request(prompt="a", speed="distilled", num_inference_steps=6)
    made = with_preset(request)
    assert (made.num_inference_steps, made.solver, made.flow_shift) == (6, "euler", 5.0)
    assert made.guidance_scale == 1.0
    assert with_preset(Request(prompt="a", speed="exact")).step_cache is None


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_fields_written_out(name):
    pipe, kept = tiny.kaleido(), {"num_inference_steps": 6}
    steps = {} if name == "distilled" else kept
    short = generate(pipe, tiny.request(speed=name, **steps)).frames
    assert np.array_equal(short, generate(pipe, tiny.request(**{**steps, **PRESETS[name]})).frames)
    exact = generate(pipe, tiny.request(**kept)).frames
    assert np.array_equal(short, exact) == (name == "exact")


def test_distilled_takes_the_noise_levels_that_few_step_loras_were_trained_on(monkeypatch):
    pipe, seen = tiny.magref(), []
    velocity = VideoPasses.velocity

    def noted(self, branch, step, timestep, *rest):
        seen.append((branch, round(float(timestep), 1)))
        return velocity(self, branch, step, timestep, *rest)

    monkeypatch.setattr(VideoPasses, "velocity", noted)
    generate(pipe, tiny.request(speed="distilled"))
    assert seen == [("cond", 1000.0), ("cond", 937.5), ("cond", 833.3), ("cond", 625.0)]
    assert type(pipe.scheduler).__name__ == "UniPCMultistepScheduler"


@pytest.mark.parametrize(
    ("interval", "guided"),
    [((0.0, 1.0), range(10)), ((0.0, 0.5), range(5)), ((0.2, 0.61), range(2, 7))],
)
def test_guidance_acts_in_its_interval_only(interval, guided, monkeypatch):
    pipe, seen = tiny.kaleido(), []
    velocity = VideoPasses.velocity

    def noted(self, branch, step, *rest):
        seen.append((branch, step))
        return velocity(self, branch, step, *rest)

    monkeypatch.setattr(VideoPasses, "velocity", noted)
    generate(pipe, tiny.request(guidance_interval=interval, num_inference_steps=10))
    assert [step for branch, step in seen if branch == "uncond"] == list(guided)
    assert [step for branch, step in seen if branch == "cond"] == list(range(10))


def test_a_video_with_guidance_nowhere_but_in_the_first_step_is_another():
    pipe = tiny.kaleido()
    made = [
        generate(pipe, tiny.request(num_inference_steps=4, **fields)).frames
        for fields in ({}, {"guidance_interval": (0.0, 0.25)}, {"guidance_scale": 1.0})
    ]
    assert not np.array_equal(made[0], made[1])
    assert not np.array_equal(made[1], made[2])


@pytest.mark.parametrize("interval", [(0.5, 0.5), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_an_interval_that_is_none_is_refused(interval):
    with pytest.raises(RequestError, match="guidance_interval"):
        paced(None, interval)
    with pytest.raises(RequestError, match="guidance_interval"):
        Request(prompt="a", guidance_interval=interval)


def test_nothing_asked_for_is_exact():
    assert paced(None, (0.0, 1.0)) == EXACT == paced("none", (0.0, 1.0))
