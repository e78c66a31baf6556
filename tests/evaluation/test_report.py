from __future__ import annotations

import re
from dataclasses import replace

import pytest

import scored
from anyref.evaluation.benchmark import Benchmark, load_benchmark
from anyref.evaluation.profiles.opens2v import opens2v
from anyref.evaluation.profiles.strict import strict
from anyref.evaluation.published import published_rows
from anyref.evaluation.report import write_report
from anyref.evaluation.results import Scorer, score_results
from anyref.evaluation.run import Scored, make_evaluation
from anyref.evaluation.run_files import to_csv, to_markdown
from anyref.evaluation.videos import find_videos
from pages import Page

IDS = ("one", "two", "three", "four", "five", "-x_9")
HOSTILE = "<script>alert(1)</script> [x](javascript:a) =1+1"


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    path = scored.write_benchmark(folder / "cases", IDS, prompt=f"@fox {HOSTILE}", category=HOSTILE)
    listed = path.read_text().replace(f'"category": "{HOSTILE}"', '"category": "animals"', 3)
    path.write_text(listed)
    for place, name in enumerate(IDS[:4]):
        scored.write_clip(folder / "videos" / f"{name}.mp4", 40 + 50 * place)
    (folder / "videos" / "five.mp4").write_bytes(b"broken")
    scored.write_clip(folder / "videos" / f"{HOSTILE.replace('/', '')}.mp4")
    benchmark = load_benchmark(path)
    scorer = Scorer(scored.metrics())
    results = find_videos(benchmark, folder / "videos")
    model = Scored("<b>model</b>", score_results(benchmark, results, scorer), results)
    return make_evaluation(benchmark, strict(scorer.specs.values()), model)


@pytest.fixture(scope="module")
def text(evaluation, tmp_path_factory):
    target = tmp_path_factory.mktemp("page") / "report.html"
    return write_report(target, evaluation).read_text(encoding="utf-8")


def test_every_element_is_closed_and_the_page_loads_nothing(text):
    page = Page(text)
    assert not page.faults and not page.open
    assert "script" not in {tag for tag, _ in page.tags}
    sources = [given["src"] for _, given in page.tags if "src" in given]
    assert sources and all(re.match("data:image/(jpeg|webp);base64,", src) for src in sources)
    assert all(given["href"].startswith("#") for _, given in page.tags if "href" in given)
    assert "url(" not in text and "@import" not in text
    (policy,) = (m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")


def test_every_case_is_reachable_and_links_lead_to_cases(text):
    page = Page(text)
    there = [given["id"] for given in page.all("details") if "id" in given]
    assert there == [f"case-{place}" for place in range(len(IDS))]
    linked = {given["href"].removeprefix("#") for given in page.all("a")}
    assert linked and linked <= set(there)


def test_the_best_and_the_worst_video_play_beside_their_references(text):
    page = Page(text)
    alts = [image["alt"] for image in page.all("img")]
    playing = [image for image in page.all("img") if "image/webp" in image["src"]]
    assert len(playing) == 4
    assert {image["alt"] for image in playing} == {f"video of {name}" for name in IDS[:4]}
    assert alts.count("fox") == 4 + len(IDS)


def test_hostile_words_are_text(text, evaluation):
    assert "<script>" not in text and "<b>model" not in text
    assert "&lt;script&gt;" in text and "&lt;b&gt;model" in text
    assert "<script>" not in to_markdown(evaluation)
    assert "\n=1" not in to_csv(evaluation) and ",=1" not in to_csv(evaluation)


def test_missing_unreadable_and_extra_videos_are_told(text):
    said = " ".join(Page(text).words)
    assert "-x_9, take 0: there is no video" in said
    assert "belongs to no case" in said
    assert "five.mp4" in said and "(unreadable)" in said


def test_figures_have_drawings_with_intervals(text):
    page = Page(text)
    labels = [given.get("aria-label", "") for given in page.all("svg")]
    assert "radar of brightness, darkness, faces" in labels
    assert "brightness by part" in labels and "total by part" in labels
    assert page.all("polygon") and any(g.get("class") == "whisker" for g in page.all("line"))


def test_makers_and_licences_of_pictures_are_told_where_the_benchmark_says_them(
    evaluation, text, tmp_path
):
    assert "Reference pictures" not in text
    credited = replace(evaluation.benchmark, credits={"fox.png": "J. Doe <j@d>; CC BY", "no": "x"})
    page = write_report(tmp_path / "said.html", replace(evaluation, benchmark=credited)).read_text()
    assert "fox.png: J. Doe &lt;j@d&gt;; CC BY" in page and "no: x" not in page


def test_pictures_beyond_the_limit_are_words(evaluation, tmp_path):
    page = write_report(tmp_path / "small.html", evaluation, picture_bytes=1)
    assert "the page is full" in page.read_text()


def test_models_of_one_name_are_both_drawn_and_long_prompts_shown_whole(evaluation, tmp_path):
    again = replace(evaluation, other=evaluation.model, other_summary=evaluation.figures.summary)
    page = write_report(tmp_path / "two.html", again).read_text()
    assert page.count(' area"') == 2
    long = "word " * 240 + "end"
    cases = tuple(
        replace(c, request=c.request.model_copy(update={"prompt": long, "references": ()}))
        for c in evaluation.benchmark.cases
    )
    told = replace(evaluation, benchmark=Benchmark("b", cases, evaluation.benchmark.root))
    assert "word end" in write_report(tmp_path / "long.html", told).read_text()


def test_published_rows_name_their_source_each(evaluation):
    suite = replace(
        evaluation, published=published_rows("opens2v-v1.1", "Open-Domain"), profile=opens2v(
            "v1.1", "Open-Domain"
        )
    )  # fmt: skip
    said = to_markdown(suite)
    assert "leaderboard v1.1; " in said or "; OpenS2V" in said
    assert any("Kaleido" in line and "2609.11507" in line for line in said.splitlines())
