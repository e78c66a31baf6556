"""The page's files as they are sent."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from anyref.service.access import digest_of
from anyref.service.app import make_app, open_service
from anyref.service.pages import FOLDER, assets


@pytest.fixture
def client(settings):
    service = open_service(settings)
    with TestClient(make_app(service)) as client:
        yield client
    service.queue._engine.dispose()


def test_the_page_comes_under_a_policy_that_lets_nothing_else_in(client):
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("app.js", "text/javascript"), ("theme.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
def test_every_kind_of_file_has_its_type(client, name, kind):
    answer = client.get(f"/page/{name}")
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, kind)
    assert answer.content == (FOLDER / name).read_bytes()


def test_a_file_is_sent_again_only_when_it_has_changed(client):
    first = client.get("/page/app.js")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/page/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/page/app.js", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fapp.py", "%2e%2e%2fpages.py", ".env"])
def test_nothing_but_the_page_is_sent(client, name):
    answer = client.get(f"/page/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"


def test_the_page_is_seen_without_a_key_and_what_it_shows_is_not(settings):
    service = open_service(replace(settings, keys={digest_of("a" * 20): "ann"}))
    with TestClient(make_app(service)) as client:
        assert client.get("/").status_code == client.get("/page/app.js").status_code == 200
        for address in ("/v1/videos", "/v1/models", "/v1/abilities"):
            assert client.get(address).status_code == 401
    service.queue._engine.dispose()


def test_every_file_that_the_page_names_is_there_and_none_is_from_elsewhere():
    named = set()
    for name, asset in assets().items():
        text = asset.content.decode()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        named |= set(re.findall(r'from "\./([\w-]+\.js)"', text))
        named |= set(re.findall(r'(?:href|src)="/page/([\w.-]+)"', text))
    assert named | {"index.html"} == set(assets())


def test_scripts_put_no_text_into_markup_and_styles_into_no_attribute():
    for name, asset in assets().items():
        text = asset.content.decode()
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert way not in text, (name, way)
        assert not re.search(r"\sstyle=", text), name
        assert not re.search(r"\son[a-z]+=\"", text), name


def test_modules_stay_small():
    assert [n for n, a in assets().items() if a.content.count(b"\n") > 400] == []
