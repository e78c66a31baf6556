"""The examples of docs/serve.md, as printed, against `anyref serve` as it starts."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from services import Running

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs" / "serve.md"
PORT = 8600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", PORT)) == 0:
            pytest.skip(f"port {PORT}, which the document uses, is taken")
    folder = tmp_path_factory.mktemp("docs")
    Image.new("RGBA", (60, 40), (200, 80, 20, 255)).save(folder / "fox.png")
    Image.new("RGB", (96, 96), (90, 140, 220)).save(folder / "beach.jpg")
    service = Running(folder, port=PORT, options=("--device", "cpu"))
    service.start()
    try:
        service.wait_until_ready()
        yield folder
    finally:
        service.stop()


def test_every_example_works_and_ends_with_a_video(folder):
    blocks = re.findall(r"```bash\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) >= 8
    script = "set -euo pipefail\n" + "\necho; echo ----\n".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    parts = done.stdout.split("----")
    first, status, events, _, named, unnamed, inline, validation, layout, rest = parts
    assert json.loads(first)["seed"] == 3
    assert json.loads(status)["status"] in ("queued", "in_progress")
    assert "event: preview" in events
    assert "event: completed" in events
    assert (folder / "video.mp4").read_bytes()[4:8] == b"ftyp"
    assert (folder / "first.bin").stat().st_size == 1024
    with Image.open(folder / "video.jpg") as thumbnail:
        assert thumbnail.size == (96, 96)
    assert [r["name"] for r in json.loads(named)["references"]] == ["fox", "beach"]
    assert len(json.loads(unnamed)["references"]) == 2
    assert json.loads(inline)["model"] == "tiny-kaleido"
    assert "try 96" in json.loads(validation)["error"]["message"]
    assert json.loads(layout)["pictures"][0]["box"]
    assert '"deleted":true' in rest
    assert '"error"' not in rest.replace('"error":null', "").partition('"openapi"')[0]
