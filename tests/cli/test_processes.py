"""The command line on several processes: one video shared, or a list spread."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import ranks
import tiny

pytestmark = pytest.mark.slow
LINES = (
    '{"key":"a","prompt":"a","references":[{"images":["fox.png"]}]}\n'
    '{"key":"b","prompt":"b","references":[{"images":["fox.png"]}]}\n'
    '{"key":"c","prompt":"c","references":[{"images":["gone.png"]}]}\n'
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `anyref generate` on a number of processes; exit codes and the first one's output."""
    monkeypatch.chdir(tmp_path)
    tiny.picture().save("fox.png")
    model = str(tiny.tiny_kaleido_folder(tmp_path / "model"))
    (tmp_path / "list.jsonl").write_text(LINES)

    def call(world, *arguments):
        with_processes = ranks.environment(world) if world > 1 else {}
        command = [sys.executable, "-m", "anyref", "generate", *arguments, "--model", model]
        processes = [
            subprocess.Popen(
                [*command, "--device", "cpu"],
                env=os.environ
                | {"OMP_NUM_THREADS": "1"}
                | with_processes
                | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(world)
        ]
        said = [process.communicate(timeout=600)[0] for process in processes]
        return [process.returncode for process in processes], said[0]

    return call


def test_a_shared_video_has_the_bytes_of_one_made_alone(run, tmp_path):
    video = ("a @fox walks", "-r", "fox=fox.png", "--speed", "fast", "--steps", "6", "-o")
    assert run(1, *video, "one.mp4")[0] == [0]
    codes, said = run(2, *video, "two.mp4", "--parallel", "cfg=2")
    assert codes == [0, 0], said
    assert "attention native" in said
    assert (tmp_path / "two.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()
    assert json.loads((tmp_path / "two.json").read_text())["processes"] == "cfg=2"


def test_a_list_is_spread_and_reported_as_a_whole(run, tmp_path):
    codes, said = run(2, "--batch", "list.jsonl", "--out-dir", "spread")
    assert codes == [1, 1], said
    assert "2 made, 0 skipped, 1 failed" in said
    assert run(1, "--batch", "list.jsonl", "--out-dir", "alone")[0] == [1]
    for name in ("a.mp4", "b.mp4"):
        made = (tmp_path / "spread" / name).read_bytes()
        assert made == (tmp_path / "alone" / name).read_bytes()
    record = json.loads((tmp_path / "spread/b.json").read_text())
    assert record["processes"] == "videos=2"
    assert "2 skipped" in run(2, "--batch", "list.jsonl", "--out-dir", "spread")[1]
