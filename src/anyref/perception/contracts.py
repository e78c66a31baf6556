"""What a perception model takes and gives, by role; any grade of model fills the same contracts.

Every call is batched: a sequence of pictures in, a list of as many results out, in order. Pictures
are uint8 RGB arrays (Y, X, 3) of any size, not necessarily all of one. Coordinates are pixels of
the picture that was given, x to the right and y down, a box's right and bottom being exclusive.

Axes: N items, D features, Y X pixels
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyref.errors import PerceptionError

Picture: TypeAlias = NDArray[np.uint8]  # (Y, X, 3), RGB
Mask: TypeAlias = NDArray[np.float32]  # (Y, X), 0 outside to 1 on the subject
Features: TypeAlias = NDArray[np.float32]  # (N, D)
Metric: TypeAlias = Literal["cosine", "euclidean"]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Which model made a number; records keep it beside the number.

    Args:
        sha256: of the weight file; of several files, of their digests written one after another;
            empty for an algorithm without weights.
        licence: of the weights. doubt: what is not known about them; empty when nothing is open.
    """

    name: str
    version: str
    sha256: str
    licence: str
    doubt: str = ""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; right and bottom are exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Pixels from left to right, never below 0."""
        return max(0.0, self.right - self.left)

    @property
    def height(self) -> float:
        """Pixels from top to bottom, never below 0."""
        return max(0.0, self.bottom - self.top)

    @property
    def area(self) -> float:
        """Pixels covered."""
        return self.width * self.height

    def overlap(self, other: Box) -> float:
        """Intersection over union with another box, 0 to 1."""
        common = Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        ).area
        union = self.area + other.area - common
        return common / union if union else 0.0

    def grown(self, share: float) -> Box:
        """The box with `share` of its width and height added on every side."""
        x, y = share * self.width, share * self.height
        return Box(self.left - x, self.top - y, self.right + x, self.bottom + y)

    def pixels(self, picture: NDArray[np.generic]) -> tuple[slice, slice]:
        """Rows and columns of a (Y, X, ...) array that the box touches, cut at the border."""
        height, width = picture.shape[:2]
        rows = slice(
            int(np.clip(np.floor(self.top), 0, height)),
            int(np.clip(np.ceil(self.bottom), 0, height)),
        )
        columns = slice(
            int(np.clip(np.floor(self.left), 0, width)),
            int(np.clip(np.ceil(self.right), 0, width)),
        )
        return rows, columns


@dataclass(frozen=True, kw_only=True)
class Face:
    """A face: its box, five points and how sure the detector is (0 to 1).

    Args:
        landmarks: (x, y) of eye, eye, nose, mouth corner, mouth corner; each pair from left to
            right in the picture.
    """

    box: Box
    landmarks: tuple[tuple[float, float], ...]
    score: float


@dataclass(frozen=True, kw_only=True)
class Detection:
    """An object: its box, its class or the phrase it answers to, and a score of 0 to 1."""

    box: Box
    label: str
    score: float


@dataclass(frozen=True, kw_only=True)
class TextLine:
    """A line of text in a picture, its four corners clockwise from its top left, score 0 to 1."""

    text: str
    corners: tuple[tuple[float, float], ...]
    score: float

    @property
    def box(self) -> Box:
        """The upright box around the corners."""
        xs, ys = zip(*self.corners, strict=True)
        return Box(min(xs), min(ys), max(xs), max(ys))


@dataclass(frozen=True)
class Shot:
    """Frames `start` to `end` (exclusive) between two cuts."""

    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a clip shows: one text, and the phrases in it that name its subjects.

    Args:
        subjects: each stands in the text, letter by letter; in the order of the first mention.

    Raises:
        PerceptionError: for a phrase that is empty or not in the text.
    """

    text: str
    subjects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for phrase in self.subjects:
            if not phrase or phrase not in self.text:
                raise PerceptionError(
                    f"subject {phrase!r} is not in the caption {self.text!r}; give phrases of it"
                )

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """Half-open characters of each subject's first mention in the text."""
        starts = [self.text.index(phrase) for phrase in self.subjects]
        return tuple(
            (start, start + len(phrase))
            for start, phrase in zip(starts, self.subjects, strict=True)
        )


class Perceiver(Protocol):
    """Any model of this package: it can say which it is."""

    @property
    def card(self) -> ModelCard:
        """The identity of the model. Raises PerceptionError when its weights are not here."""
        ...


class FaceDetector(Perceiver, Protocol):
    """Finds faces with five points each."""

    def detect(self, pictures: Sequence[Picture]) -> list[tuple[Face, ...]]:
        """The faces of each picture, largest first."""
        ...


class FaceEmbedder(Perceiver, Protocol):
    """Turns faces into vectors that are near when the person is the same."""

    @property
    def metric(self) -> Metric:
        """How two of its vectors are compared; see `compare`."""
        ...

    def embed(self, pictures: Sequence[Picture], faces: Sequence[Face]) -> Features:
        """One vector (N, D) per picture and its face; repeat a picture for several faces."""
        ...


class ObjectDetector(Perceiver, Protocol):
    """Finds objects by class or by phrase."""

    @property
    def vocabulary(self) -> frozenset[str] | None:
        """The labels it can give; None when it takes any phrase."""
        ...

    def detect(
        self, pictures: Sequence[Picture], words: Sequence[Sequence[str]] | None = None
    ) -> list[tuple[Detection, ...]]:
        """The objects of each picture, best score first.

        Args:
            words: per picture, the labels or phrases to look for. Without, all of the vocabulary;
                a model whose vocabulary is None raises PerceptionError.
        """
        ...


class Segmenter(Perceiver, Protocol):
    """Cuts the subject out of a picture."""

    def segment(
        self, pictures: Sequence[Picture], boxes: Sequence[Box | None] | None = None
    ) -> list[Mask]:
        """A soft mask per picture, of its size.

        Args:
            boxes: per picture, where the subject is; the mask is 0 elsewhere. None: what stands
                out in the whole picture.
        """
        ...


class PictureEmbedder(Perceiver, Protocol):
    """Turns pictures into unit vectors that are near when the subject is alike."""

    def embed(self, pictures: Sequence[Picture]) -> Features:
        """Unit vectors (N, D)."""
        ...


class PictureNamer(Perceiver, Protocol):
    """Says which of its words fits a picture of one subject; some picture embedders can."""

    @property
    def words(self) -> tuple[str, ...]:
        """All words it knows, G of them."""
        ...

    def name(self, pictures: Sequence[Picture]) -> Features:
        """Probabilities (N, G) of the words; what is missing to 1 is for things without a word."""
        ...


class TextEmbedder(Perceiver, Protocol):
    """Turns texts into unit vectors that are near when the meaning is alike."""

    def embed(self, texts: Sequence[str]) -> Features:
        """Unit vectors (N, D)."""
        ...


class TextReader(Perceiver, Protocol):
    """Reads the text in pictures."""

    def read(self, pictures: Sequence[Picture]) -> list[tuple[TextLine, ...]]:
        """The lines of each picture, from top to bottom."""
        ...


class QualityScorer(Perceiver, Protocol):
    """Rates how a picture looks, without another one to compare with."""

    @property
    def higher_is_better(self) -> bool:
        """Which end of the scale is the good one."""
        ...

    def score(self, pictures: Sequence[Picture]) -> list[float]:
        """One number per picture, on the model's own scale."""
        ...


class SafetyScorer(Perceiver, Protocol):
    """Says how likely a picture is not safe to show."""

    def score(self, pictures: Sequence[Picture]) -> list[float]:
        """One probability (0 to 1) per picture."""
        ...


class ShotDetector(Perceiver, Protocol):
    """Finds the cuts of videos."""

    def split(self, videos: Sequence[Iterable[Picture]], fps: float) -> list[tuple[Shot, ...]]:
        """The shots of each video, in order; together they cover every frame once.

        Args:
            videos: each its frames in order, all of one size; read once, one frame at a time.
            fps: frames per second of all of them.
        """
        ...


class Captioner(Perceiver, Protocol):
    """Describes clips and names their subjects."""

    def describe(self, clips: Sequence[Sequence[Picture]]) -> list[Description]:
        """One description per clip, each clip being some of its frames in order.

        Raises:
            PerceptionError: for a clip without frames, or an answer that cannot be read.
        """
        ...


class ImageModel(Perceiver, Protocol):
    """Makes pictures from pictures: another background, or the subject in another pose.

    One prompt and one seed per picture; the same inputs give the same pictures on one machine.
    """

    def inpaint(
        self,
        pictures: Sequence[Picture],
        masks: Sequence[Mask],
        prompts: Sequence[str],
        seeds: Sequence[int],
    ) -> list[Picture]:
        """Each picture painted anew where its mask is 1, and unchanged where it is 0."""
        ...

    def vary(
        self, pictures: Sequence[Picture], prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[Picture]:
        """The subject of each picture rendered again, as the prompt says, at the same size."""
        ...


def compare(
    first: NDArray[np.float32], second: NDArray[np.float32], metric: Metric
) -> NDArray[np.float32]:
    """Every vector of (N, D) against every one of (M, D): (N, M).

    "cosine" is 1 for the same direction (higher is nearer); "euclidean" is a distance, 0 for the
    same vector (lower is nearer).
    """
    if metric == "euclidean":
        return np.linalg.norm(first[:, None] - second[None], axis=-1).astype(np.float32)
    return unit(first) @ unit(second).T


def unit(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Vectors (N, D) scaled to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    return (features / np.maximum(lengths, 1e-12)).astype(np.float32)


def check_pictures(pictures: Sequence[Picture]) -> None:
    """Raise PerceptionError unless every picture is a uint8 array (Y, X, 3) that is not empty."""
    for index, picture in enumerate(pictures):
        shape: tuple[int, ...] = getattr(picture, "shape", ())
        kind = getattr(picture, "dtype", None)
        if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise PerceptionError(
                f"picture {index} is {kind} {shape}, not uint8 (Y, X, 3); give RGB arrays, such as "
                "np.asarray(anyref.media.open_picture(path))"
            )


def check_pairs(pictures: Sequence[Picture], others: Sequence[object], what: str) -> None:
    """`check_pictures`, and PerceptionError unless there is one of `others` for each picture."""
    check_pictures(pictures)
    if len(pictures) != len(others):
        raise PerceptionError(
            f"{len(others)} {what} for {len(pictures)} pictures; give one for each picture"
        )
