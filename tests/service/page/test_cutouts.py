"""Background removal: whether it is there, its answers, and its queue."""

from __future__ import annotations

import asyncio
import io
import subprocess

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from anyref.perception.sources import is_fetched
from anyref.service import cutouts, uploads
from anyref.service.app import make_app, open_service
from anyref.service.decoder import Decoder
from anyref.service.refusals import Refusal
from anyref.service.settings import Limits

ADDRESS = "/v1/pictures/mask"


@pytest.fixture
def client(settings):
    service = open_service(settings)
    with TestClient(make_app(service)) as client:
        yield client
    service.queue._engine.dispose()


def png(size=(40, 30), color="orange") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format="PNG")
    return buffer.getvalue()


def post(client, data, kind="image/png"):
    return client.post(ADDRESS, content=data, headers={"content-type": kind})


def test_without_its_library_or_model_it_says_what_to_install(client, monkeypatch):
    monkeypatch.setattr(cutouts, "LIBRARIES", ("no_such_library",))
    ability = client.get("/v1/abilities").json()["background_removal"]
    assert ability["available"] is False
    assert "pip install 'anyref[perception]'" in ability["reason"]
    answer = post(client, png())
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_available")
    assert "anyref[perception]" in answer.json()["error"]["message"]


def test_a_model_that_is_not_fetched_is_named_with_its_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(cutouts, "LIBRARIES", ())
    monkeypatch.setenv("ANYREF_CACHE", str(tmp_path))
    assert "anyref data fetch" in cutouts.why_unavailable()


@pytest.mark.parametrize(
    ("data", "kind", "status", "words"),
    [
        (b"<svg/>", "image/png", 400, "an SVG drawing"),
        (b"", "image/png", 400, "is empty"),
        (b"\x89PNG\r\n\x1a\nbroken", "image/png", 400, "cannot be decoded"),
        (b"x", "text/plain", 415, "send a PNG, JPEG or WebP"),
    ],
)
def test_what_is_no_picture_is_refused_before_anything_is_cut(client, data, kind, status, words):
    answer = post(client, data, kind)
    assert (answer.status_code, words in answer.json()["error"]["message"]) == (status, True)


def test_a_failure_of_the_network_tells_no_path(client, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, b"", b"Traceback /secret/place")
    monkeypatch.setattr(cutouts, "why_unavailable", lambda: None)
    monkeypatch.setattr(cutouts.subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr(uploads, "decode", lambda data, *_: data)
    answer = post(client, png())
    assert answer.status_code == 400
    assert "secret" not in answer.text


def test_only_so_many_wait_for_their_mask():
    async def crowd():
        line, order = cutouts.Line(2), []

        async def one(number):
            async with line.turn():
                order.append(number)
                await asyncio.sleep(0)

        results = await asyncio.gather(*(one(n) for n in range(3)), return_exceptions=True)
        async with line.turn():
            return order, results

    order, results = asyncio.run(crowd())
    assert order == [0, 1]
    assert isinstance(results[2], Refusal)
    assert results[2].status_code == 429


def test_a_picture_is_decoded_once_for_each_client(monkeypatch):
    calls = []

    def decode(data, label, limits):
        calls.append(data)
        return data * 10

    monkeypatch.setattr(uploads, "decode", decode)
    decoder = Decoder(Limits(decoded_bytes=45))
    assert decoder.decode(b"a", "picture", "ann") == b"a" * 10
    decoder.decode(b"a", "picture", "ann")
    assert calls == [b"a"]
    decoder.decode(b"a", "picture", "bob")
    for letter in (b"b", b"c", b"d"):
        decoder.decode(letter, "picture", "ann")
    decoder.decode(b"a", "picture", "ann")  # five of 10 bytes are too many: the first is gone
    assert calls == [b"a", b"a", b"b", b"c", b"d", b"a"]


@pytest.mark.slow
def test_the_subject_of_a_picture_is_found(client):
    if not is_fetched("isnet"):
        pytest.skip("the model is not fetched; run `anyref data fetch`")
    picture = np.full((120, 160, 3), 235, np.uint8)
    ys, xs = np.mgrid[:120, :160]
    disc = (ys - 60) ** 2 + (xs - 80) ** 2 < 35**2
    picture[disc] = (180, 40, 30)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    answer = post(client, buffer.getvalue())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    found = np.asarray(Image.open(io.BytesIO(answer.content))) > 127
    assert (found & disc).sum() / (found | disc).sum() > 0.9
