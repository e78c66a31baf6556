"""A PostgreSQL of Debian's packages, in a folder of its own, for one test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from debian import install


def find_programs() -> Path:
    """The folder of PostgreSQL's programs, installed when this is Debian and we may; else skips."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        install("postgresql")
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("apt-get installed no PostgreSQL server")
    return found[-1].parent


@contextmanager
def temporary_database() -> Iterator[str]:
    """The URL of an empty database, gone afterwards."""
    programs = find_programs()
    root = os.geteuid() == 0  # PostgreSQL refuses to run as root
    user = ["runuser", "-u", "postgres", "--"] if root else []
    with tempfile.TemporaryDirectory(prefix="anyref-pg-") as name:
        folder = Path(name)
        if root:
            shutil.chown(folder, "postgres")
        folder.chmod(0o755)
        data, log = str(folder / "data"), str(folder / "log")
        with socket.socket() as opened:
            opened.bind(("127.0.0.1", 0))
            port = opened.getsockname()[1]
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        control = [*user, str(programs / "pg_ctl"), "-D", data, "-w"]
        initialise = [*user, str(programs / "initdb"), "-D", data, "-U", "anyref", "-A", "trust"]
        subprocess.run(initialise, check=True, capture_output=True, cwd="/")
        subprocess.run(
            [*control, "-l", log, "-o", options, "start"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        try:
            yield f"postgresql://anyref@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run(
                [*control, "-m", "immediate", "stop"],
                check=True,
                stdout=subprocess.DEVNULL,
                cwd="/",
            )
