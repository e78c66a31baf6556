"""Full-width checkpoints: memory is bounded by a shard, whatever the depth."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "convert_memory.py"
SHARD_MB = 512


@pytest.mark.slow
def test_twice_the_depth_needs_no_more_memory_than_one_shard():
    command = [sys.executable, str(SCRIPT), "--layers", "2", "4", "--shard-mb", str(SHARD_MB)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1200)
    peaks = [int(p) for p in re.findall(r"peak (\d+) MB", done.stdout)]
    assert len(peaks) == 2, done.stdout
    assert peaks[1] - peaks[0] < SHARD_MB
