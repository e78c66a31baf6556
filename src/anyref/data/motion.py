"""How much a clip moves, and whether it jumps: numbers from its thumbs.

Axes: N frames, y x pixels of the thumbs
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
CANDIDATES = 2  # pairs of frames that may be a cut and are looked at closely
CUT_WINDOW = 9  # pixels: changes are means of windows of this side
CUT_LEVEL = 6.0  # levels of grey by which a change has to be over those before and after
CUT_TIMES = 2.5  # what those count for; motion grows and falls from frame to frame
CUT_REACH = 31  # pixels: the side of the window in which they are looked for
CUT_NEAR = 2  # pairs of frames before and after
MAX_WAY = 12.0  # pixels from one frame to the next; flow that is longer explains nothing


def motion_amplitude(thumbs: Thumbs, fps: float) -> float:
    """Mean speed of all pixels, in widths of the picture per second; 0 for a still clip.

    Farneback's flow with OpenS2V-Eval's settings, but on thumbs, and the mean of lengths where its
    MotionAmplitude is the mean of signed pixels of the whole picture, in which opposite motions
    cancel and large pictures score higher. Flow is taken eight times a second, and once from end to
    end of a clip that is shorter than that.
    """
    step = max(1, min(round(fps / MOTION_RATE), len(thumbs) - 1))
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
    """What part of the picture jumps at the sharpest jump: 0 to 1, 1 where all is new.

    A place jumps when it changes from one frame to the next by more than optical flow explains, and
    by far more than its surroundings do in the two pairs of frames before and after. So fast
    motion, flashes, fades and a frame rate that was changed do not count, and a subject that is
    suddenly elsewhere does, however large the rest that stays. A cut is about 0.1 or more. The
    first and the last pair are not judged, for nothing tells there what fast motion is.
    """
    if len(thumbs) < 4:
        return 0.0
    with opencv(1) as cv2:
        changes = [_smooth(cv2, cv2.absdiff(one, two)) for one, two in pairwise(thumbs)]
        parts = [
            float((change - np.max(near, 0, initial=0) > CUT_LEVEL).mean())
            for change, near in zip(changes, _neighbours(changes), strict=True)
        ]
        inner = range(1, len(parts) - 1)
        places = sorted(inner, key=lambda place: -parts[place])[:CANDIDATES]
        return max(_jump(cv2, thumbs, place) if parts[place] else 0.0 for place in places)


def _jump(cv2: Any, thumbs: Thumbs, place: int) -> float:
    """The part of the picture that jumps between a frame and the next."""
    first = max(0, place - CUT_NEAR)
    pairs = list(pairwise(thumbs[first : place + CUT_NEAR + 2]))
    left = [_unexplained(cv2, one, two) for one, two in pairs]
    near = [*left[: place - first], *left[place - first + 1 :]]
    return float((left[place - first] - CUT_TIMES * _most(cv2, near) > CUT_LEVEL).mean())


def _neighbours(changes: Sequence[Array]) -> Iterator[list[Array]]:
    """For each the two before and the two after, as far as there are."""
    for place in range(len(changes)):
        before = changes[max(0, place - CUT_NEAR) : place]
        yield [*before, *changes[place + 1 : place + 1 + CUT_NEAR]]


def _most(cv2: Any, changes: Sequence[Array]) -> Array:
    """The largest of some changes around each place, (y, x); 0 for none."""
    if not changes:
        return np.zeros((), np.float32)
    reach = np.ones((CUT_REACH, CUT_REACH), np.uint8)
    return np.asarray(cv2.dilate(np.max(changes, 0), reach), np.float32)


def _smooth(cv2: Any, change: Thumbs | Array) -> Array:
    return np.asarray(cv2.blur(change.astype(np.float32), (CUT_WINDOW, CUT_WINDOW)), np.float32)


def _unexplained(cv2: Any, one: Thumbs, two: Thumbs) -> Array:
    """What is left of the change of two frames when the flow is undone: (y, x), levels of grey."""
    y, x = np.indices(one.shape, np.float32)
    flow = _flow(cv2, one, two)
    length = np.hypot(flow[..., 0], flow[..., 1])
    flow /= np.maximum(length / MAX_WAY, 1)[..., None]
    moved = cv2.remap(
        two, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return _smooth(cv2, np.minimum(cv2.absdiff(one, two), cv2.absdiff(one, moved)))


def _flow(cv2: Any, one: Thumbs, two: Thumbs) -> Array:
    """Where each pixel of a frame goes in the next: (y, x, 2), pixels."""
    return np.asarray(cv2.calcOpticalFlowFarneback(one, two, None, *FARNEBACK), np.float32)
