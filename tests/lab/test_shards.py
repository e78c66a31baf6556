from __future__ import annotations

import json

import numpy as np
import pytest

from anyref.data.index import ShardIndex
from anyref.errors import LabError
from anyref.lab.shards import LabClips, pack_clip, write_lab_shards
from anyref.request import resolve_mentions

MIXED = {1: 0.4, 2: 0.4, 3: 0.2}
SMALL = {"size": 48, "num_frames": 5, "processes": 1}


def write(folder, catalog, clips=7, **options):
    options = {"split": "train", "world_weights": MIXED, "clips_per_shard": 3, **SMALL, **options}
    return write_lab_shards(folder, clips=clips, catalog=catalog, **options)


def series(**options):
    weights = tuple(options.pop("world_weights", MIXED).items())
    return LabClips(
        split="train", world_weights=weights, **{"size": 48, "num_frames": 5, **options}
    )


def contents(paths):
    return [p.read_bytes() + p.with_suffix(".meta.jsonl").read_bytes() for p in paths]


def test_clips_become_whole_samples(catalog, tmp_path):
    paths = write(tmp_path, catalog)
    assert [p.name for p in paths] == ["000000.tar", "000001.tar", "000002.tar"]
    assert {p.parent.name for p in paths} == {"48x48x5"}
    index = ShardIndex.open([str(tmp_path)])
    assert len(index) == 7
    clips = series()
    for i in range(7):
        packed, clip = index.read(i), clips.clip(catalog, i)
        record = packed.record
        assert record.split == "train"
        assert record.captions[0].text == resolve_mentions(clip.prompt, clip.references)
        for k, reference in enumerate(clip.references):
            picture = reference.images[0]
            assert packed.picture(k).mode == picture.mode
            assert np.array_equal(np.asarray(packed.picture(k)), np.asarray(picture))
        difference = packed.frames().astype(float) - clip.frames
        assert 10 * np.log10(255**2 / (difference**2).mean()) > 35


def test_records_say_who_is_where_and_which_words_name_it(catalog):
    clips = series(world_weights={2: 1.0})
    for i in range(20):
        clip = clips.clip(catalog, i)
        record = pack_clip(clips, catalog, clip, i).record
        said = [record.captions[0].text[slice(*r.caption_span)] for r in record.references]
        assert said == [r.label for r in record.references] == [r.words for r in clip.references]
        kinds = ["object", "object", *(["background"] if clip.background else [])]
        assert [r.kind for r in record.references] == kinds
        for reference, actor in zip(record.references, clip.actors, strict=False):
            assert reference.entity_id == actor.name
            assert np.array_equal(np.array(reference.track), actor.boxes)
            assert reference.bbox_xyxy == reference.track[0]
        assert all(r.track is None for r in record.references[2:])


def test_the_licence_names_every_source_that_is_shown(catalog):
    clips = series(world_weights={1: 1.0})
    licences = {e.key: e.licence for e in (*catalog.all_subjects, *catalog.all_backgrounds)}
    seen = set()
    for i in range(30):
        clip = clips.clip(catalog, i)
        shown = {clip.actors[0].key, clip.background} - {None}
        said = pack_clip(clips, catalog, clip, i).record.license
        assert set(said.split(" AND ")) == {licences[key] for key in shown}
        seen.add(said)
    assert len(seen) > 1


def test_shares_decide_how_many_subjects_there_are(catalog):
    clips = series(world_weights={1: 0.5, 3: 0.5})
    counts = [clips.world(i).num_subjects for i in range(400)]
    assert set(counts) == {1, 3}
    assert 160 < counts.count(1) < 240


def test_a_clip_does_not_depend_on_how_many_there_are(catalog, tmp_path):
    few = write(tmp_path / "few", catalog, clips=3)
    many = write(tmp_path / "many", catalog, clips=7)
    assert contents(few) == contents(many[:1])
    other = write(tmp_path / "other", catalog, clips=3, seed=1)
    assert contents(other) != contents(few)


def test_ids_differ_between_seeds_splits_and_sizes(catalog):
    made = {
        pack_clip(clips, catalog, clips.clip(catalog, 0), 0).record.id
        for clips in (series(), series(seed=1), series(size=64), series(num_frames=6))
    }
    assert len(made) == 4


def test_finished_shards_are_kept_and_missing_ones_written(catalog, tmp_path):
    paths = write(tmp_path, catalog)
    before = contents(paths)
    paths[1].unlink()
    (paths[2].with_suffix(".meta.jsonl")).unlink()
    times = [p.stat().st_mtime_ns for p in paths[:1]]
    told = []
    assert write(tmp_path, catalog, on_shard=told.append) == paths
    assert told == list(paths[1:])
    assert contents(paths) == before
    assert [p.stat().st_mtime_ns for p in paths[:1]] == times


def test_a_longer_run_fills_the_last_shard(catalog, tmp_path):
    write(tmp_path, catalog, clips=4)
    longer = write(tmp_path, catalog, clips=7)
    assert contents(longer) == contents(write(tmp_path / "at_once", catalog, clips=7))
    assert len(ShardIndex.open([str(tmp_path / "48x48x5")])) == 7
    with pytest.raises(LabError, match=r"000001.tar' is beyond the 3 clips"):
        write(tmp_path, catalog, clips=3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed 0, not 1"),
        ({"split": "validation"}, "split 'train', not 'validation'"),
        ({"world_weights": {1: 1.0}}, "world_weights"),
        ({"clips_per_shard": 4}, "clips_per_shard 3, not 4"),
    ],
)
def test_a_folder_of_other_clips_is_refused(catalog, tmp_path, change, words):
    write(tmp_path, catalog, clips=1)
    with pytest.raises(LabError, match=words):
        write(tmp_path, catalog, clips=1, **change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clips": 0}, "0 clips"),
        ({"world_weights": {}}, "positive shares"),
        ({"world_weights": {1: 1.0, 2: 0.0}}, "positive shares"),
        ({"world_weights": {4: 1.0}}, "1, 2 or 3, got 4"),
        ({"size": 50}, "multiple of 16, got 50"),
    ],
)
def test_clips_that_cannot_be_made_are_refused_before_any_is(catalog, tmp_path, change, words):
    with pytest.raises(LabError, match=words):
        write(tmp_path, catalog, **change)
    assert not list(tmp_path.iterdir())


def test_the_folder_says_what_it_is_made_from(catalog, tmp_path):
    write(tmp_path, catalog, clips=1)
    said = json.loads((tmp_path / "world.json").read_text())
    assert said["world_weights"] == {"1": 0.4, "2": 0.4, "3": 0.2}
    assert (said["split"], said["size"], said["num_frames"], said["seed"]) == ("train", 48, 5, 0)


@pytest.mark.slow  # every process imports the lab anew
def test_two_processes_write_what_one_writes(catalog, tmp_path):
    one = write(tmp_path / "one", catalog, clips=4)
    two = write(tmp_path / "two", catalog, clips=4, processes=2)
    assert contents(one) == contents(two)
