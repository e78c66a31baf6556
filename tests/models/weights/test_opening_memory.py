"""Sharded checkpoints are opened without a second copy of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "open_memory.py"


@pytest.mark.slow
def test_no_way_of_opening_holds_two_copies():
    command = [sys.executable, str(SCRIPT), "--width", "1024", "--layers", "8", "--shard-mb", "32"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    copies = dict(re.findall(r"(\w+): .* ([\d.]+) copies", done.stdout))
    assert set(copies) == {"diffusers", "official", "int8"}, done.stdout
    assert float(copies["diffusers"]) < 1.25
    assert float(copies["official"]) < 1.25
    assert float(copies["int8"]) < 0.85
