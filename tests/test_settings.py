from __future__ import annotations

import pytest

from anyref.errors import DataError
from anyref.settings import MAX_SETTINGS_BYTES, override, read_mapping, shipped


def test_a_change_reaches_a_key_of_a_section_that_is_not_there_yet():
    values = {"a": {"b": 1}}
    override(values, "a.c.d=[1, x]", DataError)
    override(values, "a.b=null", DataError)
    assert values == {"a": {"b": None, "c": {"d": [1, "x"]}}}


@pytest.mark.parametrize(
    ("change", "said"), [("a", "e.g. k=1"), ("a.b.c=1", "give b="), ("a=[", "quote it")]
)
def test_a_faulty_change_is_an_error_of_the_class_asked_for(change, said):
    with pytest.raises(DataError, match=said):
        override({"a": {"b": 1}}, change, DataError, "k=1")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"- a\n", "holds no mapping"),
        (b"a: [", "is not YAML"),
        (b"\xff: 1", "is not YAML"),
        (b"#" * (MAX_SETTINGS_BYTES + 1), "over 1 MiB"),
    ],
)
def test_a_file_of_another_kind_is_an_error(tmp_path, data, said):
    (tmp_path / "x.yaml").write_bytes(data)
    with pytest.raises(DataError, match=said):
        read_mapping(tmp_path / "x.yaml", DataError)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_mapping(tmp_path / "none.yaml", DataError)


def test_the_first_folder_that_exists_is_listed(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/one.yaml").touch()
    assert shipped([tmp_path / "a", tmp_path / "b"]) == {"one": tmp_path / "b/one.yaml"}
