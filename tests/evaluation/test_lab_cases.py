from __future__ import annotations

import pytest
from PIL import Image, ImageDraw

from anyref.evaluation.lab_cases import CASES, lab_benchmark, lab_clip
from anyref.lab.catalog import Background, Catalog, Subject
from anyref.media import open_picture


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Six drawn subjects and two places."""
    cache = tmp_path_factory.mktemp("lab")
    subjects, places = [], []
    for place in range(6):
        picture = Image.new("RGBA", (120, 100))
        ImageDraw.Draw(picture).ellipse((10, 10, 60 + 9 * place, 90), fill=(40 * place, 90, 200))
        path = cache / f"beast_{place}.png"
        picture.save(path)
        name = f"beast {'abcdef'[place]}"
        subjects.append(
            Subject(name, name, name, "object", "animals", path, None, "MIT", "drawn", "test")
        )
    for name in ("meadow", "creek"):
        path = cache / f"{name}.png"
        Image.new("RGB", (200, 160), "green").save(path)
        places.append(Background(name, name, name, path, "CC0", "drawn", "test"))
    return Catalog(cache, tuple(subjects), tuple(places))


@pytest.fixture(scope="module")
def benchmark(catalog):
    return lab_benchmark(catalog=catalog)


def test_half_of_the_cases_have_one_subject_and_half_two_and_all_a_place(benchmark):
    assert benchmark.name == "anyref-lab" and len(benchmark) == CASES and not benchmark.faults
    kinds = [case.kinds for case in benchmark.cases]
    assert kinds[0] == ("object", "background") and kinds[1] == ("object", "object", "background")
    categories = [case.category for case in benchmark.cases]
    assert categories.count("one-subject") == categories.count("two-subjects") == CASES // 2


def test_a_case_shows_the_pictures_and_words_of_its_clip(benchmark, catalog):
    clip, request = lab_clip(catalog, 5), benchmark["lab-05"].request
    assert request.prompt == clip.prompt
    for reference, made in zip(request.references, clip.references, strict=True):
        assert reference.words == made.words
        assert open_picture(reference.images[0]) == open_picture(made.images[0])


def test_later_calls_read_what_is_there_without_the_packages(benchmark, catalog):
    again = lab_benchmark(catalog.cache)
    assert [case.request for case in again.cases] == [case.request for case in benchmark.cases]
