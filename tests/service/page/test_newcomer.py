"""A newcomer's way in a real browser: two pictures, a sentence, a video, another seed, compare."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.slow

MAKING = 240_000  # milliseconds
VIDEO = ".latest video"
PLAYERS = "[...document.querySelectorAll('.compare-cell video')]"
STATE = "document.querySelector('.latest .state').textContent"


def state_of(page, selector):
    return page.eval_on_selector(
        selector, "v => [v.readyState, v.currentTime, v.videoWidth, v.error && v.error.message]"
    )


def wait_until_it_plays(page, until, selector):
    page.wait_for_selector(selector, timeout=MAKING)
    until(page, f"document.querySelector('{selector}').currentTime > 0.2")
    ready, at, width, error = state_of(page, selector)
    assert (width, error) == (96, None)
    assert ready >= 3
    assert at > 0.2


def test_from_two_pictures_to_two_videos_side_by_side(open_page, until, service, examples):
    page = open_page(service.url)
    files = [examples / "polar_bear.png", examples / "mountain_meadow.jpg"]
    page.set_input_files("#files", files)
    page.get_by_label("Name").first.fill("bear")
    page.get_by_label("Name").nth(1).fill("meadow")
    page.get_by_label("Place", exact=True).nth(1).check()
    page.wait_for_selector(".box[aria-label^='Box of meadow']")

    page.focus("#prompt")
    page.keyboard.type("the @b")
    page.wait_for_selector("#mentions [role=option]")
    assert page.get_attribute("#prompt", "aria-activedescendant") == "mention-0"
    page.keyboard.press("Enter")
    page.keyboard.type("walks to the left over the @")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    assert page.input_value("#prompt") == "the @bear walks to the left over the @meadow "
    assert page.locator("#mentions").is_hidden()
    page.click("#more summary")
    page.fill("#num_inference_steps", "8")
    until(page, "document.querySelector('#summary').textContent.includes('8 steps')")
    assert page.inner_text("#summary") == "tiny-magref · 96 × 96 · 2.1 s · 8 steps"

    page.fill("#seed", "7")
    page.click("#generate")
    page.wait_for_selector(".latest [role=progressbar]")
    words = page.locator(".latest .state")
    until(page, f"/^Step [0-9]+ of 8/.test({STATE})", seconds=MAKING / 1000)
    first = int(re.match(r"Step (\d+)", words.inner_text())[1])
    later = f"n => {{ const m = /^Step ([0-9]+)/.exec({STATE}); return !m || Number(m[1]) > n }}"
    until(page, later, first, seconds=MAKING / 1000)
    wait_until_it_plays(page, until, VIDEO)
    assert "seed 7" in page.inner_text(".latest .facts")

    page.click("#new-seed")
    seed = page.input_value("#seed")
    assert seed.isdecimal()
    assert seed != "7"
    page.click("#generate")
    page.wait_for_selector(
        f".latest[data-status=completed]:has-text('seed {seed}')", timeout=MAKING
    )
    page.click("#compare-latest")
    compare(page, until, {"7", seed})


def compare(page, until, seeds):
    until(page, f"{PLAYERS}.filter((v) => v.currentTime > 0).length === 2")
    labels = page.locator(".compare-label").all_inner_texts()
    assert {label.split()[-1] for label in labels} == seeds
    page.get_by_role("button", name="Pause all").click()
    page.focus("#scrub")
    page.eval_on_selector("#scrub", "s => { s.value = 500; s.dispatchEvent(new Event('input')) }")
    until(page, f"{PLAYERS}.every((v) => v.paused && !v.seeking)")
    times = page.evaluate(f"{PLAYERS}.map((v) => v.currentTime)")
    assert times == pytest.approx([2.125 / 2] * 2, abs=0.01)
    page.get_by_role("button", name="Play all").click()
    page.wait_for_timeout(700)
    first, second = page.evaluate(f"{PLAYERS}.map((v) => v.currentTime)")
    assert abs(first - second) < 0.15


def test_again_with_changes_brings_everything_back(open_page, until, service, made):
    page = open_page(f"{service.url}/#video/{made[0]}")
    page.get_by_role("button", name="Again with changes").click()
    page.wait_for_selector(".box[aria-label^='Box of meadow']")
    assert page.input_value("#prompt") == "the @bear walks to the left over @meadow"
    assert [page.get_by_label("Name").nth(n).input_value() for n in (0, 1)] == ["bear", "meadow"]
    assert page.get_by_label("Place", exact=True).nth(1).is_checked()
    assert page.locator(".ref-strength input[type=number]").first.input_value() == "2"
    assert page.input_value("#seed") == "1"
    assert page.input_value("#num_inference_steps") == "3"
    pictures = page.eval_on_selector_all(
        ".ref-picture img", "images => images.map(i => [i.naturalWidth, i.naturalHeight])"
    )
    assert pictures == [[256, 256], [320, 320]]


def test_boxes_move_by_mouse_and_keys_and_are_sent(open_page, until, service, made):
    page = open_page(f"{service.url}/#video/{made[0]}")
    page.get_by_role("button", name="Again with changes").click()
    box = page.locator(".box").first
    box.wait_for()
    page.wait_for_timeout(600)
    before = box.bounding_box()
    page.mouse.move(before["x"] + 40, before["y"] + 60)
    page.mouse.down()
    page.mouse.move(before["x"] + 70, before["y"] + 100, steps=4)
    page.mouse.up()
    after = box.bounding_box()
    assert after["x"] == pytest.approx(before["x"] + 30, abs=3)
    assert after["y"] == pytest.approx(before["y"] + 40, abs=3)
    assert page.input_value("#layout-choice") == "boxes"

    page.wait_for_timeout(800)
    page.locator(".box").first.focus()
    label = page.locator(".box").first.get_attribute("aria-label")
    with page.expect_response("**/v1/requests/layout") as seen:
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("ArrowDown")
    until(page, "document.querySelector('#live').textContent.includes('from the left')")
    assert page.locator(".box").first.get_attribute("aria-label") != label
    assert seen.value.json()["layout"] == "boxes"
    page.wait_for_timeout(800)
    assert page.evaluate("document.activeElement.dataset.box") == "1"

    with page.expect_response("**/v1/videos") as made_video:
        page.click("#generate")
    boxes = made_video.value.json()["settings"]["layout"]
    assert len(boxes) == 2
    assert boxes[0][0] > 0.05
    assert boxes[1] == pytest.approx([0.5, 0, 1, 0.5], abs=0.02)
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector(".latest[data-status=cancelled], .latest[data-status=completed]")
