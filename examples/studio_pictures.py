"""Pictures of every screen of the studio: python examples/studio_pictures.py OUT [CHROMIUM].

Starts `anyref serve` with the shipped models on a port of its own, makes a few videos of the
pictures beside this file, and takes each screen at the width of a desktop and of a phone. Needs
Playwright (extra `dev`) and a Chromium.
"""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

HERE = Path(__file__).parent
PROMPT = "the @polar_bear walks to the left over a @mountain_meadow"
PICTURES = ("polar_bear.png", "mountain_meadow.jpg")
SIZES = {"desktop": (1280, 1120), "phone": (390, 844)}
COLOURS = 256
PATIENCE = 300.0
NAMES = (
    "empty",
    "create",
    "mentions",
    "wrong",
    "boxes",
    "mask",
    "tokens",
    "settings",
    "copy",
    "several",
    "gallery",
    "video",
    "compare",
    "progress",
)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a service of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "anyref", "serve", "--port", str(port), "--device", "cpu"]
    process = subprocess.Popen([*command, "--folder", str(folder)], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(url))
        yield url
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    """Whether the service is there."""
    try:
        return httpx.get(f"{url}/healthz", timeout=5).json()["status"] == "ok"
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE:.0f} s")
        time.sleep(0.3)


def make_videos(url: str) -> list[str]:
    """Videos for the gallery: ids, all made."""
    turtle = {"prompt": "a @turtle glides right over the @creek", "model": "tiny-kaleido"}
    wanted = [
        ({**turtle, "seed": 3}, ("turtle.png", "creek.jpg")),
        ({"prompt": PROMPT, "seed": 11}, PICTURES),
        ({"prompt": PROMPT, "seed": 12}, PICTURES),
    ]
    ids = [submit(url, *one) for one in wanted]
    for video in ids:
        wait_until(partial(is_made, url, video))
    return ids


def submit(url: str, fields: dict[str, Any], pictures: tuple[str, ...]) -> str:
    """Queue a video; its id."""
    files = {Path(name).stem: (HERE / name).read_bytes() for name in pictures}
    kinds = {name: "background" if name.endswith(".jpg") else "object" for name in pictures}
    references = [
        {"name": Path(name).stem, "kind": kinds[name], "images": [Path(name).stem]}
        for name in pictures
    ]
    data = {**fields, "references": str(references).replace("'", '"')}
    answer = httpx.post(f"{url}/v1/videos", data=data, files=files, timeout=120)
    answer.raise_for_status()
    return str(answer.json()["id"])


def is_made(url: str, video: str) -> bool:
    """Whether a video is there."""
    return bool(httpx.get(f"{url}/v1/videos/{video}", timeout=120).json()["status"] == "completed")


def fill_form(page: Any, prompt: str = PROMPT) -> None:
    """Two pictures, a place among them, and a sentence."""
    page.set_input_files("#files", [HERE / name for name in PICTURES])
    page.wait_for_selector(".reference:nth-child(2)")
    page.get_by_label("Place", exact=True).nth(1).check()
    page.fill("#prompt", prompt)
    page.wait_for_selector(".box, .token-list")
    page.wait_for_timeout(900)


class Screens:
    """What leads to each screen on a fresh page, by the screen's name."""

    def __init__(self, url: str, ids: list[str]) -> None:
        self.url = url
        self.ids = ids

    def empty(self, page: Any) -> None:
        """The form as it opens."""
        page.goto(self.url)
        page.wait_for_selector("#latest .others a")

    def create(self, page: Any) -> None:
        """A request, written."""
        page.goto(self.url)
        fill_form(page)
        page.get_by_label("In words").first.fill("white polar bear")
        page.wait_for_timeout(600)

    def mentions(self, page: Any) -> None:
        """Names while a mention is typed."""
        page.goto(self.url)
        fill_form(page, "the @polar_bear walks to the left over a @")
        page.focus("#prompt")
        page.keyboard.press("End")
        page.keyboard.press("Backspace")
        page.keyboard.type("@")
        page.wait_for_selector("#mentions li")
        page.locator("#prompt").scroll_into_view_if_needed()
        page.mouse.wheel(0, 120)
        page.mouse.move(640, 20)
        page.wait_for_timeout(300)

    def wrong(self, page: Any) -> None:
        """Faults beside their fields."""
        page.goto(self.url)
        fill_form(page, "the @polar_bar walks over a @mountain_meadow")
        page.set_input_files(
            "#files", {"name": "notes.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7"}
        )
        page.wait_for_selector("#fault-prompt:not([hidden])")

    def boxes(self, page: Any) -> None:
        """Boxes moved on the canvas."""
        self.create(page)
        page.select_option("#layout-choice", "boxes")
        page.wait_for_timeout(700)
        for keys in ("ArrowRight",) * 4 + ("ArrowDown",) * 9 + ("Shift+ArrowRight",) * 6:
            page.locator(".box").first.press(keys)
        page.wait_for_timeout(1200)
        page.locator("#layout-card").scroll_into_view_if_needed()

    def mask(self, page: Any) -> None:
        """The mask of the same."""
        self.boxes(page)
        page.click("#side-mask")
        page.wait_for_timeout(500)

    def tokens(self, page: Any) -> None:
        """Kaleido's view."""
        page.goto(self.url)
        page.wait_for_function("() => document.querySelector('#model').options.length > 1")
        page.select_option("#model", "tiny-kaleido")
        fill_form(page)
        page.locator("#layout-card").scroll_into_view_if_needed()
        page.wait_for_timeout(300)

    def settings(self, page: Any) -> None:
        """The settings that few need."""
        self.create(page)
        page.click("#more summary")
        page.locator("#more-fields").scroll_into_view_if_needed()
        page.wait_for_timeout(300)

    def copy(self, page: Any) -> None:
        """The request as texts."""
        self.create(page)
        page.click("#copy")
        page.wait_for_selector("#copy-dialog[open]")

    def several(self, page: Any) -> None:
        """Several of one request."""
        self.create(page)
        page.click("#several")
        page.wait_for_selector("#several-dialog[open]")

    def gallery(self, page: Any) -> None:
        """All videos, two of them chosen."""
        page.goto(f"{self.url}/#gallery")
        page.wait_for_selector(".tile img")
        for tick in page.locator(".tick input").all()[:2]:
            tick.check()
        page.wait_for_timeout(900)

    def video(self, page: Any) -> None:
        """One video."""
        page.goto(f"{self.url}/#video/{self.ids[-1]}")
        page.wait_for_selector("#video video")
        page.wait_for_timeout(1200)

    def compare(self, page: Any) -> None:
        """Two side by side."""
        page.goto(f"{self.url}/#compare/{self.ids[-2]},{self.ids[-1]}")
        page.wait_for_selector(".compare-cell:nth-child(2) video")
        page.wait_for_timeout(1800)

    def progress(self, page: Any) -> None:
        """A video while it is made."""
        page.goto(self.url)
        fill_form(page)
        page.click("#generate")
        page.wait_for_selector(".latest[data-status=in_progress] .screen img", timeout=120_000)
        page.wait_for_timeout(2500)
        page.locator("#latest-card").scroll_into_view_if_needed()


def take(
    browser: Any, screens: Screens, name: str, size: str, out: Path, dark: bool = False
) -> None:
    """One screen at one size."""
    width, height = SIZES[size]
    page = browser.new_page(
        viewport={"width": width, "height": height},
        has_touch=size == "phone",
        is_mobile=size == "phone",
        color_scheme="dark" if dark else "light",
        bypass_csp=True,
    )
    page.set_default_timeout(60_000)
    getattr(screens, name)(page)
    picture = Image.open(io.BytesIO(page.screenshot()))
    page.close()
    out.mkdir(parents=True, exist_ok=True)
    mode = "dark-" if dark else ""
    path = out / f"studio-{mode}{name}-{size}.png"
    few = picture.convert("RGB").quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    sys.stdout.write(f"{path} {path.stat().st_size // 1000} kB\n")


def main(out: Path, chromium: str) -> None:
    """All of them."""
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as url,
        sync_playwright() as playwright,
    ):
        ids = make_videos(url)
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--hide-scrollbars"]
        )
        screens = Screens(url, ids)
        for name in NAMES:
            for size in SIZES:
                take(browser, screens, name, size, out)
            if name in ("create", "compare"):
                take(browser, screens, name, "desktop", out, dark=True)
        browser.close()


if __name__ == "__main__":
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "out/studio")
    main(place, sys.argv[2] if len(sys.argv) > 2 else shutil.which("chromium") or "chromium")
