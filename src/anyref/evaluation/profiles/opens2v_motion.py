"""OpenS2V-Eval's motion amplitude: Farneback flow of all frames at their own size.

As get_motion_amplitude.py computes it, with what the published figures depend on: greys weighted
blue for red, and a signed mean in which opposite motions cancel.
"""

# Axes: T frames, Y X pixels, 2 right and down

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anyref.errors import EvaluationError

COARSE = 16  # width of a flow map after scaling


def signed_motion(frames: NDArray[np.uint8]) -> float:
    """Mean flow of a video in pixels per frame, over time, place and both directions.

    Args:
        frames: uint8 (T, Y, X, 3), RGB, T at least 2.

    Raises:
        EvaluationError: for fewer than 2 frames, or frames over 16 times as wide as high.
    """
    import cv2

    if len(frames) < 2:
        raise EvaluationError(f"{len(frames)} frames have no motion; 2 or more are needed")
    rows = int(frames.shape[1] * (COARSE / frames.shape[2]))
    if rows < 1:
        raise EvaluationError(
            f"frames of {frames.shape[2]}x{frames.shape[1]} are over {COARSE} times as wide as "
            "high; crop them"
        )
    maps = []
    before = cv2.cvtColor(frames[0], cv2.COLOR_BGR2GRAY)  # of RGB: the benchmark's own mistake
    for frame in frames[1:]:
        after = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        flow = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        maps.append(cv2.resize(flow, (COARSE, rows), interpolation=cv2.INTER_AREA))
        before = after
    return float(np.stack(maps).mean(axis=0).mean())  # in float32, as published


def motion_amplitude(frames: NDArray[np.uint8]) -> float:
    """`motion_fb`: `signed_motion` without its sign."""
    return abs(signed_motion(frames))
