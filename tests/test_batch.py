"""Lists of requests: what each format means, and what a bad entry does."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from anyref.batch import MAX_LIST_BYTES, read_batch
from anyref.errors import RequestError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pics").mkdir()
    for name in ("a.png", "b.png", "pics/c.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def pictures(item):
    return [image for reference in item.request.references for image in reference.images]


def test_jsonl_lines_are_requests_with_paths_from_the_lists_folder(folder):
    line = {"prompt": "a @fox", "references": [{"name": "fox", "images": ["a.png"]}], "seed": 3}
    path = write(
        folder, "list.jsonl", json.dumps({"key": "one", **line}) + "\n\n" + '{"prompt":"b"}'
    )
    first, second = read_batch(path)
    assert (first.key, first.line, first.error, first.request.seed) == ("one", 1, None, 3)
    assert pictures(first) == [folder / "a.png"]
    assert (second.key, second.line) == ("0003", 3)


def test_a_masks_path_starts_from_the_lists_folder_too(folder):
    line = {"prompt": "a", "references": [{"images": ["a.png"], "mask": "b.png"}]}
    (item,) = read_batch(write(folder, "list.jsonl", json.dumps(line)))
    assert item.request.references[0].mask == folder / "b.png"


def test_defaults_fill_what_a_line_leaves_out(folder):
    path = write(folder, "list.jsonl", '{"prompt":"a","seed":3}\n{"prompt":"b"}')
    assert [item.request.seed for item in read_batch(path, defaults={"seed": 9})] == [3, 9]


def test_a_line_separator_inside_json_does_not_end_the_line(folder):
    path = write(folder, "list.jsonl", '{"prompt":"a\u2028b"}')
    assert [item.request.prompt for item in read_batch(path)] == ["a\u2028b"]


def test_magref_lines_are_key_prompt_pictures(folder):
    path = write(folder, "list.txt", "v1@@a fox walks.@@a.png@@pics/c.jpg\n")
    (item,) = read_batch(path)
    assert (item.key, item.request.text) == ("v1", "a fox walks.")
    assert pictures(item) == [folder / "a.png", folder / "pics/c.jpg"]
    assert len(item.request.references) == 2
    assert {reference.name for reference in item.request.references} == {None}


def test_kaleido_prompts_reach_the_text_encoder_without_the_paths(folder):
    path = write(folder, "list.txt", "a fox walks.@@a.png@@b.png\r\n")
    (item,) = read_batch(path)
    assert (item.key, item.request.text) == ("0001", "a fox walks.")
    assert pictures(item) == [folder / "a.png", folder / "b.png"]


def test_opens2v_samples_keep_their_ids(folder):
    record = {
        "img_paths": ["a.png"],
        "prompt": "a cup",
        "synthesis_flag": "wrong",
        "class_label": [],
    }
    path = write(folder, "eval.json", json.dumps({"singleobj_1": record}))
    (item,) = read_batch(path)
    assert (item.key, item.request.text, item.line) == ("singleobj_1", "a cup", 1)
    assert pictures(item) == [folder / "a.png"]


@pytest.mark.parametrize("prompt", ["see @home now", "me@site.com", "@@x and @y", "a @ b"])
def test_an_at_sign_in_a_foreign_prompt_is_read_verbatim(folder, prompt):
    path = write(folder, "eval.json", json.dumps({"k": {"img_paths": ["a.png"], "prompt": prompt}}))
    (item,) = read_batch(path)
    assert item.error is None
    assert item.request.text == prompt


def test_a_bad_line_is_an_item_with_its_reason_and_the_rest_is_read(folder):
    lines = [
        "nonsense",
        '{"prompt":"a @fox"}',
        '{"prompt":"a","self":1}',
        '{"prompt":"a","references":[{"images":5}]}',
        "[" * 100_000,
        '{"prompt":"fine"}',
    ]
    items = read_batch(write(folder, "list.jsonl", "\n".join(lines)))
    assert [item.line for item in items if item.error] == [1, 2, 3, 4, 5]
    assert all(item.request is None for item in items[:5])
    assert "@fox" in items[1].error
    assert items[5].request.prompt == "fine"


@pytest.mark.parametrize(
    "key", ["../up", "a/b", "a\\b", ".hidden", "", "ä", "a b", "x" * 201, 7, "a\n"]
)
def test_a_key_that_cannot_name_a_file_is_an_error(folder, key):
    path = write(folder, "list.jsonl", json.dumps({"key": key, "prompt": "a"}))
    (item,) = read_batch(path)
    assert item.request is None
    assert "cannot name a file" in item.error
    assert item.key == "0001"


def test_a_repeated_key_is_an_error_at_its_second_place(folder):
    text = '{"k": {"prompt":"a","img_paths":["a.png"]}, "k": {"prompt":"b","img_paths":["b.png"]}}'
    first, second = read_batch(write(folder, "eval.json", text))
    assert first.error is None
    assert "already used" in second.error


@pytest.mark.parametrize(
    ("known", "line"),
    [
        ("magref", "key@@prompt"),
        ("magref", "key@@prompt@@"),
        ("kaleido", "prompt"),
        ("kaleido", "p@@"),
    ],
)
def test_an_official_line_without_a_picture_is_an_error(folder, known, line):
    (item,) = read_batch(write(folder, "list.txt", line), known)
    assert "no picture" in item.error


def test_a_one_word_kaleido_prompt_is_not_taken_for_a_magref_key(folder):
    (item,) = read_batch(write(folder, "list.txt", "fox@@a.png@@b.png"))
    assert item.request.text == "fox"


@pytest.mark.parametrize(
    "text", ["only words", "k@@a fox@@a.png\nan apple falls@@a.png", "k@@p@@q"]
)
def test_an_unclear_list_asks_for_the_format(folder, text):
    with pytest.raises(RequestError, match="--format"):
        read_batch(write(folder, "list.txt", text))


def test_a_list_that_cannot_be_read_is_refused(folder):
    with pytest.raises(RequestError, match="cannot be read"):
        read_batch(folder / "none.jsonl")
    with pytest.raises(RequestError, match="holds no requests"):
        read_batch(write(folder, "empty.jsonl", "\n"))
    with pytest.raises(RequestError, match="not known"):
        read_batch(write(folder, "list.txt", "a"), "csv")
    with pytest.raises(RequestError, match="not one JSON object"):
        read_batch(write(folder, "eval.json", "[]"))
    (folder / "latin.jsonl").write_bytes(b'{"prompt":"\xe9"}')
    with pytest.raises(RequestError, match="UTF-8"):
        read_batch(folder / "latin.jsonl")


def test_a_huge_list_is_refused(folder):
    path = folder / "huge.jsonl"
    with path.open("wb") as file:
        file.truncate(MAX_LIST_BYTES + 1)
    with pytest.raises(RequestError, match="64 MiB"):
        read_batch(path)
