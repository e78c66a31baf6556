"""How much a clip moves, and whether it jumps: numbers from its thumbs.

Axes: N frames, y x pixels of the thumbs, B blocks, L levels
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.perception.runtimes import opencv

Thumbs = NDArray[np.uint8]  # (N, y, x), grey
Array = NDArray[np.float32]

# pyramid scale, levels, window, iterations, neighbourhood, its deviation, flags: those with which
# OpenS2V-Eval calls Farneback's method (get_motion_amplitude.py)
FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)
MOTION_RATE = 8.0  # frames per second between which the flow is taken
BLOCKS, LEVELS = 4, 16  # blocks each way, levels of grey
CANDIDATES = 2  # pairs of frames that may be a cut and are looked at closely
LIVELY = 2.0  # levels of grey; smaller changes are not worth explaining


def motion_amplitude(thumbs: Thumbs, fps: float) -> float:
    """Mean speed of all pixels, in widths of the picture per second; 0 for a still clip.

    Farneback's flow with OpenS2V-Eval's settings, but on thumbs, and the mean of lengths where its
    MotionAmplitude is the mean of signed pixels of the whole picture, in which opposite motions
    cancel and large pictures score higher. Flow is taken eight times a second.
    """
    step = max(1, round(fps / MOTION_RATE))
    picked = thumbs[::step]
    if len(picked) < 2:
        return 0.0
    with opencv(1) as cv2:
        speeds = [
            np.hypot(*np.moveaxis(_flow(cv2, one, two), -1, 0)).mean()
            for one, two in pairwise(picked)
        ]
    return float(np.mean(speeds)) / thumbs.shape[2] * fps / step


def cut_inside(thumbs: Thumbs) -> float:
    """How much the sharpest jump looks like a hard cut: 0 to 1, where a cut is about 0.2 or more.

    The change of grey histograms (16 blocks, 16 levels; half the L1 distance, mean of blocks) from
    one frame to the next, less the larger of the changes before and after, so that fast motion and
    flashes do not count; times the part of the change of pixels that optical flow does not explain.
    """
    if len(thumbs) < 2:
        return 0.0
    change = histogram_change(thumbs)  # (N - 1,)
    padded = np.pad(change, 1)
    spikes = change - np.maximum(padded[:-2], padded[2:])
    places = np.argsort(-spikes, kind="stable")[:CANDIDATES]
    with opencv(1) as cv2:
        scores = [
            float(spikes[place]) * _unexplained(cv2, thumbs[place], thumbs[place + 1])
            for place in places.tolist()
            if spikes[place] > 0
        ]
    return max(scores, default=0.0)


def histogram_change(thumbs: Thumbs) -> Array:
    """Half the L1 distance of successive frames' grey histograms, mean of blocks: (N - 1,)."""
    number, height, width = thumbs.shape
    rows = np.arange(height) * BLOCKS // height
    columns = np.arange(width) * BLOCKS // width
    block = rows[:, None] * BLOCKS + columns  # (y, x)
    bins = BLOCKS * BLOCKS * LEVELS
    cells = block * LEVELS + thumbs // (256 // LEVELS)  # (N, y, x)
    cells = cells + (np.arange(number) * bins)[:, None, None]
    counts = np.bincount(cells.ravel(), minlength=number * bins)
    counts = counts.reshape(number, BLOCKS * BLOCKS, LEVELS)  # (N, B, L)
    shares = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    return np.abs(np.diff(shares, axis=0)).sum(-1).mean(-1).astype(np.float32) / 2


def _flow(cv2: Any, one: Thumbs, two: Thumbs) -> Array:
    """Where each pixel of a frame goes in the next: (y, x, 2), pixels."""
    return np.asarray(cv2.calcOpticalFlowFarneback(one, two, None, *FARNEBACK), np.float32)


def _unexplained(cv2: Any, one: Thumbs, two: Thumbs) -> float:
    """What is left of the difference of two frames (y, x) when the flow is undone: 0 to 1."""
    before = float(np.abs(one.astype(np.int16) - two).mean())
    if before < LIVELY:
        return 0.0
    y, x = np.indices(one.shape, np.float32)
    flow = _flow(cv2, one, two)
    moved = cv2.remap(
        two, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return min(1.0, float(np.abs(one.astype(np.int16) - moved).mean()) / before)
