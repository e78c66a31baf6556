from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from anyref.batch import read_batch
from anyref.data.index import ShardIndex
from anyref.data.lists import (
    ListEntry,
    clip_lines,
    list_entry,
    read_opens2v_eval,
    save_entry,
    write_clip_list,
    write_kaleido_list,
    write_magref_list,
    write_opens2v_eval,
)
from anyref.data.opens2v_read import import_record
from anyref.data.pack import pack_clips
from anyref.data.record import Asset
from anyref.errors import DataError, RequestError

WRITERS = {
    "opens2v": write_opens2v_eval,
    "magref": write_magref_list,
    "kaleido": write_kaleido_list,
}


def entry(**changes):
    fields = {"key": "a_1", "prompt": "a fox", "pictures": ("fox.png",), "labels": ("fox",)}
    return ListEntry(**{**fields, **changes})


@pytest.mark.parametrize(
    ("name", "count"),
    [("Open-Domain_Eval", 180), ("Human-Domain_Eval", 60), ("Single-Domain_Eval", 90)],
)
def test_the_published_benchmarks_come_back_equal_and_read_as_requests(
    opens2v, tmp_path, name, count
):
    source = opens2v / "eval" / f"{name}.json"
    entries = read_opens2v_eval(source)
    assert len(entries) == count
    for form, write in WRITERS.items():
        assert write(tmp_path / form, entries) == count
        items = read_batch(tmp_path / form, form)
        assert [item.error for item in items] == [None] * count
        for item, said in zip(items, entries, strict=True):
            lines = form != "opens2v"
            assert item.request.text == (" ".join(said.prompt.split()) if lines else said.prompt)
            pictures = tuple(reference.images[0] for reference in item.request.references)
            assert pictures == tuple((tmp_path / p).resolve() for p in said.pictures)
            assert form == "kaleido" or item.key == said.key
    assert json.loads((tmp_path / "opens2v").read_text()) == json.loads(source.read_text())


def test_the_open_domain_benchmark_has_the_known_counts(opens2v):
    entries = read_opens2v_eval(opens2v / "eval" / "Open-Domain_Eval.json")
    assert Counter(len(e.pictures) for e in entries) == {1: 90, 2: 40, 3: 50}
    assert Counter(e.synthesis_flag for e in entries) == {"wrong": 60, "Wrong": 60, "True": 60}
    assert sum(e.is_synthetic for e in entries) == 60
    assert Counter(e.key.rsplit("_", 1)[0] for e in entries) == {
        "singleobj": 30, "singlehuman": 30, "singleface": 30, "multiobject": 30,
        "humanobj": 15, "faceobj": 15, "multiface": 15, "multihuman": 15,
    }  # fmt: skip


def test_line_breaks_of_a_prompt_become_spaces_in_lines_only(tmp_path):
    broken = entry(prompt=" a fox\n\nruns  on ")
    write_kaleido_list(tmp_path / "k.txt", [broken])
    assert (tmp_path / "k.txt").read_text() == "a fox runs on@@fox.png\n"
    write_opens2v_eval(tmp_path / "o.json", [broken])
    assert read_opens2v_eval(tmp_path / "o.json") == [broken]


@pytest.mark.parametrize("write", [write_magref_list, write_kaleido_list])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "mail me@@home"}, "'mail me@@home' in a field; .*'@@'.*OpenS2V-Eval JSON"),
        ({"prompt": "look @"}, "begin or end with '@'"),
        ({"prompt": "@fox runs"}, "begin or end with '@'"),
        ({"pictures": ("a@@b.png",)}, "'a@@b.png'"),
        ({"pictures": ("a\nb.png",)}, "no line breaks"),
        ({"pictures": (" a.png",)}, "no space at its ends"),
        ({"pictures": ("",)}, "has the field ''"),
        ({"prompt": " "}, "has the field ''"),
    ],
)
def test_fields_that_lines_cannot_hold_are_refused(tmp_path, write, changes, words):
    with pytest.raises(DataError, match=f"entry 'a_1' .*{words}"):
        write(tmp_path / "a.txt", [entry(), entry(key="b"), entry(**changes)][2:])
    assert not (tmp_path / "a.txt").exists()


def test_an_at_inside_a_field_is_an_ordinary_letter(tmp_path):
    write_magref_list(tmp_path / "m.txt", [entry(prompt="me@home and @fox")])
    (item,) = read_batch(tmp_path / "m.txt", "magref")
    assert item.request.text == "me@home and @fox"


@pytest.mark.parametrize("write", WRITERS.values())
def test_a_key_given_twice_is_refused(tmp_path, write):
    with pytest.raises(DataError, match="'a_1' is given twice"):
        write(tmp_path / "a", [entry(), entry()])


def test_entries_that_cannot_be_are_refused():
    with pytest.raises(RequestError, match="'a@@b' cannot name a file"):
        entry(key="a@@b")
    with pytest.raises(DataError, match="0 pictures, 1 to 8"):
        entry(pictures=(), labels=())
    with pytest.raises(DataError, match="9 pictures, 1 to 8"):
        entry(pictures=("a",) * 9, labels=("a",) * 9)
    with pytest.raises(DataError, match="2 labels for 1 pictures"):
        entry(labels=("a", "b"))


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"a": []},
        {"a": {"prompt": "p", "img_paths": ["i"], "class_label": ["c"]}},
        {"a": {"prompt": 1, "img_paths": ["i"], "class_label": ["c"], "synthesis_flag": "True"}},
        {"a": {"prompt": "p", "img_paths": "i", "class_label": ["c"], "synthesis_flag": "True"}},
        {"a": {"prompt": "p", "img_paths": [1], "class_label": ["c"], "synthesis_flag": "True"}},
    ],
)
def test_what_is_no_benchmark_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"a\.json"):
        read_opens2v_eval(tmp_path / "a.json")


def test_a_packed_sample_is_listed_with_its_pictures(tmp_path, sample):
    packed = sample("a", references=2)
    made = save_entry(packed, tmp_path)
    assert made == ListEntry(
        key="a",
        prompt="see fox owl",
        pictures=("pictures/a.ref0.png", "pictures/a.ref1.png"),
        labels=("fox", "owl"),
    )
    assert [(tmp_path / p).read_bytes() for p in made.pictures] == list(packed.references)


def test_a_record_is_listed_with_one_picture_of_every_subject(opens2v_record):
    record = import_record("key", opens2v_record)
    with pytest.raises(DataError, match="no picture of 'white hat'; pack it"):
        list_entry(record)
    references = [
        r.model_copy(update={"image": Asset(uri=None if r.ref_id == "2" else f"{r.ref_id}.png")})
        for r in record.references
    ]
    references[3] = references[3].model_copy(update={"pair_type": "generated"})
    made = list_entry(record.model_copy(update={"references": tuple(references)}))
    assert made.pictures == ("1.png", "3.png", "4.png")  # 2 and 3 are one person
    assert made.labels == ("white hat", "woman", "park")
    assert made.is_synthetic


@pytest.fixture
def folder(tmp_path, sample):
    """Two clips: one with pictures beside it, one with a folder of them."""
    packed = sample("a", references=3)
    pictures = iter(packed.references * 3)

    def put(name, data=None):
        path = tmp_path / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(next(pictures) if data is None else data)

    for name in ("b.take.mp4", "b.mp4"):
        put(name, packed.video)
    put("b.txt", b"A Red car, a car and me@home: 2@@.\n")
    put("b.car.png")
    put("b.red_car.png")
    put("b.red_car.2.png")
    put("b.take.txt", b"@fox meets an owl")
    put("b.take/fox.png")
    put("b.take/owl.png")
    put("b.take/notes.json", b"{}")
    put(".hidden.png", b"")
    return tmp_path / "clips"


def test_a_folder_becomes_lines_with_mentions(folder):
    assert clip_lines(folder) == [
        {
            "video": "b.mp4",
            "prompt": "A @red_car, a @car and me@@home: 2@@@@.",
            "references": [
                {"name": "car", "text": "car", "images": ["b.car.png"]},
                {
                    "name": "red_car",
                    "text": "Red car",
                    "images": ["b.red_car.2.png", "b.red_car.png"],
                },
            ],
        },
        {
            "video": "b.take.mp4",
            "prompt": "@fox meets an owl",
            "references": [
                {"name": "fox", "text": "fox", "images": ["b.take/fox.png"]},
                {"text": "owl", "images": ["b.take/owl.png"]},
            ],
        },
    ]  # fmt: skip


def test_a_folder_is_packed_as_its_texts_say(folder, tmp_path):
    for listing in (None, tmp_path / "elsewhere.jsonl"):
        assert write_clip_list(folder, listing) == 2
        out = tmp_path / f"out-{listing is None}"
        assert pack_clips(listing or folder / "clips.jsonl", out) == 2
        index = ShardIndex.open([str(out)])
        packed = [index.read(i).record for i in range(len(index))]
        records = {record.source_key: record for record in packed}
        plain, mention = records["b.mp4"], records["b.take.mp4"]
        assert plain.captions[0].text == "A Red car, a car and me@home: 2@@."
        assert [plain.captions[0].text[slice(*r.caption_span)] for r in plain.references] == [
            "car",
            "Red car",
            "Red car",
        ]
        assert mention.captions[0].text == "fox meets an owl"
        assert [r.label for r in mention.references] == ["fox", "owl"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("c.mp4", "c.mp4 has no text; write c.txt"),
        ("c.txt", "c.txt belongs to no clip"),
        ("c.fox.png", "c.fox.png belongs to no clip; call it NAME.REF.png"),
        ("b.png", "b.png belongs to no clip"),
        ("b.Fox.png", "'Fox'; use lower-case"),
        ("b.fox.1.2.png", "'fox.1.2'"),
        ("c/fox.png", "c/fox.png belongs to no clip"),
        ("b.MOV", "'b' is there twice"),
    ],
)
def test_files_out_of_place_are_named(folder, name, words):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")
    with pytest.raises(DataError, match=words):
        clip_lines(folder)


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"0 clips \(.mp4"):
        clip_lines(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        clip_lines(tmp_path / "none")
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match="cannot be read"):
        clip_lines(Path(tmp_path))
