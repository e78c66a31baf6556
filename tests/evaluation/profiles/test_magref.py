from __future__ import annotations

import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.metric import Score
from anyref.evaluation.profiles.magref import identity_frames, magref
from anyref.evaluation.profiles.profile import summarise
from anyref.evaluation.results import ScoreTable


def test_the_total_of_scores_is_the_plain_mean_with_aesthetics_scaled():
    values = {"id_sim": 0.6, "aesthetic": 5.5, "motion": 0.9, "gme_score": 0.7}
    table = ScoreTable({name: {("a", 0): Score(value)} for name, value in values.items()})
    assert summarise(magref("single-id"), table).total == pytest.approx((0.6 + 0.5 + 0.9 + 0.7) / 4)
    assert summarise(magref("multi-subject"), table).total is None


def test_faces_are_compared_in_every_16th_frame():
    assert identity_frames(81) == [0, 16, 32, 48, 64, 80]
    assert identity_frames(1) == [0]
    with pytest.raises(EvaluationError):
        identity_frames(0)
