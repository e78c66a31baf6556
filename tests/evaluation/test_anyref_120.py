from __future__ import annotations

import hashlib
import re
from collections import Counter

import pytest
from PIL import Image

from anyref.errors import EvaluationError
from anyref.evaluation.anyref_120 import (
    FILE,
    MAX_SIDE,
    PACKAGES,
    benchmark_120,
    cut,
    pictures,
)
from anyref.evaluation.benchmark import load_benchmark


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark(FILE, check_pictures=False)


def test_half_of_the_cases_have_one_subject_and_half_several_of_up_to_three(benchmark):
    assert benchmark.name == "anyref-120" and len(benchmark) == 120 and not benchmark.faults
    counts = Counter(len(case.kinds) for case in benchmark.cases)
    assert counts[1] == 60 and set(counts) == {1, 2, 3}
    for case in benchmark.cases[60:]:
        assert len(case.kinds) >= 2 and set(case.kinds) - {"background"}, case.id
    kinds = Counter(kind for case in benchmark.cases for kind in case.kinds)
    assert min(kinds[kind] for kind in ("human", "object", "background")) >= 20


def test_prompts_are_sentences_that_name_every_reference_and_are_all_different(benchmark):
    prompts = [case.request.prompt for case in benchmark.cases]
    assert len(set(prompts)) == 120
    for case in benchmark.cases:
        mentions = re.findall(r"@(\w+)", case.request.prompt)
        assert set(mentions) == {reference.name for reference in case.request.references}
        assert 1 <= len(re.findall(r"[.!?](?:\s|$)", case.request.prompt)) <= 3
        assert "  " not in case.request.text and "@" not in case.request.text
        words = [reference.words for reference in case.request.references]
        assert len(set(words)) == len(words), case.id


def test_every_picture_names_its_package_checksum_and_licence_and_is_used(benchmark):
    used = {str(path) for case in benchmark.cases for path in case.pictures}
    assert used == set(pictures())
    pins = {package.pin for package in PACKAGES}
    for name, said in pictures().items():
        assert said["package"] in pins and len(said["sha256"]) == 64 and said["licence"], name
        assert said["licence"] in benchmark.credits[name]
        if said["licence"].startswith("CC-BY"):
            assert said["credit"], f"{name} asks for attribution"


def said_of(path, **more):
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **more}


def test_a_cut_out_gets_a_white_margin_and_a_photograph_its_crop(tmp_path):
    figure = Image.new("RGBA", (100, 100), (9, 9, 9, 0))
    figure.paste((200, 0, 0, 255), (20, 30, 80, 60))
    figure.save(tmp_path / "figure.png")
    made = cut(tmp_path / "figure.png", said_of(tmp_path / "figure.png"))
    assert made.mode == "RGB" and made.size == (70, 40)
    assert made.getpixel((0, 0)) == (255, 255, 255) and made.getpixel((6, 6)) == (200, 0, 0)
    Image.new("RGB", (2000, 1000), "green").save(tmp_path / "photo.png")
    whole = said_of(tmp_path / "photo.png")
    assert cut(tmp_path / "photo.png", whole).size == (MAX_SIDE, MAX_SIDE // 2)
    assert cut(tmp_path / "photo.png", {**whole, "crop": [0, 0, 100, 50]}).size == (100, 50)


def test_a_picture_that_was_changed_is_refused_and_missing_ones_name_the_command(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    with pytest.raises(EvaluationError, match="sha256"):
        cut(tmp_path / "other.png", {"sha256": "0" * 64})
    with pytest.raises(EvaluationError, match="anyref evaluate fetch anyref-120"):
        benchmark_120(tmp_path)
