"""The HTTP interface's values: what clients send, and what they get.

Names follow OpenAI's video API where it has one; the rest are `Request`'s own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from anyref.request import STEP_CACHE, Kind

SIZE_PATTERN = r"^[0-9]{1,5}x[0-9]{1,5}$"
SECONDS_PATTERN = r"^[0-9]{1,4}(\.[0-9]{1,3})?$"
MAX_INLINE = 45 * 2**20  # characters of a data URI
Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
PictureText = Annotated[str, Field(max_length=MAX_INLINE)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
BoxIn = Annotated[list[Fraction], Field(min_length=4, max_length=4)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PictureObject(_Closed):
    """A picture as OpenAI's clients write it in JSON; only data URIs are read."""

    image_url: PictureText


PictureIn = PictureText | PictureObject


class ReferenceIn(_Closed):
    """One thing the video must show.

    In JSON its pictures are data URIs; in a form they are the names of file parts.
    """

    images: Annotated[list[PictureText], Field(min_length=1, max_length=8)]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)] | None = None
    kind: Kind = "object"
    text: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    strength: Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)] = 1.0
    mask: PictureText | None = None


class VideoCreate(_Closed):
    """A video to make. What is absent takes the model's default; an absent seed is drawn."""

    prompt: Annotated[str, Field(min_length=1, max_length=4000)]
    model: Annotated[str, Field(max_length=255)] | None = None
    size: Annotated[str, Field(pattern=SIZE_PATTERN)] | None = None
    seconds: (
        Annotated[str, Field(pattern=SECONDS_PATTERN)]
        | Annotated[float, Field(gt=0, lt=10_000, allow_inf_nan=False)]
        | None
    ) = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    input_reference: PictureIn | None = None
    input_references: Annotated[list[PictureIn], Field(max_length=8)] | None = None
    references: Annotated[list[ReferenceIn], Field(max_length=8)] | None = None
    num_frames: Annotated[int, Field(gt=0, lt=100_000)] | None = None
    negative_prompt: Annotated[str, Field(max_length=4000)] | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance_scale: Annotated[float, Field(ge=0.0, le=50.0)] | None = None
    solver: Literal["unipc", "dpm++", "euler"] | None = None
    flow_shift: Annotated[float, Field(gt=0.0, le=100.0)] | None = None
    layout: (
        Literal["columns", "grid", "quarters"]
        | Annotated[list[BoxIn], Field(min_length=1, max_length=8)]
        | None
    ) = None
    shuffle: bool | None = None
    disentangle: Annotated[float, Field(ge=0.0, le=10.0)] | None = None
    reference_offset: Annotated[int, Field(ge=0, le=10_000)] | Literal["video"] | None = None
    reference_size: Literal["letterbox", "native"] | None = None
    strength_map: Literal["attention", "uniform", "guidance"] | None = None
    speed: Literal["exact", "balanced", "fast", "distilled"] | None = None
    step_cache: Annotated[str, Field(pattern=STEP_CACHE)] | None = None
    guidance_interval: Annotated[list[Fraction], Field(min_length=2, max_length=2)] | None = None


class ReferenceOut(BaseModel):
    """A reference of a video; its pictures are at `/v1/videos/{id}/references/{number}`."""

    name: str | None
    kind: Kind
    text: str | None
    strength: float
    images: list[int]
    mask: int | None


class VideoError(BaseModel):
    """Why a video failed."""

    code: str
    message: str


class Video(BaseModel):
    """A video, made or to be made."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Status
    progress: int = Field(ge=0, le=100)
    created_at: int
    completed_at: int | None
    expires_at: int | None = None
    error: VideoError | None
    prompt: str
    remixed_from_video_id: str | None = None
    seconds: str
    size: str
    seed: int
    num_frames: int
    fps: float
    references: list[ReferenceOut]
    settings: dict[str, Any] = Field(description="every other setting that was asked for")
    queue_position: int | None = Field(description="1 is the next to run")
    stage: str | None
    step: int
    steps: int
    seconds_left: float | None


class VideoList(BaseModel):
    """One page of a client's videos."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(BaseModel):
    """A video that is gone."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class ErrorDetail(BaseModel):
    """What is wrong and what to do."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """Every answer that is no success."""

    error: ErrorDetail


class Validation(BaseModel):
    """Whether a video could be made, and which."""

    valid: bool
    error: ErrorDetail | None = None
    model: str | None = None
    size: str | None = None
    seconds: str | None = None
    num_frames: int | None = None
    steps: int | None = None
    text: str | None = Field(default=None, description="the prompt as the text encoder reads it")


class PlacedPicture(BaseModel):
    """One picture of a request as the model is given it.

    On a canvas `box` is the rectangle it covers, as fractions: left, top, right, bottom. As tokens,
    `grid` has its rows and columns and `position` its rotary time, row and column.
    """

    reference: int
    view: int
    name: str | None
    width: int
    height: int
    box: list[float] | None = None
    picture: str | None = None
    tokens: int | None = None
    grid: list[int] | None = None
    position: list[int] | None = None


class LayoutOut(BaseModel):
    """What the model sees of the references: a canvas with its mask, or tokens before the video's.

    Pictures are data URIs of PNG files.
    """

    valid: bool
    error: ErrorDetail | None = None
    kind: Literal["canvas", "tokens", "none"] = "none"
    width: int | None = None
    height: int | None = None
    layout: str | None = Field(default=None, description="columns, grid, quarters or boxes")
    canvas: str | None = None
    mask: str | None = None
    video_tokens: int | None = None
    video_grid: list[int] | None = Field(default=None, description="frames, rows and columns")
    pictures: list[PlacedPicture] = []


class FrameRange(BaseModel):
    """Lengths that a model makes: `first`, `first` + `step`, ... up to `last` frames."""

    first: int
    step: int
    last: int


class ModelFacts(BaseModel):
    """What a client needs to know to offer a model's choices.

    `options` are the request's fields that only some models take, `defaults` the values of absent
    fields, and width and height are multiples of `width_step` and `height_step`.
    """

    fps: float
    needs_references: bool
    options: list[str]
    defaults: dict[str, Any]
    width_step: int
    height_step: int
    frames: FrameRange


class ModelOut(BaseModel):
    """A served model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "anyref"
    description: str
    facts: ModelFacts


class Background(BaseModel):
    """Whether backgrounds can be removed here, and if not, why and what to do."""

    available: bool
    reason: str | None = None


class Abilities(BaseModel):
    """What this service can do beside videos, and its limits."""

    background_removal: Background
    reference_pictures: int
    picture_bytes: int
    picture_pixels: int
    video_pixels: int
    steps: int
    client_jobs: int


class ModelList(BaseModel):
    """The served models; the first is the default."""

    object: Literal["list"] = "list"
    data: list[ModelOut]


class Health(BaseModel):
    """Whether jobs are taken and made."""

    status: Literal["ok", "degraded"]
    workers: int
    queued: int
    running: int
