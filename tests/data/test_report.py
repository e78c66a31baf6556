from __future__ import annotations

import re

import pytest

import records
from anyref.data.report import write_report
from pages import Page


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return records.write(tmp_path_factory.mktemp("made") / "set")


@pytest.fixture(scope="module")
def text(dataset):
    return write_report(dataset).read_text(encoding="utf-8")


def test_every_element_is_closed_and_the_counts_are_told(text):
    page = Page(text)
    assert not page.faults and not page.open
    said = " ".join(page.words)
    assert "low sharpness" in said and "2 not a readable video" in said
    assert re.search(r"3\s+, the limit is 10|3, the limit is 10", said)


def test_the_page_asks_for_nothing_from_elsewhere(text):
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    links = {k: v for _, given in page.tags for k, v in given.items() if k in ("src", "href")}
    assert links and all(value.startswith("data:image/jpeg;base64,") for value in links.values())
    assert "url(" not in text and "@import" not in text
    (policy,) = (m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")


def test_hostile_names_are_text_and_steer_nothing(text):
    assert "<script>" not in text and "<b>tags" not in text
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text and "\u202e" not in text


def test_pairs_show_both_clips_and_the_reference(text):
    alts = [image["alt"] for image in Page(text).all("img")]
    assert alts.count("the reference") == alts.count("conditions this clip") == 2
    assert {"from a", "from b"} <= set(alts)


def test_measurements_have_their_limits_marked(text):
    drawn = [figure for figure in text.split("<figure>") if "<svg" in figure]
    (sharpness,) = [figure for figure in drawn if "<b>sharpness</b>" in figure]
    assert 'class="limit"' in sharpness and "1 under 10" in sharpness
    assert 'class="bar out"' in sharpness and 'class="bar"' in sharpness
    (length,) = [figure for figure in drawn if "<b>length</b>" in figure]
    assert 'class="limit"' not in length


def test_pictures_stay_within_their_bound(dataset, tmp_path):
    page = write_report(dataset, tmp_path / "small.html", picture_bytes=4000)
    small = page.read_text(encoding="utf-8")
    assert "left out, the page is full" in small
    assert sum(len(image["src"]) for image in Page(small).all("img")) < 30_000


def test_the_same_seed_makes_the_same_page(dataset, text, tmp_path):
    assert write_report(dataset, tmp_path / "b.html").read_text(encoding="utf-8") == text


def test_a_missing_clip_is_told_and_the_page_goes_on(tmp_path):
    folder = records.write(tmp_path / "set")
    for clip in folder.glob("assets/*/*.mp4"):
        clip.unlink()
    text = write_report(folder).read_text(encoding="utf-8")
    assert "cannot be read" in text and not Page(text).faults
