"""How the video moves: numbers from its grey thumbs, without models."""

# Axes: T frames, y x pixels of the thumbs (longer side 160), b blocks

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.data.looks import stillness
from anyref.data.motion import FARNEBACK, motion_amplitude
from anyref.evaluation.benchmark import Case
from anyref.evaluation.metric import Footage, MetricSpec, Need, Outcome, Score, Skipped
from anyref.evaluation.metrics.base import PixelMetric, evenly, rate, rounded, thumbs
from anyref.media import open_reference_pictures
from anyref.perception.runtimes import opencv

MAX_SPEED = 1.0  # widths of the picture per second; more counts as so much
SMOOTH_FRAMES = 24  # middles at most, evenly spaced
MOVES = 8  # levels of grey by which a pixel changes where something moves
MIN_CONTRAST = 4.0  # levels of grey; less is a plain picture
BLOCKS = (8, 5)  # columns and rows in which flicker is measured
HEAD = 8  # frames that may be a flash
CHANGED = 30  # of 255 levels of a channel by which a pixel is another
USUAL = 90  # percentile of later changes that a jump has to be over
FLASH_SIDE = 64  # pixels of the longer side of frames in which references are looked for
FLASH_SCALES = (1.0, 0.71, 0.5, 0.35, 0.25)  # of the largest size that fits the frame
LATER = 4  # frames after the head that are searched
STILL = Skipped("the video is a single frame", "undetected")
SHORT = Skipped("the video has fewer than 3 frames", "undetected")
VIDEO: frozenset[Need] = frozenset({"video"})


class MotionAmplitude(PixelMetric):
    """Mean speed of all pixels in widths of the picture per second, 1 at most.

    `anyref.data.motion.motion_amplitude`: Farneback's flow eight times a second. It says how much
    moves, not whether that is wanted; a camera that moves counts as well.
    """

    said = MetricSpec(
        name="motion_amplitude",
        about="How fast the picture moves, in its widths per second.",
        direction="higher",
        low=0,
        high=1,
        needs=VIDEO,
        grade="exact",
    )

    def score(self, case: Case, footage: Footage) -> Outcome:  # noqa: ARG002 - of the contract
        """The value."""
        if len(footage.frames) < 2:
            return STILL
        speed = motion_amplitude(thumbs(footage), rate(footage))
        return Score(min(speed, MAX_SPEED), {"widths_per_second": round(speed, 6)})


class MotionSmoothness(PixelMetric):
    """How well frames are the middle of their neighbours where something moves, 0 to 1.

    Each frame is made from the one before and the one after, each moved half way by the flow
    between them. Over all pixels and frames where two of the three differ by over 8 levels,

        1 - sum of |frame - made| / sum of (|frame - before| + |after - frame|) / 2

    and 0 where negative, 1 for a video in which nothing moves. VBench divides the error by 255
    (with AMT-S for the flow), so that little motion is smooth motion; dividing by the change makes
    slow and fast, plain and rich videos equal (ours). Motion that repeats every second frame has 0.
    """

    said = MetricSpec(
        name="motion_smoothness",
        about="How well each frame is the middle of the two around it, where something moves.",
        direction="higher",
        low=0,
        high=1,
        needs=VIDEO,
        grade="exact",
        version=2,
    )

    def score(self, case: Case, footage: Footage) -> Outcome:  # noqa: ARG002 - of the contract
        """The value, and the parts of the frames looked at in which something moves."""
        grey = thumbs(footage)
        if len(grey) < 3:
            return SHORT
        middles = 1 + evenly(len(grey) - 2, SMOOTH_FRAMES)
        with opencv(1) as cv2:
            found = [roughness(cv2, *grey[t - 1 : t + 2]) for t in middles.tolist()]
        errors, changes, moving = np.array(found).T  # (K,)
        value = 1 - errors.sum() / changes.sum() if changes.sum() > 0 else 1.0
        return Score(max(0.0, float(value)), {"moving": rounded(moving)})


class FrozenFrames(PixelMetric):
    """What part of the frames repeats the one before (mean change below 0.1 levels of grey)."""

    said = MetricSpec(
        name="frozen_frames",
        about="What part of the frames repeats the one before.",
        direction="lower",
        low=0,
        high=1,
        needs=VIDEO,
        grade="exact",
    )

    def score(self, case: Case, footage: Footage) -> Outcome:  # noqa: ARG002 - of the contract
        """The value; 1 for a single frame."""
        return Score(stillness(thumbs(footage)))


class Flicker(PixelMetric):
    """How much brightness goes up and down from frame to frame, in parts of full brightness.

    The picture is averaged in 8 x 5 blocks, which hides most of what moves, and
    mean |b[t] - (b[t-1] + b[t+1]) / 2| / 255 is taken over frames and blocks: 0 for a fade at even
    speed. (Ours. VBench's temporal flickering is the plain change, which motion raises as well.)
    """

    said = MetricSpec(
        name="flicker",
        about="How much brightness goes up and down from frame to frame.",
        direction="lower",
        low=0,
        high=1,
        needs=VIDEO,
        grade="exact",
    )

    def score(self, case: Case, footage: Footage) -> Outcome:  # noqa: ARG002 - of the contract
        """The value."""
        grey = thumbs(footage)
        if len(grey) < 3:
            return SHORT
        with opencv(1) as cv2:
            blocks = np.stack(
                [
                    cv2.resize(f.astype(np.float32), BLOCKS, interpolation=cv2.INTER_AREA)
                    for f in grey
                ]
            )  # (T, b, b)
        bend = blocks[1:-1] - (blocks[:-2] + blocks[2:]) / 2
        return Score(float(np.abs(bend).mean() / 255))


class FirstFrameFlash(PixelMetric):
    """Whether the first frames show the references themselves and the video jumps after them.

    The jump: the part of the picture that changes by over 30 levels between two of the first
    frames (8, or a third of the video), less the 90th percentile of such changes later, in parts of
    what is over that. The resemblance: how much better references as a whole are found in the frame
    before the jump than later (correlation at several sizes, mean over references), 0 to 1. The
    value is jump x (1 + resemblance) / 2: a jump alone is half the fault. (Ours.)
    """

    said = MetricSpec(
        name="first_frame_flash",
        about="Whether the first frames show the references, then jump to the video.",
        direction="lower",
        low=0,
        high=1,
        needs=frozenset({"video", "references"}),
        grade="exact",
    )

    def applies(self, case: Case) -> Skipped | None:
        """Cases with references apply."""
        if not case.kinds:
            return Skipped("the case has no references", "inapplicable")
        return super().applies(case)

    def score(self, case: Case, footage: Footage) -> Outcome:
        """The value, the jump, the number of frames before it, and the resemblance."""
        count = len(footage.frames)
        head = min(HEAD, count // 3)
        if head < 1:
            return SHORT
        changes = changed_parts(footage)  # (T - 1,)
        usual = float(np.percentile(changes[head:], USUAL))
        at = int(changes[:head].argmax())
        jump = max(0.0, float(changes[at]) - usual) / max(1 - usual, 1e-6)
        resemblance = self._resemblance(case, footage, at, head) if jump else 0.0
        details = {
            "jump": round(jump, 6),
            "frames": at + 1 if jump else 0,
            "resemblance": round(resemblance, 6),
        }
        return Score(min(1.0, jump) * (1 + resemblance) / 2, details)

    def _resemblance(self, case: Case, footage: Footage, at: int, head: int) -> float:
        assert case.request is not None
        later = head + evenly(len(footage.frames) - head, LATER)
        values = []
        with opencv(1) as cv2:
            before, *after = (_small(cv2, footage.frames[t]) for t in (at, *later.tolist()))
            for reference in case.request.references:
                pictures = [np.asarray(p) for p in open_reference_pictures(reference)]
                now = found_in(cv2, before, pictures)
                values.append(now - max(found_in(cv2, frame, pictures) for frame in after))
        return min(1.0, max(0.0, float(np.mean(values))))


def roughness(
    cv2: Any, before: NDArray[np.uint8], middle: NDArray[np.uint8], after: NDArray[np.uint8]
) -> tuple[float, float, float]:
    """Of what moves: error of a frame (y, x) made from its neighbours, its change, and its share.

    Error and change are sums over pixels of levels of grey.
    """
    flow = cv2.calcOpticalFlowFarneback(before, after, None, *FARNEBACK)  # (y, x, 2)
    y, x = np.indices(before.shape, np.float32)
    halves = [
        cv2.remap(
            frame.astype(np.float32),
            x + way * flow[..., 0],
            y + way * flow[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for frame, way in ((before, np.float32(-0.5)), (after, np.float32(0.5)))
    ]
    error = np.abs((halves[0] + halves[1]) / 2 - middle)
    steps = [cv2.absdiff(one, two) for one, two in ((before, middle), (middle, after))]
    moves = np.maximum.reduce([*steps, cv2.absdiff(before, after)]) > MOVES
    change = (steps[0][moves].astype(np.float32) + steps[1][moves]) / 2
    return float(error[moves].sum()), float(change.sum()), float(moves.mean())


def changed_parts(footage: Footage) -> NDArray[np.float64]:
    """What part of the picture changes from each frame to the next, 0 to 1: (T - 1,)."""
    with opencv(1) as cv2:
        frames = [_small(cv2, frame) for frame in footage.frames]
        return np.array(
            [
                float((cv2.absdiff(one, two).max(-1) > CHANGED).mean())
                for one, two in pairwise(frames)
            ]
        )


def found_in(cv2: Any, frame: NDArray[np.uint8], pictures: Sequence[NDArray[np.uint8]]) -> float:
    """How well the best of some pictures is found in a small frame, whole, at any place: -1 to 1.

    Plain pictures are found nowhere.
    """
    best = -1.0
    height, width = frame.shape[:2]
    for picture in pictures:
        fits = min(height / picture.shape[0], width / picture.shape[1])
        for scale in FLASH_SCALES:
            rows, columns = (max(1, int(fits * scale * side)) for side in picture.shape[:2])
            small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
            if small.std() < MIN_CONTRAST:
                continue
            found = cv2.matchTemplate(frame, small, cv2.TM_CCOEFF_NORMED)
            best = max(best, float(np.nan_to_num(found, nan=-1, posinf=-1, neginf=-1).max()))
    return best


def _small(cv2: Any, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = FLASH_SIDE / max(frame.shape[:2])
    size = (max(1, round(scale * frame.shape[1])), max(1, round(scale * frame.shape[0])))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
