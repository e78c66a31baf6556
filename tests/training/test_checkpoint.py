from __future__ import annotations

import pytest
import torch

from anyref.errors import TrainingError
from anyref.training import checkpoint


def tensors(value):
    return {"model": {"w": torch.full((4,), float(value))}}


def test_the_newest_whole_checkpoint_is_found_and_half_ones_are_not(tmp_path):
    for step in (9, 10, 100):
        checkpoint.save(tmp_path, step, tensors(step), {"step": step}, keep=5)
    (tmp_path / "step-00000200").mkdir()  # a kill while an old one was being removed
    (tmp_path / "partial-00000300").mkdir()
    assert checkpoint.newest(tmp_path).name == "step-00000100"
    found = tensors(0)
    notes = checkpoint.load(checkpoint.newest(tmp_path), found)
    assert notes == {"step": 100}
    assert found["model"]["w"].tolist() == [100.0] * 4


def test_only_the_newest_few_are_kept(tmp_path):
    for step in range(5):
        checkpoint.save(tmp_path, step, tensors(step), {}, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_nothing_is_found_where_nothing_was_saved(tmp_path):
    assert checkpoint.newest(tmp_path / "absent") is None


def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path):
    path = checkpoint.save(tmp_path, 1, tensors(1), {}, keep=2)
    for file in path.glob("*.distcp"):
        file.write_bytes(b"")
    with pytest.raises(TrainingError, match=r"step-00000001.*does not load.*remove it"):
        checkpoint.load(path, tensors(0))


def test_another_model_s_checkpoint_is_refused(tmp_path):
    path = checkpoint.save(tmp_path, 1, tensors(1), {}, keep=2)
    with pytest.raises(TrainingError, match="does not load"):
        checkpoint.load(path, {"model": {"other": torch.zeros(4)}})
