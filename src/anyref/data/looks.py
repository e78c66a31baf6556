"""How a clip looks: numbers from its pixels that need no model.

Axes: K sampled frames, N frames, Y X pixels, y x pixels of the thumbs
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.data.shots import bar_lines, bright_lines, common_edges
from anyref.media import fit
from anyref.perception.runtimes import opencv

Frames = NDArray[np.uint8]  # (K, Y, X, 3), RGB
Greys = NDArray[np.uint8]  # (N, y, x)

DARK = 0.06  # mean brightness under which a frame is dark
STILL = 0.1  # levels of grey; a mean change below is none
SHARP_SIDE = 512  # long side of frames whose sharpness is compared
EDGES = 0.02  # part of a frame that its strongest edges are
SHARPEST = 10  # percent of them by which a frame's blur is told
NOISE, AGAIN = 0.7, 1.5  # deviations, pixels: what edges are cleaned of noise with; blurred again
MAX_BLUR = 15.0  # pixels; more cannot be told
BORDER = 4  # pixels at a frame's border that are no edges
MARK_SIDE = 320  # long side of frames that are searched for a watermark
MARK_EDGE = 6.0  # levels of grey per pixel; weaker edges do not count
MARK_CHANGE = (
    5.0  # levels of grey; a scene changes whose frames are mostly this far from the median
)
MARK_JOIN, MARK_RING = 5, 9  # pixels: edges nearer than this are one mark; what is around it
MARK_SURROUNDED = 0.8  # part of the ring that changes
MARK_SIZES = (1e-3, 0.1)  # of the frame, of a mark's box
MARK_OF_FILM = 0.5  # of a mark's edges that the film has in its other shots too
MAX_MARKS = 64  # candidates looked at, largest first


def black_bars(thumbs: Greys) -> tuple[float, Greys]:
    """What part of the frame is black bars in all frames (0 to 1), and the thumbs without them."""
    brightest = thumbs.max(0)  # (y, x)
    top = bar_lines(bright_lines(brightest))
    left = bar_lines(bright_lines(brightest.T))
    height, width = brightest.shape
    inside = thumbs[:, top : height - top, left : width - left]
    return 1 - inside[0].size / brightest.size, inside


def brightness(thumbs: Greys) -> tuple[float, float]:
    """Median of the frames' mean brightness (0 to 1), and what part of the frames is dark."""
    levels = thumbs.mean((1, 2)) / 255  # (N,)
    return float(np.median(levels)), float((levels < DARK).mean())


def stillness(thumbs: Greys) -> float:
    """What part of the frames is the one before again, 0 to 1; 1 for a still picture."""
    if len(thumbs) < 2:
        return 1.0
    change = np.abs(np.diff(thumbs.astype(np.int16), axis=0)).mean((1, 2))  # (N - 1,)
    return float((change < STILL).mean())


def sharpness(frames: Frames) -> float:
    """Median over frames of the variance of the Laplacian, at a long side of 512 pixels.

    After Pech-Pacheco et al. 2000. Levels are 0 to 255. A frame below that size is enlarged and so
    counts as blurred.
    """
    scores = []
    with opencv(1) as cv2:
        for grey in _greys(cv2, frames, SHARP_SIDE):
            scores.append(float(cv2.Laplacian(grey, cv2.CV_32F).var()))
    return float(np.median(scores))


def blur(frames: Frames) -> float:
    """How blurred the sharpest of the strong edges are: a Gaussian's deviation in pixels.

    At a long side of 512 pixels, median of the frames. An edge that is blurred again by a known
    deviation loses the less of its gradient the more blurred it was (Zhuo and Sim
    2011), so that, other than `sharpness`, this does not depend on how much there is to see: fog
    with a sharp bird is sharp. A sharp picture has about 1, of which 0.7 are the noise filter's.
    """
    widths = edge_widths(frames)
    return float(np.median([MAX_BLUR if width is None else width for width in widths]))


def edge_widths(frames: Frames) -> list[float | None]:
    """The blur of each frame; None for one that has no edge, being plain or a few pixels narrow."""
    with opencv(1) as cv2:
        return [
            _edge_width(cv2, grey.astype(np.float32)) for grey in _greys(cv2, frames, SHARP_SIDE)
        ]


def _edge_width(cv2: Any, grey: NDArray[np.float32]) -> float | None:
    clean = cv2.GaussianBlur(grey, (0, 0), NOISE)
    once, twice = (
        cv2.magnitude(cv2.Sobel(some, cv2.CV_32F, 1, 0), cv2.Sobel(some, cv2.CV_32F, 0, 1))
        for some in (clean, cv2.GaussianBlur(clean, (0, 0), AGAIN))
    )
    inside = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    once, twice = once[inside], twice[inside]
    if not twice.size:
        return None
    strong = twice >= max(float(np.quantile(twice, 1 - EDGES)), 1e-3)
    if not strong.any():
        return None
    lost = (once[strong] / twice[strong]) ** 2 - 1
    widths = AGAIN / np.sqrt(np.maximum(lost, (AGAIN / MAX_BLUR) ** 2))
    return float(np.percentile(widths, SHARPEST))


def watermark_edges(frames: Frames, stays: NDArray[np.bool_] | None = None) -> float:
    """What part of the frame a mark covers whose edges stay while the scene around changes, 0 to 1.

    An edge stays when every frame has it at the same pixel in the same direction, see
    `anyref.data.shots.common_edges`. Edges near each other are one mark; it counts when what is
    around it changes most of the time. So a mark is not seen over a scene that stands still, and
    neither is what stands there taken for a mark. A rock in waving grass would be; it does not stay
    through the cuts of a film.

    Args:
        stays: where an edge stays through the cuts of the film, bool (Y, X) of this clip's picture
            at any size; None for a film of few shots.
    """
    with opencv(1) as cv2:
        greys = np.stack(_greys(cv2, frames, MARK_SIDE)).astype(np.float32)  # (K, y, x)
        edges = (common_edges(greys).min(0) > MARK_EDGE).astype(np.uint8)  # (y, x)
        edges[[0, -1]] = edges[:, [0, -1]] = 0
        if len(greys) < 3 or not edges.any():
            return 0.0
        apart = np.median(np.abs(greys - np.median(greys, 0)), 0)  # (y, x)
        changing = (apart > MARK_CHANGE).astype(np.uint8)
        spots = cv2.dilate(edges, np.ones((MARK_JOIN, MARK_JOIN), np.uint8))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(spots)
        if stays is not None:
            size = (edges.shape[1], edges.shape[0])
            film = cv2.resize(stays.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
            spread = np.bincount(labels[edges > 0], minlength=count)
            common = np.bincount(labels[(edges > 0) & film], minlength=count)
            stats[common < MARK_OF_FILM * spread] = 0
        found = _marks(cv2, labels, stats[:count], changing)
    return min(1.0, found / changing.size)


def _marks(
    cv2: Any, labels: NDArray[np.int32], stats: NDArray[np.int32], changing: NDArray[np.uint8]
) -> int:
    """Pixels in the boxes of those spots that have a changing scene around them."""
    total = 0
    height, width = changing.shape
    ring = np.ones((MARK_RING, MARK_RING), np.uint8)
    largest = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")[:MAX_MARKS]
    for label in largest.tolist():
        left, top, columns, rows = stats[label, :4].tolist()
        if not MARK_SIZES[0] <= columns * rows / changing.size <= MARK_SIZES[1]:
            continue
        area = (
            slice(max(0, top - MARK_RING), min(height, top + rows + MARK_RING)),
            slice(max(0, left - MARK_RING), min(width, left + columns + MARK_RING)),
        )
        spot = (labels[area] == label).astype(np.uint8)
        around = (cv2.dilate(spot, ring) > 0) & (spot == 0)
        if around.any() and changing[area][around].mean() >= MARK_SURROUNDED:
            total += columns * rows
    return total


def _greys(cv2: Any, frames: Frames, side: int) -> list[Greys]:
    size = fit(frames.shape[2], frames.shape[1], side, side)
    smaller = size[0] <= frames.shape[2]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return [
        cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size, interpolation=how)
        for frame in frames
    ]
