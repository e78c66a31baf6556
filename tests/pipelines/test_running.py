"""A pipeline is made ready as asked, and says by what it runs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from anyref import generate
from anyref.errors import RequestError
from anyref.pipelines.engine import Engine
from anyref.pipelines.running import compile_blocks, prepare

CPU = torch.device("cpu")


def test_nothing_asked_for_leaves_the_pipeline_as_it_is():
    pipe = tiny.kaleido()
    assert prepare(pipe, Engine(), CPU) == {"attention": "native"}
    assert pipe.transformer.blocks[0].attn1.processor._attention_backend is None


def test_a_kernel_by_name_gives_the_video_to_the_last_bits():
    pipe = tiny.kaleido()
    pipe.cpu_kernels = False
    expected = generate(pipe, tiny.request()).frames
    assert prepare(pipe, Engine("math"), CPU) == {"attention": "math"}
    made = generate(pipe, tiny.request()).frames
    assert np.abs(made.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        (Engine("magic"), "attention 'magic' is not known"),
        (Engine(parallel="ulysses=2"), "torchrun"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(engine, says):
    with pytest.raises(RequestError, match=says):
        engine.check()


def test_a_layout_is_checked_against_the_processes_that_were_announced(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    Engine(parallel="cfg=2,weights").check()
    with pytest.raises(RequestError, match="started 4"):
        Engine(parallel="ulysses=3").check()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANYREF_CACHE", str(tmp_path))
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    yield tmp_path
    torch._dynamo.reset()


def test_compiled_code_goes_to_the_cache_unless_the_user_says_where(cache, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache / "mine"))
    compile_blocks(tiny.kaleido().transformer, backend="eager")
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).is_relative_to(cache)
    assert os.environ["TRITON_CACHE_DIR"] == str(cache / "mine")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["magref", "kaleido"])
def test_compiled_blocks_make_the_same_video_with_a_step_cache(cache, family):
    pipe = getattr(tiny, family)()
    pipe.cpu_kernels = False
    request = tiny.request(num_inference_steps=6, step_cache="first-block:0.3")
    expected = generate(pipe, request).frames
    compile_blocks(pipe.transformer, backend="eager")
    assert np.array_equal(generate(pipe, request).frames, expected)


@pytest.mark.slow
def test_compiled_blocks_are_read_from_the_cache_by_the_next_process(cache):
    pipe = tiny.kaleido()
    pipe.cpu_kernels = False
    expected = generate(pipe, tiny.request()).frames
    assert prepare(pipe, Engine(compile=True), CPU) == {"attention": "native", "compile": True}
    counters = torch._dynamo.utils.counters
    counters.clear()
    made = generate(pipe, tiny.request()).frames
    assert np.abs(made.astype(int) - expected).max() <= 1
    assert any((cache).rglob("*.so"))
    torch._dynamo.reset()
    counters.clear()
    again = tiny.kaleido()
    again.cpu_kernels = False
    prepare(again, Engine(compile=True), CPU)
    assert np.array_equal(generate(again, tiny.request()).frames, made)
    assert counters["inductor"]["fxgraph_cache_hit"] > 0
