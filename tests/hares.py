"""A red hare with an ear that hops over a meadow, for the tests of masks."""

from __future__ import annotations

import cv2
import numpy as np

HEIGHT, WIDTH, COUNT = 180, 320, 8
BODY, EAR = (60, 50), (24, 10)  # rows and columns
RED = (200, 40, 40)


def meadow(seed=0, width=WIDTH):
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 120, (HEIGHT // 6, width // 6), np.uint8)
    green = cv2.resize(rough, (width, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.dstack([green // 3, green + 60, green // 4])


def hops(number):
    """Top and left of the body in a frame."""
    return 90, 20 + 30 * number


def with_hare(ground, number, ear=True):
    frame = ground.copy()
    top, left = hops(number)
    frame[top : top + BODY[0], left : left + BODY[1]] = RED
    if ear:
        frame[top - EAR[0] : top, left + 8 : left + 8 + EAR[1]] = RED
    return frame


def mask_of(number, ear=True):
    return with_hare(np.zeros((HEIGHT, WIDTH, 3), np.uint8), number, ear).any(-1)


def walk(grounds):
    return np.stack([with_hare(ground, k) for k, ground in enumerate(grounds)])


def nothing():
    return np.zeros((HEIGHT, WIDTH), bool)
