from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks/data_memory.py"


@pytest.mark.slow
def test_a_hundred_thousand_records_stream_through_flat_memory(tmp_path):
    out = tmp_path / "memory.json"
    command = [sys.executable, str(BENCHMARK), "--records", "100000", "-o", str(out)]
    subprocess.run(command, check=True)
    points = json.loads(out.read_text())["points"]
    assert points[-1][0] == 100_000
    early = next(own for done, own, _ in points if done >= 10_000)
    # the parts of the dataset are written after the last record: up to one row group in memory
    assert max(own for _, own, _ in points) < early + 48
