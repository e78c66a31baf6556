"""The guard: bodies bounded in size and time while they arrive."""

from __future__ import annotations

import asyncio
import json

import pytest
import uvicorn

from anyref.service import protocol
from anyref.service.app import make_app, open_service
from anyref.service.guard import Guard
from anyref.service.metrics import Metrics
from anyref.service.settings import Limits

LIMITS = Limits(body_bytes=100, body_seconds=0.3, idle_seconds=0.1)


def ask(app, pieces, *, headers=(), path="/v1/videos", method="POST"):
    """The status and body of an answer to a body in pieces: (seconds before it, bytes)."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "headers": [(b"host", b"testserver"), (b"content-type", b"application/json"), *headers],
    }
    sent = []
    waiting = list(pieces)

    async def receive():
        if not waiting:
            await asyncio.sleep(60)
        seconds, data = waiting.pop(0)
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": data, "more_body": True}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], json.loads(body)["error"]


@pytest.fixture
def app(settings):
    from dataclasses import replace

    service = open_service(replace(settings, limits=LIMITS))
    yield make_app(service)
    service.queue._engine.dispose()


def test_a_body_that_stops_is_given_up(app):
    status, error = ask(app, [(0, b"{")])
    assert (status, error["code"]) == (408, "body_too_slow")


def test_a_body_that_trickles_is_given_up_at_the_deadline(app):
    status, _ = ask(app, [(0.05, b" ")] * 50)
    assert status == 408


def test_a_body_that_grows_too_large_is_refused_while_it_arrives(app):
    status, error = ask(app, [(0, b"x" * 60)] * 2)
    assert (status, error["code"]) == (413, "body_too_large")
    assert "100 bytes" in error["message"]


@pytest.mark.parametrize(
    ("length", "status"), [(b"101", 413), (b"9" * 40, 413), (b"-1", 400), (b"x", 400)]
)
def test_a_declared_length_is_judged_before_anything_is_read(app, length, status):
    assert ask(app, [], headers=[(b"content-length", length)])[0] == status


def speak(monkeypatch, text, seconds=0.2):
    """What a server with the patient protocol answers to raw text."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", seconds)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    async def talk():
        config = uvicorn.Config(app, http=protocol.PatientProtocol, lifespan="off", log_level=50)
        config.load()
        state = uvicorn.server.ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: protocol.PatientProtocol(config, state, {}), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(text)
        answer = await asyncio.wait_for(reader.read(4096), 5)
        writer.close()
        server.close()
        return answer

    return asyncio.run(talk())


def test_a_head_that_does_not_end_is_refused(monkeypatch):
    endless = b"GET / HTTP/1.1\r\n" + b"X-A: " + b"a" * 100_000
    assert b" 400 " in speak(monkeypatch, endless, seconds=60)
    assert b" 400 " in speak(monkeypatch, b"GET / HTTP/1.1\r\nX-A: a\r\n")
    assert b" 400 " in speak(monkeypatch, b"")
    whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert b"hello" in speak(monkeypatch, whole)


def test_other_kinds_of_connections_pass():
    seen = []

    async def inner(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(Guard(inner, LIMITS, Metrics(), None)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]
