from __future__ import annotations

import numpy as np
import pytest

from anyref.errors import EvaluationError
from anyref.evaluation.profiles.opens2v_motion import motion_amplitude, signed_motion
from anyref.media import read_video


def shifting(step, num_frames=4):
    """Smoothed noise that moves by `step` pixels (x, y) per frame."""
    rng = np.random.default_rng(0)
    noise = np.kron(rng.integers(0, 255, (30, 30, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    frames = [np.roll(noise, (k * step[1], k * step[0]), (0, 1)) for k in range(num_frames)]
    return np.stack(frames)


def test_motion_is_signed_and_the_amplitude_is_not():
    right, left = (signed_motion(shifting((step, 0))) for step in (2, -2))
    assert right > 0.5 and left < -0.5
    assert motion_amplitude(shifting((-2, 0))) == -left


def test_opposite_directions_cancel():
    assert abs(signed_motion(shifting((2, -2)))) < 0.1
    assert signed_motion(np.zeros((2, 32, 32, 3), np.uint8)) == 0


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (2, 8, 200, 3)])
def test_what_has_no_flow_map_is_refused(shape):
    with pytest.raises(EvaluationError):
        signed_motion(np.zeros(shape, np.uint8))


@pytest.mark.slow
def test_the_published_clip_has_its_published_amplitude(opens2v):
    frames, fps = read_video(opens2v / "results" / "faceobj_14.mp4")
    assert (frames.shape, fps) == ((69, 480, 832, 3), 15)
    assert motion_amplitude(frames) == pytest.approx(0.35025984048843384, abs=1e-7)
