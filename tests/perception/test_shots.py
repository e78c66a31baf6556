from __future__ import annotations

import numpy as np
import pytest

from anyref.errors import PerceptionError
from anyref.perception.contracts import Shot
from anyref.perception.shots import AdaptiveShots

pytest.importorskip("scenedetect")


def scene(seed, length, size=(36, 64)):
    """A still scene of large patches with a little noise."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (4, 8, 3)).repeat(size[0] // 4, 0).repeat(size[1] // 8, 1)
    for _ in range(length):
        yield (patches + rng.normal(0, 2, patches.shape)).clip(0, 255).astype(np.uint8)


def film(*lengths, size=(36, 64)):
    for seed, length in enumerate(lengths):
        yield from scene(seed, length, size)


def test_cuts_are_where_the_scene_changes():
    (shots,) = AdaptiveShots().split([film(30, 25, 40)], fps=24)
    assert shots == (Shot(0, 30), Shot(30, 55), Shot(55, 95))


def test_each_video_is_split_on_its_own():
    shots = AdaptiveShots().split([film(30), film(20, 20), iter(())], fps=24)
    assert shots == [(Shot(0, 30),), (Shot(0, 20), Shot(20, 40)), ()]


def test_a_large_video_is_split_alike():
    (shots,) = AdaptiveShots().split([film(20, 20, size=(180, 320))], fps=24)
    assert shots == (Shot(0, 20), Shot(20, 40))


def test_a_flash_shorter_than_the_shortest_shot_makes_no_shot_of_its_own():
    (shots,) = AdaptiveShots().split([film(30, 3, 30)], fps=24)
    assert all(shot.end - shot.start >= 15 for shot in shots)


def test_fps_must_be_positive():
    with pytest.raises(PerceptionError, match="fps is 0, not above 0"):
        AdaptiveShots().split([film(2)], fps=0)


def test_the_card_names_algorithm_and_version():
    card = AdaptiveShots().card
    assert card.name == "pyscenedetect-adaptive"
    assert card.version
    assert card.sha256 == ""
