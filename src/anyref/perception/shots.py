"""Cuts: PySceneDetect's adaptive detector, fed with frames.

Axes: T frames, Y X pixels
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from anyref.errors import PerceptionError
from anyref.perception.contracts import ModelCard, Picture, Shot, check_pictures
from anyref.perception.runtimes import opencv, require

WIDTH = 256  # of the frames that are compared, as PySceneDetect's own reader shrinks them


class AdaptiveShots:
    """PySceneDetect's AdaptiveDetector: a cut where a frame's change stands out of its neighbours'.

    Measured on Big Buck Bunny: 128 shots. Dissolves and fades are not found.

    Args:
        threads: how many threads OpenCV may use.
        threshold: how many times its neighbours' mean change a cut's change is.
        min_change: mean change of hue, saturation and value (0 to 255) below which is no cut.
        min_frames: shortest shot.
    """

    def __init__(
        self,
        threads: int = 1,
        threshold: float = 3.0,
        min_change: float = 15.0,
        min_frames: int = 15,
    ) -> None:
        self.threads = threads
        self.threshold = threshold
        self.min_change = min_change
        self.min_frames = min_frames

    @property
    def card(self) -> ModelCard:
        """The algorithm and its version. Raises PerceptionError when it is not installed."""
        return ModelCard(
            name="pyscenedetect-adaptive",
            version=str(require("scenedetect").__version__),
            sha256="",
            licence="BSD-3-Clause",
        )

    def split(self, videos: Sequence[Iterable[Picture]], fps: float) -> list[tuple[Shot, ...]]:
        """The shots of each video, in order; together they cover every frame once.

        A video without frames has no shots.

        Raises:
            PerceptionError: for fps that are not positive, or frames that are not uint8 RGB arrays.
        """
        if fps <= 0:
            raise PerceptionError(
                f"fps is {fps:g}, not above 0; give the video's frames per second"
            )
        with opencv(self.threads) as cv2:
            return [self._split_one(cv2, frames, fps) for frames in videos]

    def _split_one(self, cv2: Any, frames: Iterable[Picture], fps: float) -> tuple[Shot, ...]:
        scenedetect = require("scenedetect")
        detector = scenedetect.AdaptiveDetector(
            adaptive_threshold=self.threshold,
            min_content_val=self.min_change,
            min_scene_len=self.min_frames,
        )
        cuts, count = [], 0
        for count, frame in enumerate(frames, start=1):
            check_pictures([frame])
            code = scenedetect.FrameTimecode(count - 1, fps=float(fps))
            found = detector.process_frame(code, _shrunk(cv2, frame))
            cuts += [cut.frame_num for cut in found]
        if not count:
            return ()
        edges = [0, *sorted(set(cuts) - {0}), count]
        return tuple(Shot(start, end) for start, end in pairwise(edges))


def _shrunk(cv2: Any, frame: Picture) -> Picture:
    bgr = np.ascontiguousarray(frame[..., ::-1])
    height, width = frame.shape[:2]
    if width <= WIDTH:
        return bgr
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    return np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_LINEAR), np.uint8)
