from __future__ import annotations

import random

import records
from anyref.data.dataset import Dataset
from anyref.data.tally import Lot, tally


def test_the_funnel_loses_records_stage_by_stage(tmp_path):
    dataset = Dataset.open(records.write(tmp_path / "set"))
    steps = [(s.stage, s.rejected.total(), s.left) for s in tally(dataset).funnel(dataset)]
    assert steps == [("clips", 2, 3), ("quality", 1, 2)]


def test_references_subjects_and_pairs_are_counted(tmp_path):
    counted = tally(Dataset.open(records.write(tmp_path / "set")))
    assert counted.references == {("object", "regular"): 4, ("object", "cross_clip"): 2}
    assert counted.subjects == {2: 2}
    assert counted.entities == 3  # the fox is one in both clips
    assert sorted(counted.pairs) == ["a far", "b far"]
    assert sorted(counted.measured("sharpness")) == [3.0, 80.0, 110.0]


def test_a_lot_draws_the_same_in_any_order_and_others_with_another_seed():
    keys = [f"k{n}" for n in range(200)]

    def drawn(order, seed):
        lot = Lot(5, seed)
        for key in order:
            lot.add(key)
        return lot.drawn()

    shuffled = random.Random(1).sample(keys, len(keys))
    assert drawn(keys, 0) == drawn(shuffled, 0) != drawn(keys, 1)
    assert len(set(drawn(keys, 0))) == 5
