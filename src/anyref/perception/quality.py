"""Picture quality without a reference picture: BRISQUE.

Axes: Y X pixels, V support vectors, 36 features
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from anyref.errors import PerceptionError
from anyref.perception.contracts import Picture, check_pictures
from anyref.perception.runtimes import SmallModel, opencv

Array = NDArray[np.float64]

GREY = (0.2125, 0.7154, 0.0721)  # of linear ITU-R BT.709, with which the model was fitted
WINDOW, DEVIATION = 7, 7 / 6  # of the Gaussian that measures local mean and contrast
NUM_FEATURES = 36
SHAPES = np.arange(0.2, 10.0, 0.001)  # exponents that the fit chooses from
MIN_SIDE = 16


@dataclass(frozen=True)
class SupportVectors:
    """A support vector regression with a Gaussian kernel, and the range of its inputs.

    Args:
        gamma, rho: of the kernel and the offset. weights: (V,). vectors: (V, 36).
        low, high: (36,), scaled to -1 and 1.
    """

    gamma: float
    rho: float
    weights: Array
    vectors: Array
    low: Array
    high: Array

    def predict(self, features: Array) -> float:
        """The value at unscaled features (36,)."""
        scaled = 2 * (features - self.low) / (self.high - self.low) - 1
        distances = ((self.vectors - scaled) ** 2).sum(1)  # (V,)
        return float(self.weights @ np.exp(-self.gamma * distances) - self.rho)


class Brisque(SmallModel):
    """BRISQUE (Mittal, Moorthy and Bovik 2012): about 10 for a clean photograph, 60 for a bad one.

    Fitted on blur, noise and compression of photographs. Plain areas, drawings and pictures of few
    pixels are outside what it knows; compare only pictures of one size.
    """

    source = "brisque"
    higher_is_better = False

    @cached_property
    def network(self) -> SupportVectors:
        """The published regression."""
        vectors, ranges = self.weights.files
        return read_support_vectors(vectors.read_text(), _read_ranges(ranges))

    def score(self, pictures: Sequence[Picture]) -> list[float]:
        """One number per picture, lower is better, mostly 0 to 100.

        Raises:
            PerceptionError: for anything but uint8 RGB arrays of 16 pixels each way or more, or
                weights that are not fetched.
        """
        check_pictures(pictures)
        for picture in pictures:
            if min(picture.shape[:2]) < MIN_SIDE:
                height, width = picture.shape[:2]
                raise PerceptionError(
                    f"a picture of {width}x{height} is below 16x16; give a larger one"
                )
        return [self.network.predict(natural_features(p, self.threads)) for p in pictures]


def natural_features(picture: Picture, threads: int = 1) -> Array:
    """BRISQUE's 36 features of a picture: 18 of the full size, 18 of half."""
    grey = picture @ np.array(GREY) / 255  # (Y, X)
    with opencv(threads) as cv2:
        half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
        return np.concatenate([_scale_features(cv2, plane) for plane in (grey, half)])


def _scale_features(cv2: Any, grey: Array) -> Array:
    """18 features of one size: fits of the normalised brightness and of four neighbour products."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    bell = np.exp(-(offsets**2) / (2 * DEVIATION**2))
    bell /= bell.sum()

    def blurred(plane: Array) -> Array:
        return cv2.sepFilter2D(plane, -1, bell, bell, borderType=cv2.BORDER_CONSTANT)

    mean = blurred(grey)
    contrast = np.sqrt(np.abs(blurred(grey**2) - mean**2))
    plain = (grey - mean) / (contrast + 1 / 255)  # (Y, X), section III of the paper
    shape, left, right = fit_asymmetric(plain)
    features = [shape, (left + right) / 2]
    for product in (
        plain[:, :-1] * plain[:, 1:],
        plain[:-1] * plain[1:],
        plain[:-1, :-1] * plain[1:, 1:],
        plain[1:, :-1] * plain[:-1, 1:],
    ):
        shape, left, right = fit_asymmetric(product)
        features += [shape, _mean_of(shape, left, right), left, right]
    return np.array(features)


def fit_asymmetric(values: Array) -> tuple[float, float, float]:
    """Exponent and left and right variance of an asymmetric generalised Gaussian.

    By moments, as Lasmar et al. 2009: the exponent is the one whose ratio of squared mean size to
    variance is that of the values.
    """
    below, above = values[values < 0], values[values >= 0]
    left = float((below**2).mean()) if below.size else 0.0
    right = float((above**2).mean()) if above.size else 0.0
    power = float((values**2).mean())
    if left <= 0 or right <= 0 or power <= 0:  # a plain area: the flattest shape there is
        return float(SHAPES[-1]), left, right
    skew = math.sqrt(left / right)
    ratio = float(np.abs(values).mean()) ** 2 / power
    ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    return float(SHAPES[np.abs(_RATIOS - ratio).argmin()]), left, right


def _mean_of(shape: float, left: float, right: float) -> float:
    """Mean of the fitted distribution (equation 16 of the paper)."""
    spread = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    size = math.gamma(2 / shape) / math.gamma(1 / shape)
    return (math.sqrt(right) - math.sqrt(left)) * spread * size


def _ratio_of(shape: float) -> float:
    """Squared mean size over variance of a generalised Gaussian with this exponent."""
    return math.exp(2 * math.lgamma(2 / shape) - math.lgamma(1 / shape) - math.lgamma(3 / shape))


_RATIOS = np.array([_ratio_of(shape) for shape in SHAPES.tolist()])


def read_support_vectors(text: str, ranges: tuple[Array, Array]) -> SupportVectors:
    """A regression in LIBSVM's text format.

    Raises:
        PerceptionError: for another kind of support vector machine, or a damaged text.
    """
    header, _, body = text.partition("\nSV\n")
    facts = dict(line.split(" ", 1) for line in header.splitlines())
    rows = [line.split() for line in body.splitlines() if line.strip()]
    kind = (facts.get("svm_type"), facts.get("kernel_type"), facts.get("total_sv"))
    if kind != ("epsilon_svr", "rbf", str(len(rows))):
        raise PerceptionError(
            f"the support vectors are {kind} with {len(rows)} rows, not a whole epsilon_svr with "
            "an rbf kernel; fetch them again with anyref.perception.sources.fetch(['brisque'])"
        )
    vectors = np.zeros((len(rows), NUM_FEATURES))
    for vector, (_, *pairs) in zip(vectors, rows, strict=True):
        for pair in pairs:
            place, _, value = pair.partition(":")
            vector[int(place) - 1] = float(value)
    return SupportVectors(
        gamma=float(facts["gamma"]),
        rho=float(facts["rho"]),
        weights=np.array([float(row[0]) for row in rows]),
        vectors=vectors,
        low=ranges[0],
        high=ranges[1],
    )


class _ListsOnly(pickle.Unpickler):
    """Reads plain lists, dicts and numbers; a pickle that names any code is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise PerceptionError(
            f"the pickle of BRISQUE's ranges names {module}.{name}; it should hold numbers only, "
            "do not use it"
        )


def _read_ranges(path: Path) -> tuple[Array, Array]:
    ranges = _ListsOnly(io.BytesIO(path.read_bytes())).load()
    return np.array(ranges["min_"], np.float64), np.array(ranges["max_"], np.float64)
