"""A real browser before a real service with the shipped models."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from debian import install
from services import running

EXAMPLES = Path(__file__).parents[3] / "examples"
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


def find_chromium() -> str:
    """Debian's Chromium, installed when this is Debian and we may; else skips."""
    if shutil.which("chromium") is None:
        install("chromium")
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("apt-get installed no chromium")
    return found


@pytest.fixture(scope="module")  # while it is open, no other test can run an event loop
def browser():
    api = pytest.importorskip("playwright.sync_api")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory):
    """`anyref serve` as it comes, on the CPU."""
    with running(tmp_path_factory.mktemp("page"), "--device", "cpu") as service:
        yield service


@pytest.fixture(scope="session")
def made(service):
    """Ids of two videos of one request with different seeds, of few steps."""
    ids = []
    for seed in (1, 2):
        files = {
            "bear": (EXAMPLES / "polar_bear.png").read_bytes(),
            "meadow": (EXAMPLES / "mountain_meadow.jpg").read_bytes(),
        }
        data = {
            "prompt": "the @bear walks to the left over @meadow",
            "references": '[{"name": "bear", "images": ["bear"], "strength": 2},'
            '{"name": "meadow", "kind": "background", "images": ["meadow"]}]',
            "seed": seed,
            "num_inference_steps": 3,
        }
        answer = httpx.post(f"{service.url}/v1/videos", data=data, files=files)
        ids.append(answer.json()["id"])
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        states = [httpx.get(f"{service.url}/v1/videos/{id}").json()["status"] for id in ids]  # noqa: A001
        if states == ["completed"] * 2:
            return ids
        assert "failed" not in states
        time.sleep(0.5)
    raise AssertionError(states)


@pytest.fixture
def open_page(browser):
    """Opens pages; at the end none has asked another place or met an error."""
    contexts, faults = [], []

    def open_page(url, *, viewport=None, expected=(), **options):
        context = browser.new_context(viewport=viewport or DESKTOP, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        own = urlsplit(url).netloc

        def asked(request):
            place = urlsplit(request.url)
            if place.scheme in ("http", "https") and place.netloc != own:
                faults.append(f"asked {request.url}")

        def said(message):
            if message.type == "error" and not any(words in message.text for words in expected):
                faults.append(message.text)

        page.on("request", asked)
        page.on("console", said)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def until():
    """Waits for an expression of the page; Playwright's own way needs the eval that it forbids."""

    def until(page, expression, arg=None, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not page.evaluate(expression, arg):
            assert time.monotonic() < deadline, f"{expression} {arg}: {page.inner_text('main')}"
            page.wait_for_timeout(100)

    return until


@pytest.fixture
def examples():
    return EXAMPLES
