from __future__ import annotations

import json
from dataclasses import replace

import pytest

from anyref.data import dataset as module
from anyref.data.dataset import Dataset, DatasetWriter, rewrite
from anyref.data.rows import Row
from anyref.errors import DataError
from films import tree


def row(count, **fields):
    return Row(id=f"r{count}", source="s", uri="a.mp4", **fields)


def write(folder, rows, measures=("blur",)):
    with DatasetWriter(folder, measures=measures) as writer:
        for one in rows:
            writer.add(one)
        return writer.finish()


def test_rows_come_back_as_they_were_in_their_order_and_by_id(tmp_path):
    rows = [
        row(1, measurements={"blur": 0.5}, assets={"b": "x", "a": "y"}, record='{"é": 1}'),
        row(2),
        row(3, status="rejected", stage="cut", reason="short", number=1.0, limit=2.0, judged=False),
    ]
    write(tmp_path, rows)
    found = Dataset.open(tmp_path)
    assert list(found.rows()) == rows
    assert [r.id for r in found.rows("accepted")] == ["r1", "r2"]
    assert found.row("r3") == rows[2]
    with pytest.raises(DataError, match="'r4' is not among the 3 records"):
        found.row("r4")


def test_many_rows_make_several_parts_and_each_id_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART_ROWS", 7)
    monkeypatch.setattr(module, "GROUP_ROWS", 3)
    rows = [row(n) for n in range(20)]
    manifest = write(tmp_path, rows, measures=())
    assert [part.rows for part in manifest.parts] == [9, 9, 2]
    found = Dataset.open(tmp_path)
    assert list(found.rows()) == rows
    assert [found.row(one.id) for one in rows] == rows


def test_equal_rows_make_equal_files(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, [row(n, assets={"z": "1", "a": "2"}) for n in range(5)])
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_an_asset_is_stored_once_and_checked_when_read(tmp_path):
    with DatasetWriter(tmp_path) as writer:
        asset = writer.write_asset(b"clip", "mp4")
        assert writer.write_asset(b"clip", "mp4") == asset
        writer.finish()
    found = Dataset.open(tmp_path)
    assert found.read(asset) == b"clip"
    assert len(list(tmp_path.glob("assets/*/*"))) == 1
    (tmp_path / asset.uri).write_bytes(b"clop")
    with pytest.raises(DataError, match="does not match its checksum"):
        found.read(asset)


@pytest.mark.parametrize("uri", ["../secret.txt", "assets/../../secret.txt", "/etc/passwd"])
def test_a_uri_that_leaves_the_folder_is_refused(tmp_path, uri):
    write(tmp_path, [])
    with pytest.raises(DataError, match="no asset of a dataset"):
        Dataset.open(tmp_path).read(uri)


def test_a_manifest_that_names_files_elsewhere_is_refused(tmp_path):
    write(tmp_path, [row(1)])
    path = tmp_path / "manifest.json"
    values = json.loads(path.read_text())
    values["parts"][0]["file"] = "records/../../part-00000-0123456789ab.parquet"
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match="not valid"):
        Dataset.open(tmp_path)


def test_a_damaged_part_is_named(tmp_path):
    part = write(tmp_path, [row(1)]).parts[0]
    (tmp_path / part.file).write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"part-00000-\w+.parquet' cannot be read"):
        list(Dataset.open(tmp_path).rows())


def test_a_folder_without_manifest_is_no_dataset(tmp_path):
    with pytest.raises(DataError, match="holds no finished dataset"):
        Dataset.open(tmp_path)


def test_two_writers_of_one_folder_are_one_too_many(tmp_path):
    with DatasetWriter(tmp_path), pytest.raises(DataError, match="another process"):  # noqa: SIM117
        with DatasetWriter(tmp_path):
            pass


def test_a_writer_that_fails_leaves_the_dataset_before_it_untouched(tmp_path, monkeypatch):
    write(tmp_path, [row(1)])
    before = tree(tmp_path)
    monkeypatch.setattr(module, "GROUP_ROWS", 1)
    with pytest.raises(DataError, match="undeclared"), DatasetWriter(tmp_path) as writer:
        writer.add(row(2))
        writer.add(row(3, measurements={"new": 1.0}))
    assert tree(tmp_path) == before


def test_rewriting_replaces_rows_and_drops_the_old_part(tmp_path):
    write(tmp_path, [row(n) for n in range(3)])
    new = rewrite(tmp_path, lambda one: replace(one, detail="seen"), {"rules": []})
    assert {one.detail for one in new.rows()} == {"seen"}
    assert new.manifest.recipe == {"rules": []}
    assert len(list((tmp_path / "records").iterdir())) == 1
