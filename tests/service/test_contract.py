"""Schemathesis finds no answer that the service's own OpenAPI description does not promise."""

from __future__ import annotations

import subprocess
import sys

import pytest

from services import running

pytestmark = pytest.mark.slow

# What a schema cannot say (a mention needs its reference, a file part its use) is a 400, and a
# client that asks for a hundred videos at once finds its share of the queue taken.
CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 404, 409, 413, 416, 429]
"""
MAX_EXAMPLES = 40


def test_every_answer_is_as_described(tmp_path, monkeypatch):
    monkeypatch.setenv("ANYREF_CACHE", str(tmp_path))  # no network for masks: each takes seconds
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    with running(tmp_path) as service:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "schemathesis.cli",
                "run",
                f"{service.url}/openapi.json",
                "--checks",
                "all",
                "--max-examples",
                str(MAX_EXAMPLES),
                "--seed",
                "1",
                "--no-shrink",
                "--continue-on-failure",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "generated" in done.stdout
