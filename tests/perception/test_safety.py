from __future__ import annotations

import numpy as np
import pytest

from anyref.perception.safety import OpenNsfw


def test_the_score_is_the_second_output_of_a_blue_first_picture():
    seen = []

    def network(inputs):
        seen.append(inputs["input:0"])
        return np.float32([[0.75, 0.25]])

    scorer = OpenNsfw()
    scorer.network = network
    picture = np.zeros((50, 70, 3), np.uint8)
    picture[..., 0] = 255
    assert scorer.score([picture]) == [0.25]
    assert seen[0].shape == (1, 224, 224, 3)
    assert seen[0][0, 0, 0].tolist() == [-104, -117, 132]


@pytest.mark.slow
def test_a_portrait_is_safe(fetched, photograph):
    fetched("open-nsfw")
    assert OpenNsfw().score([photograph("astronaut")])[0] == pytest.approx(0.017, abs=0.02)
