"""What a model would see of a request's references, made without its weights.

The pipelines' own functions compose it: they need a pipeline's configuration and sizes only, which
`ModelInfo` has. Axes: K references, H W latent rows and columns.
"""

from __future__ import annotations

import base64
import io
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from PIL import Image

from anyref.media import open_reference_pictures
from anyref.models.positions import spatial_offset
from anyref.pipelines.base import AnyRefPipeline
from anyref.pipelines.canvas import arrange, canvas_cells, default_layout
from anyref.pipelines.generation import network_shape
from anyref.pipelines.kaleido import KaleidoPipeline
from anyref.pipelines.loading import ModelInfo
from anyref.pipelines.magref import MagrefPipeline, _mask_picture
from anyref.request import PixelShape, Reference, Request
from anyref.service.schemas import LayoutOut, PlacedPicture


@dataclass(frozen=True)
class Weightless:
    """Stands in for a pipeline in those of its methods that read its configuration only."""

    config: SimpleNamespace
    rules: Any


def lay_out(info: ModelInfo, request: Request) -> LayoutOut:
    """What the model is given for a request whose pictures are in memory.

    Raises:
        RequestError: or a subclass, when the model cannot honour it.
    """
    shape = network_shape(info.rules, info.defaults, request)
    stand_in = Weightless(SimpleNamespace(**info.defaults), info.rules)
    return COMPOSERS[info.pipeline](stand_in, request, shape)


def _canvas(pipe: Any, request: Request, shape: PixelShape) -> LayoutOut:
    """MAGREF: the canvas, its mask, and where each picture lies on it."""
    height, width = shape.height, shape.width
    canvas, latent_mask, _ = MagrefPipeline._compose(
        pipe, request.references, height, width, request.layout, request.shuffle, request.seed
    )
    pictures = _pictures(request.references)
    chosen: Any = request.layout or pipe.config.layout or default_layout(len(pictures))
    shuffled = pipe.config.shuffle if request.shuffle is None else request.shuffle
    rng = random.Random(request.seed) if shuffled and isinstance(chosen, str) else None
    _, boxes = arrange(
        pictures, canvas_cells(chosen, len(pictures), height, width), height, width, rng
    )
    placed = [
        PlacedPicture(
            reference=k,
            view=view,
            name=request.references[k].name,
            width=box[2] - box[0],
            height=box[3] - box[1],
            box=[box[0] / width, box[1] / height, box[2] / width, box[3] / height],
        )
        for (k, view), box in zip(_places(request.references), boxes, strict=True)
    ]
    return LayoutOut(
        valid=True,
        kind="canvas",
        width=width,
        height=height,
        layout=chosen if isinstance(chosen, str) else "boxes",
        canvas=_data_uri(canvas),
        mask=_data_uri(_mask_picture(latent_mask, canvas.size).convert("L")),
        pictures=placed,
    )


def _tokens(pipe: Any, request: Request, shape: PixelShape) -> LayoutOut:
    """Kaleido: the frames before the video's, their sizes, positions and tokens."""
    boxed = KaleidoPipeline._letterboxed(pipe, request.references, shape, request.reference_size)
    cells, patch, spatial = pipe.rules.latent(shape), pipe.rules.patch, pipe.rules.spatial
    grid = (cells.num_frames // patch[0], cells.height // patch[1], cells.width // patch[2])
    given = request.reference_offset
    rows, columns = spatial_offset(
        pipe.config.reference_offset if given is None else given, (grid[1], grid[2])
    )
    placed = []
    for number, ((k, view), picture) in enumerate(
        zip(_places(request.references), boxed, strict=True)
    ):
        own = [picture.height // (spatial * patch[1]), picture.width // (spatial * patch[2])]
        placed.append(
            PlacedPicture(
                reference=k,
                view=view,
                name=request.references[k].name,
                width=picture.width,
                height=picture.height,
                picture=_data_uri(picture),
                tokens=math.prod(own),
                grid=own,
                position=[number, rows, columns],
            )
        )
    return LayoutOut(
        valid=True,
        kind="tokens",
        width=shape.width,
        height=shape.height,
        video_tokens=math.prod(grid),
        video_grid=list(grid),
        pictures=placed,
    )


COMPOSERS: Mapping[type[AnyRefPipeline], Callable[[Any, Request, PixelShape], LayoutOut]] = {
    MagrefPipeline: _canvas,
    KaleidoPipeline: _tokens,
}


def _pictures(references: Sequence[Reference]) -> list[Image.Image]:
    return [picture for r in references for picture in open_reference_pictures(r)]


def _places(references: Sequence[Reference]) -> list[tuple[int, int]]:
    """Reference and view of every picture, in order."""
    return [(k, view) for k, r in enumerate(references) for view in range(len(r.images))]


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
