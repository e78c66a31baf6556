"""Runs of several processes, and runs that are killed, give the curve of one unbroken process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from anyref.training.monitor import read_rows
from anyref.training.trainer import run
from runs import curve

FAMILIES = ("magref", "kaleido")


SHARDED = """
import json, sys
import torch
from torch.distributed.tensor import DTensor
from anyref.training.recipe import load_recipe
from anyref.training.trainer import Trainer
trainer = Trainer(load_recipe(sys.argv[1]))
assert all(isinstance(p, DTensor) for p in trainer.parameters)
trainer.fit()
trainer.close()
"""


def write_recipe(made, path):
    path.write_text(made.to_yaml())
    return path


def torchrun(script, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stderr.splitlines() if "Error" in line]
    assert done.returncode == 0, errors or done.stderr[-4000:]


@pytest.mark.parametrize(
    ("family", "count"),
    [
        ("kaleido", 6),
        pytest.param("magref", 200, marks=pytest.mark.slow),
        pytest.param("kaleido", 200, marks=pytest.mark.slow),
    ],
)
def test_two_processes_give_the_curve_of_one(recipe, tmp_path, family, count):
    steps = {"steps": count, "checkpoints": {"every": 100}}
    run(recipe(family, folder=str(tmp_path / "one"), **steps))
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    sharded = recipe(family, folder=str(tmp_path / "two"), engine={"sharding": "fsdp"}, **steps)
    torchrun(script, write_recipe(sharded, tmp_path / "sharded.yaml"))
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(one) == count
    assert max(abs(one[step] - two[step]) for step in one) < 1e-4


def test_a_run_of_two_processes_goes_on_with_one(recipe, tmp_path):
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    whole = recipe(steps=6, folder=str(tmp_path / "whole"))
    run(whole)
    halves = recipe(steps=3, folder=str(tmp_path / "run"), engine={"sharding": "fsdp"})
    torchrun(script, write_recipe(halves, tmp_path / "sharded.yaml"))
    run(recipe(steps=6, folder=str(tmp_path / "run")))
    assert curve(tmp_path / "run") == pytest.approx(curve(tmp_path / "whole"), rel=1e-4)


RUN = """
import sys
from anyref.training.recipe import load_recipe
from anyref.training.trainer import run
run(load_recipe(sys.argv[1]))
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_kill_at_a_random_step_and_resume_give_the_identical_curve(recipe, tmp_path, family):
    """Each in a process of its own: what other tests have left in this one may change last bits."""
    options = {"steps": 30, "checkpoints": {"every": 4}}
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(RUN))

    def command_of(folder):
        made = recipe(family, folder=str(tmp_path / folder), **options)
        return [sys.executable, str(script), str(write_recipe(made, tmp_path / f"{folder}.yaml"))]

    subprocess.run(command_of("whole"), check=True, capture_output=True)
    command = command_of("run")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    wanted = 5 + time.time_ns() % 15
    while len(read_rows(metrics)) < wanted:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")


@pytest.mark.slow
def test_a_lora_learns_on_two_processes_as_on_one(recipe, tmp_path):
    lora = {"lora": {"rank": 2}, "steps": 6}
    run(recipe(folder=str(tmp_path / "one"), **lora))
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    made = recipe(folder=str(tmp_path / "two"), engine={"sharding": "fsdp"}, **lora)
    torchrun(script, write_recipe(made, tmp_path / "sharded.yaml"))
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), rel=1e-4)
    names = [p.name for p in sorted((tmp_path / "two" / "lora").iterdir())]
    assert names == ["comfyui.safetensors", "pytorch_lora_weights.safetensors"]


@pytest.mark.slow
def test_two_processes_in_half_precision_keep_the_noise_levels(recipe, tmp_path):
    half = {"precision": "bf16"}
    run(recipe(steps=4, folder=str(tmp_path / "one"), engine=half))
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    made = recipe(steps=4, folder=str(tmp_path / "two"), engine=half | {"sharding": "fsdp"})
    torchrun(script, write_recipe(made, tmp_path / "sharded.yaml"))
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), abs=8e-4)
