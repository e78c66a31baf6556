from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from anyref.data.completion import MARK, CompletionSettings, complete
from anyref.data.dataset import Dataset, DatasetWriter
from anyref.data.identities import IdentitySettings
from anyref.data.pairing import PairSettings
from anyref.data.rescore import rescore
from anyref.data.thresholds import Recipe, Rule
from anyref.errors import DataError
from casts import Role, Scene, cast_row, write_cast
from films import tree

FOX, OWL, ELK = Role(who=1), Role(who=2), Role(who=3)
SCENES = (
    Scene(id="a1", roles=(FOX, OWL)),
    Scene(id="a2", start=20, roles=(FOX,)),
    Scene(id="a3", start=40, roles=(ELK,), shows=7),
    Scene(id="a4", start=60, roles=(FOX,), shows=7, blur=0.9),
    Scene(id="b1", uri="b.mp4", roles=(OWL, ELK)),
    Scene(id="b2", uri="b.mp4", start=30, roles=(FOX,), blur=0.5),
)


def rows(folder):
    return {row.id: row for row in Dataset.open(folder).rows()}


def samples(folder):
    return {sample.id: sample for sample in Dataset.open(folder).samples()}


def of_type(sample, pair_type):
    return [r for r in sample.references if r.pair_type == pair_type]


@pytest.fixture(scope="module")
def completed(tmp_path_factory):
    folder = write_cast(tmp_path_factory.mktemp("cast"), SCENES)
    return folder, complete(folder)


def test_the_report_counts_what_the_dataset_holds(completed):
    folder, report = completed
    found = samples(folder)
    types = Counter(r.pair_type for s in found.values() for r in s.references)
    assert report.clips == len(found) == 5
    assert report.duplicates == 1
    assert report.identities == 3
    assert report.pairs == types["cross_clip"] > 0
    assert report.generated == types["generated"] == 7  # a main view of every role in use
    assert report.paired == sum(bool(of_type(s, "cross_clip")) for s in found.values())


def test_the_later_of_two_like_clips_is_rejected_with_its_similarity_and_the_limit(completed):
    row = rows(completed[0])["a4"]
    assert (row.status, row.stage, row.reason) == ("rejected", "duplicates", "near-duplicate")
    assert row.number == pytest.approx(1, abs=1e-3)
    assert (row.limit, row.detail, row.judged) == (0.95, "like a3", False)
    assert row.sample().flags.filtered_by == "duplicates"


def test_a_character_has_one_entity_in_every_clip_and_no_other_character_shares_it(completed):
    entities = defaultdict(set)
    cast = {scene.id: scene.roles for scene in SCENES}
    for sample in samples(completed[0]).values():
        for reference in of_type(sample, "regular"):
            if reference.kind == "object":
                who = cast[sample.id][int(reference.ref_id[0]) - 1].who
                entities[who].add(reference.entity_id)
    assert {who: len(found) for who, found in entities.items()} == {1: 1, 2: 1, 3: 1}
    assert entities[1] == {"a1-1"}
    assert len(set.union(*entities.values())) == 3


def test_a_pair_is_the_other_clips_picture_of_the_same_character_under_this_clips_words(completed):
    folder = completed[0]
    found = samples(folder)
    cast = {scene.id: scene.roles for scene in SCENES}
    for sample in found.values():
        for pair in of_type(sample, "cross_clip"):
            own_id = pair.ref_id.removeprefix("pair-").split(f"-{pair.origin.sample_id}-")
            other = found[pair.origin.sample_id]
            shown = next(r for r in other.references if r.ref_id == own_id[1])
            own = next(r for r in sample.references if r.ref_id == own_id[0])
            assert other.id != sample.id
            assert pair.image == shown.image
            assert pair.bbox_xyxy == shown.bbox_xyxy
            assert (pair.entity_id, pair.caption_span) == (own.entity_id, own.caption_span)
            roles = (
                cast[sample.id][int(own.ref_id[0]) - 1],
                cast[other.id][int(shown.ref_id[0]) - 1],
            )
            assert roles[0].who == roles[1].who


def test_pairs_go_both_ways_and_across_sources(completed):
    ends = {
        (sample.id, pair.origin.sample_id)
        for sample in samples(completed[0]).values()
        for pair in of_type(sample, "cross_clip")
    }
    assert {("a1", "b1"), ("b1", "a1"), ("a1", "a2"), ("a2", "a1")} <= ends


def test_completing_twice_gives_the_same_files(tmp_path):
    folder = write_cast(tmp_path, SCENES)
    first = complete(folder)
    before = tree(folder)
    assert complete(folder) == first
    assert tree(folder) == before


def test_the_order_of_rows_does_not_matter(completed, tmp_path):
    folder = write_cast(tmp_path, SCENES[::-1])
    complete(folder)
    assert rows(folder) == rows(completed[0])


def test_with_nothing_to_do_it_restores_what_the_stages_left(tmp_path):
    folder = write_cast(tmp_path, SCENES)
    before = rows(folder)
    nothing = CompletionSettings(duplicates=None, identities=None, pairs=None, synthesis=None)
    complete(folder)
    complete(folder, nothing)
    assert complete(folder, nothing).clips == 6
    after = rows(folder)
    for row_id, row in after.items():
        sample = row.sample()
        assert sample.foreign == {MARK: {"added": [], "entities": {}}}
        clean = sample.model_copy(update={"foreign": None, "provenance": ()})
        assert replace(row, record=clean.to_json()) == before[row_id]


def test_after_new_thresholds_a_second_call_gives_what_one_call_gives(tmp_path):
    strict = Recipe(rules=(Rule(measurement="blur", at_most=0.4),))
    for name in ("completed-before", "once"):
        folder = write_cast(tmp_path / name, SCENES)
        if name == "completed-before":
            complete(folder)
        rescore(folder, strict)
        complete(folder)
    twice, once = rows(tmp_path / "completed-before"), rows(tmp_path / "once")
    assert twice == once
    assert (once["a4"].stage, once["a4"].judged) == ("quality", True)
    assert not any(
        pair.origin.sample_id in ("a4", "b2")
        for sample in samples(tmp_path / "once").values()
        for pair in of_type(sample, "cross_clip")
    )


def test_after_new_inputs_a_second_call_gives_what_one_call_gives(tmp_path, completed):
    folder = write_cast(tmp_path, SCENES[:4])
    complete(folder)
    known = list(Dataset.open(folder).rows())
    made = Dataset.open(folder).manifest
    with DatasetWriter(
        folder, recipe=made.recipe, stages=made.stages, measures=made.measures
    ) as writer:
        for row in (*known, *(cast_row(writer, scene) for scene in SCENES[4:])):
            writer.add(row)
        writer.finish()
    complete(folder)
    assert rows(folder) == rows(completed[0])


def test_pairs_per_reference_limits_what_is_added(tmp_path):
    scenes = [Scene(id=f"c{n}", start=20 * n, roles=(FOX,)) for n in range(6)]
    folder = write_cast(tmp_path, scenes)
    for most in (1, 3):
        settings = CompletionSettings(synthesis=None, pairs=PairSettings(per_reference=most))
        complete(folder, settings)
        assert {len(of_type(s, "cross_clip")) for s in samples(folder).values()} == {most}


def test_records_without_features_stay_as_they_are(tmp_path):
    folder = write_cast(tmp_path, SCENES)
    made = Dataset.open(folder).manifest
    bare = [replace(row, assets={}) for row in Dataset.open(folder).rows()]
    with DatasetWriter(folder, stages=made.stages, measures=made.measures) as writer:
        for row in bare:
            writer.add(row)
        writer.finish()
    report = complete(folder, CompletionSettings(synthesis=None))
    assert (report.clips, report.duplicates, report.identities, report.pairs) == (6, 0, 0, 0)
    entities = [r.entity_id for s in samples(folder).values() for r in s.references]
    assert entities == [r.entity_id for row in bare for r in row.sample().references]


def test_features_of_another_number_of_references_are_an_error(tmp_path):
    folder = write_cast(tmp_path, SCENES[:2])
    made = Dataset.open(folder).manifest
    first, second = Dataset.open(folder).rows()
    with DatasetWriter(folder, stages=made.stages, measures=made.measures) as writer:
        writer.add(replace(first, assets={**first.assets, "features": second.assets["features"]}))
        writer.finish()
    with pytest.raises(DataError, match=r"'a1' has features .* for 5 references"):
        complete(folder)


def test_without_colours_no_picture_has_to_be_read(tmp_path):
    folder = write_cast(tmp_path, SCENES)
    for path in folder.glob("assets/*/*.png"):
        path.unlink()
    settings = CompletionSettings(synthesis=None, identities=IdentitySettings(colour_share=0))
    assert complete(folder, settings).identities == 3
    with pytest.raises(DataError, match="cannot be read"):
        complete(folder, CompletionSettings(synthesis=None))
