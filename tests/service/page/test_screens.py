"""Every screen: by keys alone, on a phone, for screen readers, and when something is wrong."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from anyref.service.settings import Limits, Settings
from services import Running, running

pytestmark = pytest.mark.slow

PHONE = {"width": 390, "height": 844}
NO_VIDEO = "video_" + "0" * 32


def add_pictures(page, examples):
    page.set_input_files("#files", [examples / "polar_bear.png", examples / "mountain_meadow.jpg"])
    page.wait_for_selector(".reference:nth-child(2)")


def fault(page, field):
    place = page.locator(f"#fault-{field}")
    place.wait_for()
    return place.inner_text()


def test_keys_alone_write_a_request(open_page, until, service, examples):
    page = open_page(service.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    add_pictures(page, examples)
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(
            page.evaluate(
                "(() => { const e = document.activeElement;"
                " return e.id || e.getAttribute('data-act') || e.className || e.tagName })()"
            )
        )
        if seen[-1] == "prompt":
            break
    assert seen[-1] == "prompt"
    page.keyboard.type("@pol")
    page.keyboard.press("Escape")
    assert page.locator("#mentions").is_hidden()
    page.keyboard.type("a")
    page.wait_for_selector("#mentions li")
    page.keyboard.press("Tab")
    page.keyboard.type("on @mou")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#summary').textContent.includes('16 steps')")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "model"
    page.keyboard.press("ArrowDown")
    page.wait_for_selector(".token-list li:nth-child(2)")
    assert page.input_value("#model") == "tiny-kaleido"


def test_an_unknown_mention_reads_well_and_is_mended(open_page, until, service, examples):
    page = open_page(service.url)
    add_pictures(page, examples)
    page.fill("#prompt", "the @polar_bar walks over @mountain_meadow")
    words = fault(page, "prompt")
    assert "No picture is called @polar_bar." in words
    assert page.get_attribute("#prompt", "aria-invalid") == "true"
    page.get_by_role("button", name="Use @polar_bear").click()
    page.locator("#fault-prompt").wait_for(state="hidden")
    assert page.input_value("#prompt") == "the @polar_bear walks over @mountain_meadow"


def test_a_file_that_is_no_picture_reads_well(open_page, until, service, tmp_path, examples):
    (tmp_path / "notes.pdf").write_bytes(b"%PDF-1.7 x")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    page = open_page(service.url)
    page.set_input_files(
        "#files", [tmp_path / "notes.pdf", tmp_path / "broken.png", examples / "turtle.png"]
    )
    words = fault(page, "references")
    assert "“notes.pdf” is a PDF, not a picture. Use a PNG, JPEG or WebP file." in words
    assert "“broken.png” is not a picture that this browser can read." in words
    assert page.get_by_label("Name").input_value() == "turtle"


def test_a_bad_size_reads_well_and_is_mended(open_page, until, service):
    page = open_page(service.url)
    page.select_option("#model", "tiny-kaleido")
    page.fill("#prompt", "a storm")
    page.fill("#width", "97")
    assert "Width goes in steps of 12: 97 is in between." in fault(page, "size")
    page.get_by_role("button", name="Use 96").click()
    page.locator("#fault-size").wait_for(state="hidden")
    page.fill("#width", "99960")
    assert "more than this model makes" in fault(page, "size")


def test_generate_leads_to_what_is_missing(open_page, until, service, examples):
    page = open_page(service.url)
    page.click("#generate")
    assert "Say what happens" in fault(page, "prompt")
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.fill("#prompt", "a storm")
    page.click("#generate")
    assert "needs at least one picture" in fault(page, "references")
    add_pictures(page, examples)
    page.click("#generate")
    assert "@polar_bear is not in the text" in fault(page, "prompt")
    page.locator("#fault-prompt").get_by_role("button").click()
    assert "@polar_bear" in page.input_value("#prompt")


def half_mask() -> bytes:
    mask = Image.new("L", (256, 256))
    mask.paste(255, (0, 0, 128, 256))
    buffer = io.BytesIO()
    mask.save(buffer, format="PNG")
    return buffer.getvalue()


def with_abilities(page, available, reason=None):
    def answer(route):
        told = route.fetch().json()
        told["background_removal"] = {"available": available, "reason": reason}
        route.fulfill(json=told)

    page.route("**/v1/abilities", answer)
    page.reload()


def test_a_background_is_removed_and_put_back(open_page, until, service, examples):
    page = open_page(service.url)
    with_abilities(page, True)
    page.route(
        "**/v1/pictures/mask",
        lambda route: route.fulfill(body=half_mask(), content_type="image/png"),
    )
    add_pictures(page, examples)
    until(page, "document.querySelector('.stage > img')?.complete")
    page.wait_for_timeout(600)
    whole = page.get_attribute(".stage > img", "src")
    card = page.locator(".reference").first
    card.get_by_role("button", name="Remove background").click()
    card.get_by_role("button", name="Put the background back").wait_for()
    until(page, "s => document.querySelector('.stage > img').src !== s", whole)
    page.click("#copy")
    page.wait_for_selector("#copy-dialog[open]")
    assert "polar_bear=polar_bear-cut-out.png" in page.inner_text("#copy-text")
    page.keyboard.press("Escape")
    card.get_by_role("button", name="Put the background back").click()
    until(page, "s => document.querySelector('.stage > img').src === s", whole)


def test_a_background_that_cannot_be_removed_says_why(open_page, until, service, examples):
    page = open_page(service.url)
    with_abilities(page, False, "its model is not on the server yet")
    add_pictures(page, examples)
    card = page.locator(".reference").first
    button = card.get_by_role("button", name="Remove background")
    assert button.get_attribute("aria-disabled") == "true"
    button.click(force=True)
    page.wait_for_timeout(800)
    words = "The background cannot be removed: its model is not on the server yet."
    assert card.locator(".fault").inner_text() == words


def test_a_video_that_is_gone_says_so(open_page, until, service):
    page = open_page(f"{service.url}/#video/{NO_VIDEO}", expected=("404",))
    page.wait_for_selector("#video a[href='#gallery']")
    assert "not here any more" in page.inner_text("#video")
    page.goto(f"{service.url}/#compare/{NO_VIDEO}")
    page.wait_for_selector("#compare a[href='#gallery']")


def test_a_video_whose_file_is_gone_says_so(open_page, until, service, made):
    page = open_page(service.url, expected=("404",))
    gone = '{"error": {"message": "there is no video", "type": "not_found_error"}}'
    page.route("**/content*", lambda route: route.fulfill(status=404, body=gone))
    page.goto(f"{service.url}/#video/{made[0]}")
    page.reload()
    page.wait_for_selector("#video .screen-empty span")
    assert "no longer kept here" in page.inner_text("#video .screen")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A service that takes one video at a time and makes it slowly."""
    folder = tmp_path_factory.mktemp("narrow")
    settings = Settings(
        database=f"sqlite:///{folder / 'queue' / 'queue.sqlite'}",
        store=str(folder / "store"),
        models=("stub",),
        devices=("cpu",),
        stub_step=20.0,
        limits=Limits(client_jobs=1),
    )
    with running(folder, settings=settings) as service:
        yield service


def test_a_full_queue_reads_well_and_has_a_way_out(open_page, until, narrow):
    page = open_page(narrow.url, expected=("429",))
    page.fill("#prompt", "a storm")
    page.click("#generate")
    page.wait_for_selector(".latest")
    page.fill("#prompt", "a calm")
    page.click("#generate")
    words = fault(page, "form")
    assert words.startswith("The queue takes 1 of your videos at a time")
    assert "cancel one" in words
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector(".latest[data-status=cancelled]", timeout=60_000)
    page.click("#generate")
    page.wait_for_selector(".latest:has-text('a calm')")
    assert page.locator("#fault-form").is_hidden()
    page.get_by_role("button", name="Cancel").click()


def test_a_lost_server_is_told_and_found_again(open_page, until, tmp_path):
    service = Running(tmp_path)
    service.start()
    try:
        service.wait_until_ready()
        page = open_page(
            service.url, expected=("ERR_CONNECTION", "ERR_INCOMPLETE", "Failed to load")
        )
        page.fill("#prompt", "a storm")
        until(page, "document.querySelector('#summary').textContent.includes('stub')")
        service.kill()
        page.fill("#prompt", "a storm at sea")
        page.wait_for_selector("#banner:not([hidden])")
        assert "The server does not answer" in page.inner_text("#banner")
        service.start()
        service.wait_until_ready()
        page.wait_for_selector("#banner", state="hidden", timeout=30_000)
        assert page.input_value("#prompt") == "a storm at sea"
        page.click("#generate")
        page.wait_for_selector(".latest[data-status=completed]", timeout=60_000)
    finally:
        service.stop()


def test_a_key_is_asked_for_and_videos_play_with_it(open_page, until, tmp_path):
    (tmp_path / "keys.txt").write_text("ann " + "a" * 20)
    stub = ("--model", "stub", "--device", "cpu", "--keys", str(tmp_path / "keys.txt"))
    with running(tmp_path, *stub) as service:
        page = open_page(service.url, expected=("401",))
        page.wait_for_selector("#key")
        page.fill("#key", "wrong")
        page.get_by_role("button", name="Open the studio").click()
        assert "not known here" in fault(page, "key")
        page.fill("#key", "a" * 20)
        page.get_by_role("button", name="Open the studio").click()
        page.fill("#prompt", "a storm")
        page.click("#generate")
        page.wait_for_selector(".latest video", timeout=60_000)
        until(page, "document.querySelector('.latest video').currentTime > 0.1")
        assert page.eval_on_selector(".latest video", "v => v.src").startswith("blob:")
        page.reload()
        page.wait_for_selector(".latest video")
        assert page.evaluate("localStorage.length") == 0


def screens(page, until, service, made, examples):
    """Names of the screens, each as it comes up."""
    page.goto(service.url)
    until(page, "document.querySelector('#model').options.length > 1")
    yield "empty"
    add_pictures(page, examples)
    page.wait_for_selector(".box")
    page.click("#more summary")
    page.fill("#prompt", "the @polar_bear and @nobody")
    fault(page, "prompt")
    yield "errors"
    page.fill("#prompt", "the @polar_bear walks over @mountain_meadow @")
    page.focus("#prompt")
    page.keyboard.press("End")
    page.wait_for_selector("#mentions li")
    yield "mentions"
    page.keyboard.press("Escape")
    page.fill("#prompt", "the @polar_bear walks over @mountain_meadow")
    page.click("#side-mask")
    yield "canvas"
    page.select_option("#model", "tiny-kaleido")
    page.wait_for_selector(".token-list")
    yield "tokens"
    page.click("#copy")
    page.wait_for_selector("#copy-dialog[open]")
    yield "copy"
    page.keyboard.press("Escape")
    page.click("#several")
    page.wait_for_selector("#several-dialog[open]")
    yield "several"
    page.keyboard.press("Escape")
    page.goto(f"{service.url}/#gallery")
    page.wait_for_selector(".tile img")
    page.locator(".tick input").first.check()
    yield "gallery"
    page.goto(f"{service.url}/#video/{made[0]}")
    page.wait_for_selector("#video video")
    yield "video"
    page.goto(f"{service.url}/#compare/{','.join(made)}")
    page.wait_for_selector(".compare-cell:nth-child(2) video")
    yield "compare"


def test_nothing_overflows_a_phone(open_page, until, service, made, examples):
    page = open_page(service.url, viewport=PHONE, has_touch=True, is_mobile=True)
    for name in screens(page, until, service, made, examples):
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], name
        outside = page.evaluate(
            """(width) => [...document.querySelectorAll('main *')].filter((e) => {
                const box = e.getBoundingClientRect();
                const hidden = e.closest('.sr-only, [hidden], .prompt-mirror, .plane, .grip');
                return !hidden && box.width > 1 && (box.right > width + 1 || box.left < -1);
            }).map((e) => e.outerHTML.slice(0, 120))""",
            PHONE["width"],
        )
        assert outside == [], name


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_no_serious_fault_on_any_screen(
    open_page, until, service, made, examples, colours
):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(service.url, color_scheme=colours, bypass_csp=True, reduced_motion="reduce")
    for name in screens(page, until, service, made, examples):
        page.wait_for_timeout(250)
        found = axe.run(page).response["violations"]
        serious = [
            (v["id"], v["impact"], [node["target"] for node in v["nodes"]])
            for v in found
            if v["impact"] in ("serious", "critical")
        ]
        assert serious == [], name
