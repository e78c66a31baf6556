from __future__ import annotations

import json
from collections import Counter

import pytest
from PIL import Image

from anyref.errors import EvaluationError
from anyref.evaluation.benchmark import load_benchmark
from anyref.evaluation.profiles.opens2v import face_reference, nexus_references

OBJECTS, HUMANS, FACES = {"singleobj": 30}, {"singlehuman": 30}, {"singleface": 30}
MIXED = {"humanobj": 15, "faceobj": 15, "multiface": 15, "multihuman": 15, "multiobject": 30}
DOMAINS = {
    "Open-Domain": OBJECTS | HUMANS | FACES | MIXED,
    "Human-Domain": HUMANS | FACES,
    "Single-Domain": HUMANS | FACES | OBJECTS,
}


def published(opens2v, domain):
    return load_benchmark(opens2v / "eval" / f"{domain}_Eval.json", check_pictures=False)


def written(tmp_path, said, name="cases.json"):
    path = tmp_path / "mine" / name
    path.parent.mkdir(exist_ok=True)
    lines = "\n".join(s if isinstance(s, str) else json.dumps(s) for s in said)
    path.write_text(lines if name.endswith("l") else json.dumps(said))
    return path


def picture(tmp_path, name):
    path = tmp_path / "mine" / name
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", (4, 4)).save(path)
    return name


@pytest.mark.parametrize("domain", DOMAINS)
def test_opens2v_evals_files_have_their_published_categories(opens2v, domain):
    benchmark = published(opens2v, domain)
    assert Counter(case.category for case in benchmark.cases) == DOMAINS[domain]
    assert benchmark.domain == domain
    assert benchmark.faults == {}
    counts = Counter(case.id.rsplit("_", 1)[0] for case in benchmark.cases)
    assert {f"{c}_{n}" for c in counts for n in range(1, counts[c] + 1)} == {
        case.id for case in benchmark.cases
    }


def test_open_domain_has_its_published_counts(opens2v):
    cases = published(opens2v, "Open-Domain").cases
    assert Counter(len(case.request.references) for case in cases) == {1: 90, 2: 40, 3: 50}
    assert Counter(case.synthesis_flag for case in cases) == {"wrong": 60, "Wrong": 60, "True": 60}
    assert sum(case.is_synthetic for case in cases) == 60
    assert len({label for case in cases for label in case.labels}) == 81
    kinds = Counter(kind for case in cases for kind in case.kinds)
    assert kinds["human"] > 120 and kinds["background"] > 30 and kinds["object"] > 100


def test_open_domain_has_141_cases_for_nexus_and_90_for_faces(opens2v):
    cases = published(opens2v, "Open-Domain").cases
    never = Counter(c.category for c in cases if not nexus_references(c.id, c.labels))
    assert never == {"singleface": 30, "multiface": 9}
    assert len(cases) - never.total() == 141
    faces = [c for c in cases if face_reference(c.id, c.pictures) is not None]
    assert len(faces) == 90
    assert {c.category for c in faces} == {"singlehuman", "singleface", "faceobj", "humanobj"}


def test_pictures_that_are_not_there_are_each_cases_own_fault(opens2v):
    benchmark = load_benchmark(opens2v / "eval" / "Human-Domain_Eval.json")
    assert len(benchmark.faults) == 60
    assert "is not a file" in benchmark.cases[0].fault


def test_our_own_list_is_requests_with_a_category(tmp_path):
    picture(tmp_path, "fox.png")
    said = {
        "id": "fox-1",
        "category": "animals",
        "prompt": "a @fox walks",
        "references": [{"name": "fox", "images": ["fox.png"], "text": "red fox"}],
        "seed": 3,
    }
    for form, name in [([said], "a.json"), ({"name": "mine", "cases": [said]}, "cases.json")]:
        benchmark = load_benchmark(written(tmp_path, form, name))
        (case,) = benchmark.cases
        assert (case.id, case.category, case.labels) == ("fox-1", "animals", ("red fox",))
        assert case.request.references[0].images[0].is_file()
        assert (case.request.seed, case.fault) == (3, None)
    assert benchmark.name == "mine"


def test_a_name_is_looked_for_in_folders(tmp_path):
    written(tmp_path, [{"prompt": "a fox"}], "cases.jsonl")
    benchmark = load_benchmark("mine", folders=[tmp_path])
    assert (benchmark.name, benchmark.cases[0].id, len(benchmark)) == ("mine", "0001", 1)
    with pytest.raises(EvaluationError, match=r"'his' is neither a file nor a name \(mine\)"):
        load_benchmark("his", folders=[tmp_path])


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "a/../../secret.png",
        "{tmp}/secret.png",
        "missing.png",
        ".",
        "folder",
        "x" * 5000 + ".png",
        "nul\0.png",
        "",
        "\ud800.png",
    ],
)
def test_hostile_and_missing_pictures_cost_their_own_case_alone(tmp_path, path):
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    good = picture(tmp_path, "good.png")
    (tmp_path / "mine" / "folder").mkdir()
    path = path.replace("{tmp}", str(tmp_path))
    cases = [
        {"prompt": "one", "references": [{"images": [path]}]},
        {"prompt": "two", "references": [{"images": [good], "mask": path}]},
        {"prompt": "three", "references": [{"images": [good]}]},
    ]
    benchmark = load_benchmark(written(tmp_path, cases))
    assert [bool(case.fault) for case in benchmark.cases] == [True, True, False]
    samples = {k: {"prompt": "p", "img_paths": [p]} for k, p in [("a", path), ("b", good)]}
    benchmark = load_benchmark(written(tmp_path, samples, "eval.json"))
    assert [bool(case.fault) for case in benchmark.cases] == [True, False]


@pytest.mark.parametrize(
    "entry",
    [
        "not json at all",
        [],
        {"prompt": ""},
        {"prompt": "x", "id": "../x"},
        {"prompt": "x", "labels": ["a"]},
        {"prompt": "x", "category": 3},
        {"prompt": "x", "self": 1},
        {"prompt": "x", "unknown": 1},
        {"prompt": "@nobody"},
    ],
)
def test_a_broken_case_is_a_value_that_says_why(tmp_path, entry):
    benchmark = load_benchmark(written(tmp_path, [entry, {"prompt": "a fox"}], "a.jsonl"))
    assert benchmark.cases[0].request is None
    assert benchmark.cases[0].fault
    assert benchmark.cases[1].fault is None


@pytest.mark.parametrize(
    "sample",
    [
        3,
        {"prompt": "p"},
        {"prompt": "p", "img_paths": [3]},
        {"prompt": "p", "img_paths": ["a.png"], "class_label": ["A", "B"]},
        {"prompt": "p", "img_paths": ["a.png"], "synthesis_flag": True},
    ],
)
def test_a_broken_opens2v_sample_is_a_value_too(tmp_path, sample):
    benchmark = load_benchmark(written(tmp_path, {"a_1": sample}, "eval.json"))
    assert benchmark.cases[0].request is None


def test_a_repeated_id_is_a_fault_of_the_later_case(tmp_path):
    path = tmp_path / "twice.json"
    picture(tmp_path, "a.png")
    sample = '{"prompt": "p", "img_paths": ["mine/a.png"]}'
    path.write_text(f'{{"a_1": {sample}, "a_1": {sample}}}')
    benchmark = load_benchmark(path)
    assert [bool(case.fault) for case in benchmark.cases] == [False, True]
    assert benchmark["a_1"].fault is None


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", "{", "[" * 100_000, "\xff"])
def test_a_file_that_is_no_benchmark_is_refused(tmp_path, text):
    path = tmp_path / "no.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(EvaluationError, match="benchmark"):
        load_benchmark(path)


def test_vbenchs_prompts_are_cases_each_once(tmp_path):
    said = [
        {"prompt_en": "a fox", "dimension": ["color"], "auxiliary_info": {"color": "red"}},
        {"prompt_en": "e-mail me@home", "dimension": ["scene"]},
        {"prompt_en": "a fox", "dimension": ["scene"]},
    ]
    benchmark = load_benchmark(written(tmp_path, said, "VBench_full_info.json"))
    assert benchmark.faults == {}
    assert benchmark.by_prompt == {"a fox": "0001", "e-mail me@home": "0002"}


def test_a_file_nested_too_deep_is_refused(tmp_path):
    for depth in (900, 3000):
        nested = "[" * depth + "]" * depth
        path = tmp_path / "deep.json"
        path.write_text('[{"id": "a", "prompt": ' + nested + "}]")
        try:
            assert load_benchmark(path).faults
        except EvaluationError as error:
            assert "not JSON" in str(error)
