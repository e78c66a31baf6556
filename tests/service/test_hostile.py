"""Five hundred requests that mean harm, against a running service.

Each is answered with a 4xx and a useful message.

No crash, no 500, no path or trace in any answer, no file outside the store.
"""

from __future__ import annotations

import base64
import io
import json
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from anyref.media import encode_video
from anyref.service.settings import Limits, Settings
from services import Running, running

pytestmark = pytest.mark.slow

NUM_REQUESTS = 500
VIDEOS = "/v1/videos"
Ask = Callable[[httpx.Client], httpx.Response]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    settings = Settings(
        database=f"sqlite:///{folder / 'queue' / 'queue.sqlite'}",
        store=str(folder / "store"),
        models=("stub",),
        devices=("cpu",),
        limits=replace(Limits(), body_bytes=2**20, idle_seconds=0.5, body_seconds=2.0),
    )
    with running(folder, settings=settings) as service:
        yield service


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def corpus() -> dict[str, list[bytes]]:
    """Pictures and videos to spoil."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    frames = np.repeat(pixels[None], 5, axis=0)
    return {
        "pictures": [encoded(picture, kind) for kind in ("PNG", "JPEG", "WEBP")],
        "others": [
            encode_video(frames, 8.0),
            encoded(picture, "GIF"),
            encoded(picture, "BMP"),
            encoded(picture, "TIFF"),
            b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
            b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><svg/>",
            b"GIF89a/*\x00" + b"<html>" * 40,
            b"%PDF-1.7 " + b"x" * 200,
            b"PK\x03\x04" + b"x" * 200,
            b"#!/bin/sh\nrm -rf /\n",
            b"\x80\x04\x95cos\nsystem\n(S'id'\ntR.",
        ],
    }


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 2_000_000))
    return b"\x89PNG\r\n\x1a\n" + header + extra + pixels + chunk(b"IEND", b"")


def uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def form(file: bytes, name: str = "x.png", kind: str = "image/png", **fields: str) -> Ask:
    data = {"prompt": "a fox", **fields}
    return lambda client: client.post(
        VIDEOS, data=data, files={"input_reference": (name, file, kind)}
    )


def body(data: bytes, kind: str = "application/json", **headers: str) -> Ask:
    sent = {"Content-Type": kind, **headers}
    return lambda client: client.post(VIDEOS, content=data, headers=sent)


def spoiled_pictures(chance: random.Random) -> Iterator[Ask]:
    """The first bytes kept, the rest cut or overwritten: decoders are reached and fail."""
    files = corpus()
    while True:
        data = bytearray(chance.choice(files["pictures"]))
        if chance.random() < 0.4:
            data = data[: chance.randrange(12, len(data) // 2)]
        else:
            start = chance.randrange(12, 20)  # a lossy decoder takes any bytes after its header
            data[start:] = chance.randbytes(len(data) - start)
        yield form(bytes(data))


def other_files(chance: random.Random) -> Iterator[Ask]:
    others = corpus()["others"]
    names = ("x.png", "../../../etc/passwd", "/etc/shadow", "..\\..\\x", "a\0b.png", "x" * 300)
    while True:
        data = chance.choice(others)
        if chance.random() < 0.3:
            data = data[: chance.randrange(len(data) + 1)]
        yield form(data, chance.choice(names).replace("\0", "%00"))


def bombs(chance: random.Random) -> Iterator[Ask]:
    while True:
        width, height = chance.choice(
            [(100_000, 100_000), (2**31 - 1, 1), (65_500, 65_500), (1, 2**31 - 1), (30_000, 900)]
        )
        text = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 10_000_000))
        data = bomb(width, height, text if chance.random() < 0.5 else b"")
        as_json = json.dumps({"prompt": "a fox", "input_reference": uri(data)}).encode()
        yield form(data) if chance.random() < 0.5 else body(as_json)


def wrong_fields(chance: random.Random) -> Iterator[Ask]:
    wrong = [
        {"size": "0x0"}, {"size": "99999x99999"}, {"size": "-16x16"}, {"size": "16x16\n"},
        {"size": "1e3x16"}, {"seconds": "1e9"}, {"seconds": "nan"}, {"seconds": -1},
        {"seconds": 1e308}, {"seed": 2**63}, {"seed": 1.5}, {"seed": True}, {"num_frames": 2**62},
        {"prompt": "x" * 4001}, {"prompt": "@" + "a" * 3000}, {"prompt": None}, {"prompt": []},
        {"model": "../../../etc/passwd"}, {"model": "tiny\0magref"}, {"model": "x" * 300},
        {"layout": [[0, 0, 2, 2]]}, {"layout": []}, {"layout": [[1]]}, {"layout": "a" * 10**5},
        {"references": [{"images": [uri(b"")]}]}, {"references": [{"images": ["/etc/passwd"]}]},
        {"references": [{"name": "../x", "images": ["data:image/png;base64,AAAA"]}]},
        {"references": [{"images": ["file:///etc/passwd"]}] * 8},
        {"references": [{"images": ["http://169.254.169.254/latest"]}]},
        {"references": [{"images": ["data:image/svg+xml;base64,PHN2Zy8+"]}]},
        {"references": [{"images": ["a"], "strength": -1}]}, {"references": {}},
        {"references": [[]] * 100}, {"input_reference": {"file_id": "file-1"}},
        {"input_reference": {"image_url": "gopher://localhost"}}, {"input_reference": 7},
        {"__proto__": {}}, {"owner": "ann"}, {"id": "video_0"}, {"guidance_scale": 1e309},
        {"num_inference_steps": 10**9}, {"num_inference_steps": 0}, {"solver": "'; DROP"},
    ]  # fmt: skip
    while True:
        fields = {"prompt": "a fox", **chance.choice(wrong)}
        if chance.random() < 0.3:
            fields |= chance.choice(wrong)
        yield body(json.dumps(fields).encode())


def broken_bodies(chance: random.Random) -> Iterator[Ask]:
    deep = chance.choice([10_000, 100_000])
    whole = httpx.Request(
        "POST", "http://x", data={"prompt": "a fox"}, files={"input_reference": b"GIF89a"}
    )
    multipart, kind = whole.read(), whole.headers["content-type"]
    while True:
        spoiled = bytearray(multipart)
        for _ in range(chance.randrange(1, 30)):
            spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
        lone = b'{"prompt": "\\ud800"}'
        yield chance.choice(
            [
                body(b"[" * deep + b"]" * deep),
                body(b'{"a":' * deep + b"1" + b"}" * deep),
                body(b'{"prompt": "a", "references": ' + b"[" * 500 + b"]" * 500 + b"}"),
                body(chance.randbytes(200)),
                body(b""),
                body(b"null"),
                body(lone),
                body(b'{"prompt": "a", "prompt": 3}'),
                body(b'{"prompt": NaN}'),
                body(b"\xff\xfe{\0}\0"),
                body(bytes(spoiled), kind),
                body(multipart[: chance.randrange(len(multipart))], kind),
                body(multipart, "multipart/form-data"),
                body(multipart, "multipart/form-data; boundary=" + "x" * 5000),
                body(multipart, "multipart/form-data; boundary=%ff;charset=no"),
                body(b"prompt=a", "application/x-www-form-urlencoded"),
                body(b"<x/>", "text/xml"),
                body(b"{}", "application/json", **{"Content-Encoding": "gzip"}),
                body(b"x" * (2**20 + 1)),
                many_parts(chance.choice([100, 1000])),
                slow_body,
            ]
        )


def many_parts(count: int) -> Ask:
    data = {f"field{i}": "x" for i in range(count)}
    return lambda client: client.post(VIDEOS, data={"prompt": "a", **data}, files={"f": b"x"})


def slow_body(client: httpx.Client) -> httpx.Response:
    """Announces a body, sends a little of it, and waits."""
    host, port = client.base_url.host, client.base_url.port
    head = f"POST {VIDEOS} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 50\r\n"
    with socket.create_connection((host, port), timeout=10) as opened:
        opened.sendall(head.encode() + b'Content-Type: application/json\r\n\r\n{"prompt')
        answer = b"".join(iter(lambda: opened.recv(65536), b""))  # until the server hangs up
    head, _, rest = answer.partition(b"\r\n\r\n")
    kind = {"Content-Type": "application/json"} if b"application/json" in head else {}
    return httpx.Response(int(head.split()[1]), content=rest, headers=kind)


def strange_addresses(chance: random.Random) -> Iterator[Ask]:
    ids = ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00", "video_" + "0" * 32, "x" * 5000,
           "video_%27%20OR%201=1--", "%ff%fe", "video_" + "0" * 31 + "%0a"]  # fmt: skip
    tails = ["", "/content", "/events", "/cancel", "/references/0", "/references/-1",
             "/references/99999999999999999999", "/content?variant=../../x"]  # fmt: skip
    queries = ["limit=-1", "limit=1e9", "limit=", "order=x", "after=" + "x" * 200, "after=%00"]
    while True:
        path = f"{VIDEOS}/{chance.choice(ids)}{chance.choice(tails)}"
        if chance.random() < 0.2:
            path = f"{VIDEOS}?{chance.choice(queries)}"
        method = chance.choice(["GET", "DELETE", "POST", "PUT", "TRACE"])
        yield lambda client, path=path, method=method: client.request(
            method if "?" not in path else "GET", path
        )


def strange_headers(chance: random.Random) -> Iterator[Ask]:
    headers = [
        {"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
        {"Idempotency-Key": "x" * 300}, {"Idempotency-Key": ""},
        {"Content-Type": "application/json; charset=utf-7"}, {"Content-Type": ""},
    ]  # fmt: skip
    while True:
        chosen = {"Content-Type": "application/json", **chance.choice(headers)}
        yield lambda client, chosen=chosen: client.post(
            VIDEOS, content=b'{"prompt": ""}', headers=chosen
        )


KINDS = (
    spoiled_pictures, other_files, bombs, wrong_fields, broken_bodies, strange_addresses,
    strange_headers,
)  # fmt: skip


def test_each_is_refused_with_a_reason_and_none_does_harm(service: Running):
    chance = random.Random(7)
    sources = [kind(chance) for kind in KINDS]
    outside = snapshot(service)
    statuses: dict[int, int] = {}
    started = time.monotonic()
    with httpx.Client(base_url=service.url, timeout=40) as client:
        for number in range(NUM_REQUESTS):
            answer = next(sources[number % len(sources)])(client)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            check_refusal(answer, number)
        assert client.get("/healthz").json()["status"] == "ok"
        assert client.get(VIDEOS).json()["data"] == []
        video = form(corpus()["pictures"][0])(client)
        assert video.status_code == 200, video.text
    assert snapshot(service) == outside
    log = (service.folder / "log.txt").read_text()
    assert "Traceback" not in log, log[-3000:]
    print(f"{statuses} in {time.monotonic() - started:.0f} s")  # noqa: T201 - seen with -s


def check_refusal(answer: httpx.Response, number: int) -> None:
    assert 400 <= answer.status_code < 500, (number, answer.status_code, answer.text[:500])
    if answer.text == "Invalid HTTP request received.":
        return  # the server's parser, before there is a request to answer
    assert answer.headers.get("content-type") == "application/json", (number, answer.text[:500])
    error = answer.json()["error"]
    assert 10 <= len(error["message"]) <= 1100, (number, error)
    for secret in ("Traceback", "/work", "/tmp", "site-packages", "anyref/service", ".py"):
        assert secret not in answer.text, (number, answer.text[:500])


def snapshot(service: Running) -> set[Path]:
    """Every file in the service's folder that is neither its queue nor its store's."""
    return {
        path
        for path in service.folder.rglob("*")
        if path.is_file() and path.relative_to(service.folder).parts[0] not in ("queue", "store")
    }


def test_a_store_of_links_leads_nowhere(service: Running, tmp_path):
    """A link in place of a video is not followed to what a client could not name anyway."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link = service.folder / "store" / "videos" / ("video_" + "0" * 32 + ".1.mp4")
    link.symlink_to(secret)
    answer = httpx.get(f"{service.url}{VIDEOS}/video_{'0' * 32}/content")
    assert answer.status_code == 404
    link.unlink()
