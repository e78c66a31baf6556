"""Programs of Debian that slow tests need."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

INSTALL_SECONDS = 600


def install(package: str) -> None:
    """Install a package when this is Debian and we may; else skips the test, saying why."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        pytest.skip(f"{package} is not installed, and without root and apt-get it cannot be")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    fetch = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    for command in (["apt-get", "update", "-q"], fetch):
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_SECONDS,
        )
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            pytest.skip(f"apt-get cannot install {package}: {last}")
