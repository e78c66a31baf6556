"""One request gives one video: on every run, and on one or two processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from anyref import Reference, Request, generate
from anyref.models import cpu_kernels

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import tiny, numpy as np
from anyref import Reference, Request, generate
from anyref.models import cpu_kernels
from anyref.pipelines import parallel
parallel.start()
pipe = tiny.{family}()
pipe.cpu_kernels, cpu_kernels.MIN_VALUES = {kernels}, 0
parallel.shard(pipe)
made = generate(pipe, tiny.request(**{changes!r}))
if parallel.is_main():
    np.save({out!r}, made.frames)
parallel.stop()
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize("family", ["magref", "kaleido"])
def test_the_same_request_gives_the_same_frames_and_another_seed_others(family):
    pipe = getattr(tiny, family)()
    first, again = (generate(pipe, tiny.request()).frames for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, generate(pipe, tiny.request(seed=1)).frames)


def test_a_solver_of_one_request_does_not_leak_into_the_next():
    pipe = tiny.kaleido()
    first = generate(pipe, tiny.request()).frames
    other = generate(pipe, tiny.request(solver="unipc", flow_shift=2.0)).frames
    assert not np.array_equal(first, other)
    assert np.array_equal(first, generate(pipe, tiny.request()).frames)


@pytest.mark.parametrize(
    ("family", "changes", "kernels"),
    [
        ("magref", {}, False),
        ("magref", {"disentangle": 1.0, "strength": 3.0}, False),
        ("kaleido", {"strength": 3.0}, True),
    ],
)
def test_two_processes_make_the_bytes_that_one_makes(
    family, changes, kernels, tmp_path, monkeypatch
):
    out = tmp_path / "frames.npy"
    tests = str(Path(__file__).parents[1])
    code = SCRIPT.format(tests=tests, family=family, changes=changes, kernels=kernels, out=str(out))
    (tmp_path / "run.py").write_text(code)
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "run.py")],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the ranks: a convolution may add up in another order with more
    monkeypatch.setattr(cpu_kernels, "MIN_VALUES", 0)
    pipe = getattr(tiny, family)()
    pipe.cpu_kernels = kernels
    try:
        one = generate(pipe, tiny.request(**changes)).frames
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(np.load(out), one)


def test_on_step_counts_every_step():
    seen, stages = [], []
    generate(
        tiny.magref(),
        Request(prompt="a @fox", references=(Reference([tiny.picture()], "fox"),)),
        on_step=lambda i, n: seen.append((i, n)),
        on_stage=stages.append,
    )
    assert seen == [(1, 2), (2, 2)]
    assert stages == ["encode", "steps", "decode"]
