"""How many tokens a request has, and sizes nearby whose tokens divide over processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from anyref.errors import SizeError
from anyref.request import PixelShape, ShapeRules

FURTHEST = 32  # steps of a side or a length that are tried


def count_tokens(rules: ShapeRules, shape: PixelShape, references: Sequence[Tensor]) -> int:
    """Tokens of a video and of its references' latents (B, C, 1, h, w)."""
    cells = rules.latent(shape)
    count = cells.num_frames * cells.height * cells.width
    return (count + sum(math.prod(x.shape[2:]) for x in references)) // math.prod(rules.patch)


def counted_at(
    rules: ShapeRules, shape: PixelShape, references: Sequence[Tensor]
) -> Callable[[PixelShape], int]:
    """`count_tokens` of other shapes, in which references as large as the video grow with it."""
    cells, per_token = rules.latent(shape), math.prod(rules.patch)
    size = (cells.height, cells.width)
    free = [x for x in references if tuple(x.shape[3:]) != size]
    bound = len(references) - len(free)

    def count(other: PixelShape) -> int:
        frame = rules.latent(other).height * rules.latent(other).width // per_token
        return count_tokens(rules, other, free) + bound * frame

    return count


def shapes_that_fit(
    rules: ShapeRules, shape: PixelShape, count: Callable[[PixelShape], int], parts: int
) -> list[str]:
    """The nearest number of frames, width and height, each alone, whose tokens divide.

    Args:
        count: tokens of a shape. parts: processes that share the sequence.

    Returns:
        texts as the command line takes them, "--frames 13" or "--size 96x128".
    """
    return [
        next((text for other, text in near if count(other) % parts == 0), "")
        for near in (_frames(rules, shape), _sides(rules, shape, 2), _sides(rules, shape, 1))
    ]


def _frames(rules: ShapeRules, shape: PixelShape) -> Iterator[tuple[PixelShape, str]]:
    step = rules.temporal * rules.patch[0]
    for steps in _outwards():
        other = replace(shape, num_frames=shape.num_frames + steps * step)
        if _makes(rules, other):
            yield other, f"--frames {other.num_frames - rules.lead_frames}"


def _sides(rules: ShapeRules, shape: PixelShape, axis: int) -> Iterator[tuple[PixelShape, str]]:
    step, side = rules.spatial * rules.patch[axis], "height" if axis == 1 else "width"
    for steps in _outwards():
        other = replace(shape, **{side: getattr(shape, side) + steps * step})
        if _makes(rules, other):
            yield other, f"--size {other.width}x{other.height}"


def _outwards() -> Iterator[int]:
    for steps in range(1, FURTHEST + 1):
        yield from (steps, -steps)


def _makes(rules: ShapeRules, shape: PixelShape) -> bool:
    try:
        rules.check(shape)
    except SizeError:
        return False
    return True
