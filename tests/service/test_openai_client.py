"""The official OpenAI client, as it comes, against a running service."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image

from services import running

# the client warns that OpenAI has shut down its own service behind this interface
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The Sora API")]


@pytest.fixture(scope="module")
def openai():
    """Imported only when it is used: it takes a second."""
    return pytest.importorskip("openai")


@pytest.fixture(scope="module")
def client(openai, tmp_path_factory):
    with running(tmp_path_factory.mktemp("openai")) as service:
        url = f"{service.url}/v1"
        with openai.OpenAI(base_url=url, api_key="unused", max_retries=0) as opened:
            yield opened


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "orange").save(buffer, format="PNG")
    return buffer.getvalue()


def finished(client, video):
    deadline = time.monotonic() + 60
    while video.status in ("queued", "in_progress") and time.monotonic() < deadline:
        time.sleep(0.2)
        video = client.videos.retrieve(video.id)
    return video


def test_it_creates_polls_and_downloads_a_video_with_a_picture(client):
    reference = ("fox.png", picture(), "image/png")
    video = client.videos.create(
        prompt="a fox walks", model="stub", seconds="2", size="128x96", input_reference=reference
    )
    assert (video.object, video.model, video.size, video.seconds) == (
        "video",
        "stub",
        "128x96",
        "2.125",
    )
    video = finished(client, video)
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    content = client.videos.download_content(video.id).read()
    assert content[4:8] == b"ftyp"
    thumbnail = client.videos.download_content(video.id, variant="thumbnail").read()
    assert Image.open(io.BytesIO(thumbnail)).size == (128, 96)


def test_it_creates_a_video_without_a_picture_and_with_fields_of_ours(client):
    video = client.videos.create(prompt="a storm", extra_body={"seed": 7, "num_frames": 5})
    assert video.model == "stub"
    assert video.seed == 7
    assert finished(client, video).status == "completed"


def test_it_lists_over_pages_and_deletes(client, openai):
    made = [finished(client, client.videos.create(prompt=f"number {i}")).id for i in range(5)]
    listed = [video.id for video in client.videos.list(limit=2, order="asc")]
    assert [each for each in listed if each in made] == made
    gone = client.videos.delete(made[0])
    assert (gone.id, gone.deleted, gone.object) == (made[0], True, "video.deleted")
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(made[0])
    assert made[0] not in [video.id for video in client.videos.list()]


def test_its_errors_say_what_is_wrong(client, openai):
    with pytest.raises(openai.BadRequestError, match="width 97 is not a multiple of 16; try 96"):
        client.videos.create(prompt="a fox", size="97x96")
    with pytest.raises(openai.BadRequestError, match="not served here"):
        client.videos.create(prompt="a fox", model="sora-2")
    with pytest.raises(openai.BadRequestError, match="SVG"):
        client.videos.create(prompt="a fox", input_reference=("fox.png", b"<svg/>", "image/png"))
