"""Faces: YuNet finds them, dlib's ResNet and MobileFaceNet say how alike two of them are.

Report the two similarities side by side, as OpenS2V-Eval does with its two. With small or hard
faces their ranges touch (the same person up to .53 apart by dlib, strangers down to .43): the
number counts, not a yes at the usual .6.

Axes: N faces, D features, Y X pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.errors import PerceptionError
from anyref.perception.contracts import (
    Box,
    Face,
    Features,
    Metric,
    Picture,
    check_pairs,
    check_pictures,
    unit,
)
from anyref.perception.runtimes import Network, SmallModel, load_litert, opencv, require

ALIGNED_SIDE = 112
# Where the five points of a face lie in ArcFace's 112 x 112 crops (Deng et al. 2019), x and y.
ALIGNED_LANDMARKS = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


class YuNet(SmallModel):
    """Face detector with five landmarks (Wu et al. 2023), through OpenCV.

    Args:
        min_score: faces below are left out.
        max_side: pictures with a longer side are shrunk to it first.
    """

    source = "yunet"

    def __init__(
        self, *args: Any, min_score: float = 0.6, max_side: int = 1280, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.min_score = min_score
        self.max_side = max_side

    @cached_property
    def network(self) -> Any:
        """cv2.FaceDetectorYN."""
        (path,) = self.weights.files
        return require("cv2").FaceDetectorYN.create(str(path), "", (320, 320), self.min_score)

    def detect(self, pictures: Sequence[Picture]) -> list[tuple[Face, ...]]:
        """The faces of each picture, largest first.

        Raises:
            PerceptionError: for anything but uint8 RGB arrays, or weights that are not fetched.
        """
        check_pictures(pictures)
        with opencv(self.threads) as cv2:
            return [self._detect_one(cv2, picture) for picture in pictures]

    def _detect_one(self, cv2: Any, picture: Picture) -> tuple[Face, ...]:
        height, width = picture.shape[:2]
        scale = min(1.0, self.max_side / max(height, width))
        size = (max(1, round(scale * width)), max(1, round(scale * height)))
        bgr = np.ascontiguousarray(picture[..., ::-1])
        if scale < 1:
            bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
        self.network.setInputSize(size)
        _, rows = self.network.detect(bgr)
        stretch = np.array([width / size[0], height / size[1]])
        faces = [_face(row, stretch) for row in ([] if rows is None else rows)]
        return tuple(sorted(faces, key=lambda face: -face.box.area))


def _face(row: NDArray[np.float32], stretch: NDArray[np.float64]) -> Face:
    """A face of x, y, width, height, five (x, y) and score in a resized picture."""
    points = row[4:14].reshape(5, 2) * stretch
    left, top = (row[:2] * stretch).tolist()
    right, bottom = ((row[:2] + row[2:4]) * stretch).tolist()
    return Face(
        box=Box(left, top, right, bottom),
        landmarks=tuple((x, y) for x, y in points.tolist()),
        score=float(row[14]),
    )


class DlibFaces(SmallModel):
    """dlib's face recognition ResNet: 128 features, Euclidean distance (King 2017).

    It aligns by its own five points inside the face's box. Measured: .29 to .46 for one person,
    .43 to .91 for two.
    """

    source = "dlib-face"
    metric: Metric = "euclidean"

    @cached_property
    def network(self) -> Any:
        """dlib.face_recognition_model_v1."""
        return require("dlib").face_recognition_model_v1(str(self.weights.files[0]))

    @cached_property
    def points(self) -> Any:
        """dlib.shape_predictor of five points."""
        return require("dlib").shape_predictor(str(self.weights.files[1]))

    def embed(self, pictures: Sequence[Picture], faces: Sequence[Face]) -> Features:
        """One vector (N, 128) per picture and its face.

        Raises:
            PerceptionError: for pictures of another form, lengths that differ, missing weights.
        """
        check_pairs(pictures, faces, "faces")
        vectors = np.zeros((len(faces), 128), np.float32)
        for index, (picture, face) in enumerate(zip(pictures, faces, strict=True)):
            rgb, box = np.ascontiguousarray(picture), face.box
            corners = (round(edge) for edge in (box.left, box.top, box.right, box.bottom))
            shape = self.points(rgb, require("dlib").rectangle(*corners))
            vectors[index] = self.network.compute_face_descriptor(rgb, shape)
        return vectors


class MobileFaceNet(SmallModel):
    """MobileFaceNet (Chen et al. 2018): 192 features of an aligned face, cosine.

    Measured: .63 to .91 for one person, up to .57 for two (median .14).
    """

    source = "mobilefacenet"
    metric: Metric = "cosine"

    @cached_property
    def network(self) -> Network:
        """(2, 112, 112, 3) float32 to (2, 192)."""
        return load_litert(self.weights.files[0], self.threads)

    def embed(self, pictures: Sequence[Picture], faces: Sequence[Face]) -> Features:
        """One unit vector (N, 192) per picture and its face.

        Raises:
            PerceptionError: as `DlibFaces.embed`, or for a face without five landmarks.
        """
        check_pairs(pictures, faces, "faces")
        crops = [
            (align(picture, face, self.threads).astype(np.float32) - 127.5) / 128
            for picture, face in zip(pictures, faces, strict=True)
        ]
        vectors = np.zeros((len(crops), 192), np.float32)
        for start in range(0, len(crops), 2):
            pair = crops[start : start + 2]
            both = np.stack([pair[0], pair[-1]])  # its batch is always 2
            vectors[start : start + 2] = self.network(both)[: len(pair)]
        return unit(vectors)


def align(picture: Picture, face: Face, threads: int = 1) -> Picture:
    """The face as a crop of 112 x 112 with its landmarks where ArcFace has them.

    Raises:
        PerceptionError: for a face without five landmarks.
    """
    if len(face.landmarks) != len(ALIGNED_LANDMARKS):
        raise PerceptionError(
            f"a face has {len(face.landmarks)} landmarks, not 5; take one from a face detector"
        )
    matrix = similarity_transform(np.array(face.landmarks), np.array(ALIGNED_LANDMARKS))
    with opencv(threads) as cv2:
        crop = cv2.warpAffine(np.ascontiguousarray(picture), matrix, (ALIGNED_SIDE, ALIGNED_SIDE))
    return np.asarray(crop, np.uint8)


def similarity_transform(
    points: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The turn, scale and shift (2, 3) that moves points (N, 2) nearest to targets (N, 2).

    Least squares without mirroring (Umeyama 1991), in the plane of complex numbers: the best
    factor is the regression of the centred targets on the centred points.
    """
    start, end = points @ np.array([1, 1j]), targets @ np.array([1, 1j])
    centred = start - start.mean()
    factor = np.vdot(centred, end - end.mean()) / max(np.vdot(centred, centred).real, 1e-12)
    shift = end.mean() - factor * start.mean()
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )
