from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import truth_clips as clips
import truth_faces as faces
import truth_films as films
import truth_scores as scores
import truth_table as table
from PIL import Image

from anyref.data.masks import encode
from anyref.data.record import Asset, Caption, Origin, Sample, SampleReference, Video
from anyref.data.rows import Row
from anyref.data.thresholds import Rule

SIDE, COUNT = 64, clips.FRAMES
RULES = (Rule(measurement="sharpness", at_least=20), Rule(measurement="cut_inside", at_most=0.12))


@pytest.fixture(scope="session")
def clean(catalog):
    return clips.clean(random.Random(3), catalog, SIDE)


def change(frames):
    """Mean change from each frame to the next."""
    return np.abs(np.diff(frames.astype(int), axis=0)).mean((1, 2, 3))


def test_a_clip_is_the_same_for_the_same_seed_and_its_subjects_travel(catalog, clean):
    again = clips.clean(random.Random(3), catalog, SIDE)
    assert np.array_equal(clean.frames, again.frames)
    assert clean.frames.shape == (COUNT, SIDE, SIDE, 3)
    moving = next(figure for figure in clean.figures if figure.motion != "stay")
    assert not np.array_equal(moving.masks[0], moving.masks[-1])


def test_a_mirrored_clip_turns_masks_and_ways_with_its_pictures(catalog):
    made = clips.composed(random.Random(1), catalog, SIDE)
    both = {}
    for seed in range(20):
        seen = clips.shown(random.Random(seed), made)
        both[np.array_equal(seen.figures[0].masks, made.actors[0].masks)] = seen
    assert np.array_equal(both[True].figures[0].masks, both[False].figures[0].masks[:, :, ::-1])
    ways = {both[True].figures[0].motion, both[False].figures[0].motion}
    assert ways == {"left", "right"} or len(ways) == 1


def test_every_defect_is_what_it_is_called(clean):
    rng = random.Random(0)
    blurred, dark = clips.blurred(clean, rng), clips.darkened(clean, rng)
    assert change(blurred.frames.swapaxes(0, 1)).mean() < change(clean.frames.swapaxes(0, 1)).mean()
    assert 0.01 < dark.frames.mean() / 255 < 0.07
    still, grain = (clips.stilled(clean, rng, variant) for variant in films.STILLS)
    assert not change(still.frames).any()
    assert change(grain.frames).min() > 0.5
    for variant in films.COPIES:
        copy = clips.copied(clean, rng, variant)
        assert 0 < np.abs(copy.frames.astype(int) - clean.frames).mean() < 50


def test_a_mark_stays_at_its_place(clean):
    marked = clips.marked(clean, random.Random(0))
    changed = (marked.frames != clean.frames).any(-1)
    assert 0.005 < changed.mean() < 0.3
    assert (changed.any(0) & ~changed.all(0)).mean() < 0.02


@pytest.mark.parametrize("variant", films.CUTS)
def test_a_cut_stands_in_the_middle_of_takes_that_look_alike(catalog, variant):
    cut = clips.cut(random.Random(5), catalog, SIDE, variant)
    assert len(cut.frames) == COUNT
    assert change(cut.frames).argmax() == cut.cut - 1


def portrait(folder):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)).save(folder / "p.png")
    return faces.Portrait("somebody", folder / "p.png", (120, 60, 180, 140))


def test_a_thing_lies_over_the_face_or_beside_it_in_every_frame(catalog, tmp_path):
    for over in (True, False):
        clip = faces.face_clip(random.Random(1), catalog, SIDE, portrait(tmp_path), over=over)
        pairs = zip(clip.figures[0].masks, clip.faces, strict=True)
        shares = [faces.overlap(mask, box) for mask, box in pairs]
        assert all(0.25 < share < 0.65 if over else share < 0.02 for share in shares)
        assert clip.faces.min() > -1
        assert clip.faces.max() < SIDE + 1
        assert change(clip.frames).min() > 0.5


def test_a_collection_has_two_clips_of_each_defect_and_the_originals_of_its_copies():
    specs = [spec for film in films.plan(SIDE, 4) for spec in film]
    kinds = [spec.kind for spec in specs]
    assert all(kinds.count(kind) == films.PER_KIND for kind in films.DEFECTS)
    seeds = {spec.seed for spec in specs if spec.kind == "clean"}
    assert {spec.copy_of for spec in specs if spec.kind == "duplicate"} <= seeds
    assert films.plan(SIDE, 4) == films.plan(SIDE, 4) != films.plan(SIDE, 5)


def test_subjects_of_several_pieces_are_not_chosen(catalog, tmp_path):
    both = Image.new("RGBA", (40, 40))
    both.paste((255, 0, 0, 255), (0, 0, 15, 40))
    both.paste((255, 0, 0, 255), (25, 0, 40, 40))
    both.save(tmp_path / "socks.png")
    socks = replace(catalog.all_subjects[0], key="fluent/socks", picture=tmp_path / "socks.png")
    whole = replace(catalog, all_subjects=(*catalog.all_subjects, socks))
    assert films.chosen(whole).all_subjects == catalog.all_subjects


def test_a_copy_starts_from_its_original(catalog):
    original = films.Spec("clean", "one")
    copy = films.Spec("duplicate", "two", "cropped", copy_of="one")
    made = [films.shoot(spec, catalog, (), SIDE) for spec in (original, copy)]
    assert np.array_equal(made[0].figures[0].masks, made[1].figures[0].masks)
    assert not np.array_equal(made[0].frames, made[1].frames)


def square(left, top=10, side=20):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def segment(kind="clean", start=0, film="a.mp4", figures=(("fox", 10),), **more):
    made = tuple(
        films.TruthFigure(key, f"red {key}", "right", (encode(square(left)),) * COUNT)
        for key, left in figures
    )
    spec = films.Spec(kind, f"{film} {start}", copy_of=more.pop("copy_of", None))
    return films.Segment(film=film, start=start, end=start + COUNT, spec=spec, figures=made, **more)


def picture(entity, left, name="x", kind="object", label="fox", **more):
    return SampleReference(
        ref_id=f"{entity}-{name}",
        kind=kind,
        label=label,
        entity_id=entity,
        image=Asset(uri=f"{entity}-{name}"),
        origin=more.pop("origin", Origin(frame=3)),
        mask=encode(square(left)),
        bbox_xyxy=(left, 10, left + 20, 30),
        **more,
    )


def row(name="r", *references, start=2, status="accepted", film="a.mp4", stage=None, **numbers):
    end = start + COUNT - 4
    sample = Sample(
        id=name,
        video=Video(start=start, end=end, fps=16, num_frames=COUNT - 4, width=SIDE, height=SIDE),
        captions=(Caption(text="A fox moves to the right and a dog stays in place."),),
        references=references,
    )
    return Row(
        id=name,
        source="s",
        uri=f"films/{film}",
        status=status,
        stage=stage,
        measurements={scores.FIRST: start, scores.END: end, "sharpness": 50, **numbers},
        record=sample.to_json(),
    )


def test_a_clean_clip_is_compared_with_its_subjects_and_words():
    found = row("r", picture("one", 12, caption_span=(2, 5)), picture("two", 40, label="object"))
    made = scores.outcome_of(segment(), [found], RULES)
    assert made.accepted
    assert made.whole
    assert made.found == [pytest.approx(18 / 22, abs=1e-3), 0.0]
    assert made.missed == 0
    assert made.spans == [True, False]
    assert made.moves == [("right", "right")]
    assert made.names == [("fox", "red fox", True)]


def test_two_subjects_found_are_never_one_figure():
    assert scores.matched({"a": {"fox": 0.9}, "b": {"fox": 0.8}}) == {"a": ("fox", 0.9)}
    assert scores.matched({"a": {"fox": 0.4}}) == {}


def test_a_defect_is_its_own_filters_only_when_that_one_rejects_it():
    blurred = segment("blur")
    ours = scores.outcome_of(blurred, [row(status="rejected", sharpness=3)], RULES)
    others = scores.outcome_of(blurred, [row(status="rejected", cut_inside=1)], RULES)
    missed = scores.outcome_of(blurred, [row()], RULES)
    assert [(one.caught, one.own) for one in (ours, others, missed)] == [
        (True, True),
        (True, False),
        (False, False),
    ]


def test_a_cut_counts_as_caught_where_the_film_was_split_there():
    cut = segment("cut", start=COUNT, cut=COUNT + 24)
    halves = [row("a", start=28), row("b", start=COUNT + 24)]
    whole = COUNT + 2
    assert scores.outcome_of(cut, halves, RULES).own
    assert not scores.outcome_of(cut, [row(start=whole)], RULES).own
    assert scores.outcome_of(cut, [row(start=whole, cut_inside=0.5)], RULES).own


def test_an_object_that_is_kept_over_a_face_is_missed():
    face = segment("face", faces=((10.0, 10.0, 30.0, 40.0),) * COUNT, person="p")
    assert scores.outcome_of(face, [row("r", picture("one", 10))], RULES).own is False
    assert scores.outcome_of(face, [row("r", picture("one", 40))], RULES).own is True
    unseen = replace(row("r"), record=None)
    assert scores.outcome_of(face, [unseen], RULES).own is None


def test_a_copy_is_caught_when_one_of_both_is_rejected_as_such():
    both = [segment(), segment("duplicate", start=COUNT, copy_of="a.mp4 0")]

    def judged(stage):
        status = "rejected" if stage else "accepted"
        rows = [row("a"), row("b", start=COUNT + 2, status=status, stage=stage)]
        made = [scores.outcome_of(one, rows, RULES) for one in both]
        scores.judge_copies(both, made, rows)
        assert made[0].copied
        return made[1].own, made[1].caught

    assert judged("duplicates") == (True, True)
    assert judged(None) == (False, False)
    assert judged("rules") == (None, True)


def test_likeness_tells_copies_from_strangers():
    first, copy, other = (
        segment(),
        segment("duplicate", start=COUNT, copy_of="a.mp4 0"),
        segment(start=2 * COUNT),
    )
    rows = [row("a"), row("b", start=COUNT + 2), row("c", start=2 * COUNT + 2)]
    vectors = {"a": [3, 0], "b": [0.6, 0.8], "c": [0, 2]}
    made = scores.likeness_of([first, copy, other], rows, lambda r: np.array(vectors[r.id]))
    assert made == {"copies": [0.6], "strangers": [0.8, 0.0]}


def test_pairs_are_right_when_both_pictures_show_one_figure():
    def lent(ours, clip, name):
        origin = Origin(sample_id=clip, frame=3)
        shown = picture(ours, 10, "pair", pair_type="cross_clip", origin=origin)
        return shown.model_copy(update={"image": Asset(uri=f"{name}-x")})

    both = [segment(), segment(start=COUNT)]
    second = row("b", picture("two", 10), picture("else", 40), start=COUNT + 2)
    for name, right in (("two", True), ("else", False)):
        first = row("a", picture("one", 10), lent("one", "b", name))
        made = scores.pairs_of(both, [first, second])
        assert made["pairs"] == [("fox", "fox" if right else None, None)]
        assert made["wanted"] == [(True, right), (True, False)]


def outcome(kind, **values):
    whole = scores.Outcome(kind=kind, variant="", film="a", rows=1, accepted=True)
    return {**vars(whole), **values}


def test_shares_come_with_intervals_and_what_falls_short_names_its_judge():
    caught = [outcome(kind, own=True, caught=True) for kind in films.DEFECTS] * 30
    clean = [outcome("clean", numbers={"dropped_over_face": 0.0})] * 30
    good = table.filters([*caught, *clean])
    assert table.verdict(good) == {}
    missed = [outcome("blur", own=False, caught=False)] * 5
    short = table.verdict(table.filters([*caught, *missed, *clean]))
    assert list(short) == ["blur"]
    alarmed = [outcome("clean", accepted=False, faults=["cut_inside"])] * 3
    assert "cut" in table.verdict(table.filters([*caught, *clean, *alarmed]))
    assert table.reasons(alarmed) == {"cut_inside": 3}
    assert table.cell(good["blur"]["own"]) == "100.0 % [88.6, 100.0] of 30"


def test_the_tables_are_written_from_the_results(tmp_path):
    outcomes = [outcome(kind, own=True, caught=True) for kind in (*films.DEFECTS, *films.CLEAN)]
    runs = {"pairs": [["k", "k", 0.8], ["k", None, 0.7]], "wanted": [[True, True]]}
    result = {
        "size": 64,
        "outcomes": outcomes,
        "joints": 4,
        "crossed": 1,
        "seconds": {"stages": 9.0, "completion": 1.0},
        "also_alike": runs,
        "copies": [0.98],
        "strangers": [0.9],
        **runs,
    }
    (tmp_path / "r.json").write_text(table.json.dumps(result))
    text = table.report([tmp_path / "r.json"], tmp_path)
    assert "| cuts found | 75.0 %" in text
    assert "| pairs right (precision) | 50.0 %" in text
    assert (tmp_path / "data_truth.md").read_text() == text
    assert table.json.loads((tmp_path / "data_truth.json").read_text())["short"]
