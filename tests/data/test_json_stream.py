from __future__ import annotations

import json

import pytest

from anyref.data import json_stream
from anyref.data.json_stream import stream_members
from anyref.errors import DataError

OBJECT = {
    "a": {"text": 'a "}" \\ \n é 漢 😀', "numbers": [1, -2.5e-3, 1.00098, 0]},
    "": None,
    "é": [],
    "n": 123456,
    "s": "long " * 50,
}


@pytest.mark.parametrize("chunk", [1, 2, 7, 10_000])
@pytest.mark.parametrize("indent", [None, 3])
def test_members_come_one_by_one_whatever_the_chunks(tmp_path, monkeypatch, chunk, indent):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text("\n " + json.dumps(OBJECT, indent=indent, ensure_ascii=False) + " \n")
    assert list(stream_members(path)) == list(OBJECT.items())


def test_a_byte_order_mark_and_an_empty_object_are_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf { } ")
    assert list(stream_members(path)) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"a": 1',
        '{"a": 1,}',
        '{"a" 1}',
        '{"a": }',
        '{"a": 1} x',
        "{1: 2}",
        '{"a": "b',
        "{",
    ],
)
def test_what_is_not_one_object_is_refused_with_its_place(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"a\.json' is not one JSON object: .* at character \d+"):
        list(stream_members(path))


def test_what_came_before_a_fault_has_been_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1, "b": oops}')
    members = stream_members(path)
    assert next(members) == ("a", 1)
    with pytest.raises(DataError):
        next(members)


def test_deep_long_unreadable_and_missing_files_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text('{"a": ' + "[" * 200_000)
    with pytest.raises(DataError):
        list(stream_members(path))
    monkeypatch.setattr(json_stream, "MAX_VALUE_CHARACTERS", 100)
    monkeypatch.setattr(json_stream, "CHUNK", 50)
    path.write_text(json.dumps({"a": "b" * 1000}))
    with pytest.raises(DataError, match="64 Mi"):
        list(stream_members(path))
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(DataError, match="cannot be read"):
        list(stream_members(path))
    with pytest.raises(DataError, match="cannot be read"):
        list(stream_members(tmp_path / "none.json"))
