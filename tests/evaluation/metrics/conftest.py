from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from metric_world import stand_ins


@pytest.fixture
def models():
    """A grade of stand-ins."""
    return stand_ins()
