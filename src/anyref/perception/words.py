"""Words: BGE-small embeds a text, PP-OCRv4 reads the text in a picture.

The text embedder is for evaluation. Never score with the encoder that conditions the generator.

Axes: D features, L tokens, Y X pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.perception.contracts import Features, Picture, TextLine, check_pictures, unit
from anyref.perception.runtimes import (
    NamedNetwork,
    SmallModel,
    load_onnx,
    onnx_metadata,
    opencv,
    require,
)

MAX_TOKENS = 512
NUM_FEATURES = 384

Quad = NDArray[np.float32]  # (4, 2): x, y of the corners, clockwise from the top left


class BgeSmall(SmallModel):
    """bge-small-en-v1.5 (Xiao et al. 2023) in 8 bits: 384 features of an English text, cosine.

    Its range is narrow: unrelated texts are at .36 to .43, paraphrases at .8. Texts go through one
    by one, because its quantisation depends on everything in a batch.
    """

    source = "bge-small-en"

    @cached_property
    def network(self) -> NamedNetwork:
        """Three int64 (1, L) to (1, L, 384)."""
        return load_onnx(self.weights.files[0], self.threads)

    @cached_property
    def tokenizer(self) -> Any:
        """tokenizers.Tokenizer, cut at 512 tokens."""
        tokenizer = require("tokenizers").Tokenizer.from_file(str(self.weights.files[1]))
        tokenizer.enable_truncation(MAX_TOKENS)
        tokenizer.no_padding()
        return tokenizer

    def embed(self, texts: Sequence[str]) -> Features:
        """Unit vectors (N, 384): the first token's features.

        Raises:
            PerceptionError: when the weights are not fetched.
        """
        vectors = np.zeros((len(texts), NUM_FEATURES), np.float32)
        for index, text in enumerate(texts):
            tokens = np.array([self.tokenizer.encode(text).ids], np.int64)  # (1, L)
            inputs = {
                "input_ids": tokens,
                "attention_mask": np.ones_like(tokens),
                "token_type_ids": np.zeros_like(tokens),
            }
            vectors[index] = self.network(inputs)[0, 0]
        return unit(vectors)


class PpOcr(SmallModel):
    """PP-OCRv4, Latin and Chinese: finds lines (Liao et al. 2020, DB), then reads each (CTC).

    Lines that cannot be read are dropped: alone, the finder sees text in a cat's whiskers. Upright
    and slanted text only, none upside down.

    Args:
        min_score: lines whose characters are read with less on average are left out.
    """

    source = "ppocr"

    MIN_SIDE, MAX_SIDE = 736, 2000  # of the picture that the finder sees
    MAP_LEVEL = 0.3  # over which a pixel is text
    SPOT_LEVEL = 0.5  # mean of a spot below which it is none; of the spot, for curved lines
    GROWTH = 1.6  # area x growth / perimeter is added on every side (DB's unclipping)
    LINE_HEIGHT = 48
    MIN_LINE = 3  # pixels of the finder's map; smaller spots are no text

    def __init__(self, *args: Any, min_score: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.min_score = min_score

    @cached_property
    def finder(self) -> NamedNetwork:
        """`x` (1, 3, Y, X) to the probability (1, 1, Y, X) of text."""
        return load_onnx(self.weights.files[0], self.threads)

    @cached_property
    def reader(self) -> NamedNetwork:
        """`x` (1, 3, 48, X) to probabilities (1, L, characters)."""
        return load_onnx(self.weights.files[1], self.threads)

    @cached_property
    def characters(self) -> tuple[str, ...]:
        """What the reader's outputs stand for; the first is CTC's blank."""
        return ("", *onnx_metadata(self.weights.files[1], "character").splitlines(), " ")

    def read(self, pictures: Sequence[Picture]) -> list[tuple[TextLine, ...]]:
        """The lines of each picture, from top to bottom.

        Raises:
            PerceptionError: for anything but uint8 RGB arrays, or weights that are not fetched.
        """
        check_pictures(pictures)
        with opencv(self.threads) as cv2:
            return [self._read_one(cv2, picture) for picture in pictures]

    def _read_one(self, cv2: Any, picture: Picture) -> tuple[TextLine, ...]:
        bgr = np.ascontiguousarray(picture[..., ::-1])
        lines = []
        for quad in self._find(cv2, bgr):
            text, score = self._decode(self.reader({"x": _line_input(cv2, bgr, quad)})[0])
            if text.strip() and score >= self.min_score:
                corners = tuple((x, y) for x, y in quad.tolist())
                lines.append(TextLine(text=text.strip(), corners=corners, score=score))
        return tuple(sorted(lines, key=lambda line: (line.box.top, line.box.left)))

    def _find(self, cv2: Any, bgr: Picture) -> list[Quad]:
        """Corners of the lines in pixels of the picture."""
        height, width = bgr.shape[:2]
        scale = max(1.0, self.MIN_SIDE / min(height, width))
        scale = min(scale, self.MAX_SIDE / max(height, width))
        seen = tuple(max(32, 32 * round(scale * side / 32)) for side in (width, height))
        values = _centred(cv2.resize(bgr, seen, interpolation=cv2.INTER_LINEAR))
        text_map = self.finder({"x": values})[0, 0]  # (Y, X)
        stretch = np.array([width / seen[0], height / seen[1]], np.float32)
        quads = [quad * stretch for quad in self._boxes(cv2, text_map)]
        return [quad.clip(0, np.array([width, height], np.float32)) for quad in quads]

    def _boxes(self, cv2: Any, text_map: NDArray[np.float32]) -> list[Quad]:
        """Rectangles (turned as need be) around the spots of a text map (Y, X), grown."""
        spots = cv2.dilate((text_map > self.MAP_LEVEL).astype(np.uint8), np.ones((2, 2), np.uint8))
        outlines, _ = cv2.findContours(spots, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        quads = []
        for outline in outlines:
            centre, (width, height), angle = cv2.minAreaRect(outline)
            if min(width, height) < self.MIN_LINE:
                continue
            inside = np.zeros(text_map.shape, np.uint8)
            cv2.fillPoly(inside, [outline], 1)
            if text_map[inside > 0].mean() < self.SPOT_LEVEL:
                continue
            growth = width * height * self.GROWTH / (2 * (width + height))
            size = (width + 2 * growth, height + 2 * growth)
            quads.append(_ordered(cv2.boxPoints((centre, size, angle))))
        return quads

    def _decode(self, probabilities: NDArray[np.float32]) -> tuple[str, float]:
        """The text of (L, characters) and its characters' mean probability, read greedily (CTC)."""
        best = probabilities.argmax(-1)
        kept = (best != 0) & (best != np.concatenate([[0], best[:-1]]))
        text = "".join(self.characters[index] for index in best[kept])
        return text, float(probabilities.max(-1)[kept].mean()) if kept.any() else 0.0


def _ordered(corners: Quad) -> Quad:
    """Four corners clockwise from the top left."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left = by_x[:2][np.argsort(by_x[:2, 1], kind="stable")]
    right = by_x[2:][np.argsort(by_x[2:, 1], kind="stable")]
    return np.stack([left[0], right[0], right[1], left[1]])


def _line_input(cv2: Any, bgr: Picture, quad: Quad) -> NDArray[np.float32]:
    """The line straightened to a height of 48 and turned when it stands: (1, 3, 48, X)."""
    edges = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)  # top, right, bottom, left
    width, height = (max(1, round(float(max(edges[i], edges[i + 2])))) for i in (0, 1))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(quad, target)
    line = cv2.warpPerspective(
        bgr, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    if height >= 1.5 * width:
        line = np.ascontiguousarray(np.rot90(line))
    columns = max(PpOcr.LINE_HEIGHT // 2, round(PpOcr.LINE_HEIGHT * line.shape[1] / line.shape[0]))
    return _centred(cv2.resize(line, (columns, PpOcr.LINE_HEIGHT)))


def _centred(bgr: Picture) -> NDArray[np.float32]:
    """A picture (Y, X, 3) of 0 to 255 as (1, 3, Y, X) of -1 to 1."""
    values = bgr.astype(np.float32) / np.float32(127.5) - 1
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])
