"""What a user asks for: references, a prompt and a size, as one validated value.

`Reference` is a thing with pictures, `Request` everything that determines a video, `ShapeRules`
every rule about sizes. Values are frozen, refuse unknown fields and go to JSON and back.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from PIL import Image
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from anyref.errors import PromptError, ReferencesError, RequestError, SizeError

MAX_REFERENCE_IMAGES = 8  # cells of the largest canvas grid (MAGREF subject2video.py)
MAX_PICTURE_PIXELS = 64 * 10**6
MAX_INLINE_BYTES = 32 * 2**20  # a picture carried inside JSON
FRAME_CHUNK = 4  # the Wan VAE encodes one frame, then chunks of four (autoencoder_kl_wan.py)

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_-]*")
# "@@" is a plain @; a mention may touch letters of scripts that write without spaces
MENTION_PATTERN = re.compile(r"@@|(?<![\w@])@([A-Za-z0-9_][\w-]*)", re.ASCII)

Kind = Literal["object", "human", "background"]
Box = tuple[float, float, float, float]  # left, top, right, bottom as fractions of the canvas
Layout = Literal["columns", "grid", "quarters"] | tuple[Box, ...]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
STEP_CACHE = r"^(none|first-block(:0?\.\d{1,3})?|taylorseer(:([2-9]|10))?)$"


def _read_picture_field(value: Any) -> Path | Image.Image:
    """Paths stay paths, pictures stay pictures, data URIs become pictures."""
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, Path):
        return _checked_path(str(value))
    if not isinstance(value, str) or not value:
        raise ValueError(f"a picture is a path or a PIL image, got {type(value).__name__}")
    if not value.startswith("data:image/"):
        return _checked_path(value)
    if len(value) > MAX_INLINE_BYTES * 4 // 3:
        raise ValueError(f"an inline picture of {len(value)} characters is over the 32 MiB limit")
    try:
        data = base64.b64decode(value.partition(",")[2], validate=True)
        picture = Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"])
        if picture.width * picture.height > MAX_PICTURE_PIXELS:
            raise ValueError(f"{picture.width}x{picture.height} is over 64 megapixels")
        picture.load()
    except Exception as error:  # decoders raise many types on broken data
        raise ValueError(f"the inline picture cannot be decoded: {error}") from error
    return picture


def _checked_path(value: str) -> Path:
    if "\0" in value or (not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value)):
        raise ValueError("a picture's path must be valid UTF-8 without NUL; rename the file")
    return Path(value)


def _write_picture_field(value: Path | Image.Image) -> str:
    if isinstance(value, Path):
        return str(value)
    buffer = io.BytesIO()
    known = value if value.mode in ("RGB", "RGBA", "L", "LA", "P", "1") else value.convert("RGB")
    known.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


Picture = Annotated[
    Path | Image.Image,
    BeforeValidator(_read_picture_field),
    PlainSerializer(_write_picture_field, return_type=str),
]


def _first_message(error: ValidationError) -> str:
    """One line for the first thing pydantic found wrong."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    given = first.get("input")
    shown = f", got {given!r}" if isinstance(given, (str, int, float, bool)) else ""
    message = first["msg"].removeprefix("Value error, ") + shown
    return f"{field}: {message}" if field else message


ValueType = TypeVar("ValueType", bound="_Value")


class _Value(BaseModel):
    """Frozen, closed, and failing with our own errors instead of pydantic's."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise RequestError(_first_message(error)) from error

    @classmethod
    def from_json(cls: type[ValueType], text: str | bytes) -> ValueType:
        """Read the value back from `to_json`.

        Raises:
            RequestError: when the text is not JSON, or a field is unknown, missing or wrong.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise RequestError(f"not JSON: {error}") from error
        if not isinstance(data, dict):
            raise RequestError(f"a JSON object is needed, got {type(data).__name__}")
        return cls(**data)

    def to_json(self, indent: int | None = None) -> str:
        """The value as JSON. Pictures held in memory become PNG data URIs."""
        return self.model_dump_json(indent=indent, exclude_none=True)


class Reference(_Value):
    """One thing the video must show, with one or more pictures of it.

    Args:
        images: one picture or several views of the same thing: paths or PIL images.
        name: lower-case word that `@name` in the prompt refers to.
        kind: "object", "human" or "background". Recorded with the video; training data and
            evaluation choose by it, the two families condition on all kinds alike.
        text: what `@name` becomes for the text encoder; the name with spaces when absent.
        strength: how much it counts, 0 to 100 (`models.strength`); 1 is the model as trained, 0
            hides it.
        mask: picture whose bright parts (over 127 of 255) are the subject, scaled to the image's
            size; what it leaves out becomes white. Only for a reference of exactly one image.

    Raises:
        RequestError: for a field of the wrong type or an ill-formed name.
    """

    images: tuple[Picture, ...] = Field(min_length=1, max_length=64)
    name: str | None = None
    kind: Kind = "object"
    text: str | None = Field(default=None, min_length=1)
    strength: float = Field(default=1.0, ge=0.0, le=100.0)
    mask: Picture | None = None

    def __init__(self, /, images: Any = (), name: str | None = None, **data: Any) -> None:
        if isinstance(images, (str, Path, Image.Image)):
            images = (images,)
        super().__init__(images=images, name=name, **data)

    @model_validator(mode="after")
    def _name_is_a_word(self) -> Reference:
        if self.name is not None and not NAME_PATTERN.fullmatch(self.name):
            raise ValueError(
                f"reference name {self.name!r} must be lower-case letters, digits, - and _, "
                "starting with a letter, as in fox or red_car"
            )
        return self

    @property
    def words(self) -> str:
        """What the text encoder reads in place of `@name`."""
        return self.text or (self.name or "").replace("_", " ").replace("-", " ")


def check_references(references: Sequence[Reference]) -> None:
    """Refuse what no family can honour.

    Raises:
        ReferencesError: more than 8 pictures, a repeated name, or a mask for several pictures.
    """
    count = sum(len(reference.images) for reference in references)
    if count > MAX_REFERENCE_IMAGES:
        raise ReferencesError(
            f"{count} reference pictures given, at most {MAX_REFERENCE_IMAGES} fit; "
            f"leave out {count - MAX_REFERENCE_IMAGES}"
        )
    names = [reference.name for reference in references if reference.name]
    for name in names:
        if names.count(name) > 1:
            raise ReferencesError(
                f"reference name {name!r} is given {names.count(name)} times; names are unique, "
                f"several views go under one: {name}=a.png,b.png"
            )
    for reference in references:
        label = reference.name or "unnamed"
        if reference.mask is not None and len(reference.images) != 1:
            raise ReferencesError(
                f"reference {label!r} has a mask and {len(reference.images)} pictures, a mask "
                "belongs to one picture; give one picture, or cut the subject out of each yourself"
            )


def split_mentions(prompt: str, references: Sequence[Reference]) -> list[tuple[str, int | None]]:
    """The text of `resolve_mentions` in pieces, each with the reference it names.

    Returns:
        text, and the index in `references` whose mention it stands for; None for plain text.

    Raises:
        PromptError, ReferencesError: as `resolve_mentions`.
    """
    if not prompt.strip():
        raise PromptError("the prompt is empty; say what happens, as in 'a @fox walks right'")
    by_name = {reference.name: i for i, reference in enumerate(references) if reference.name}
    pieces: list[tuple[str, int | None]] = []
    end = 0
    for match in MENTION_PATTERN.finditer(prompt):
        pieces.append((prompt[end : match.start()], None))
        end, name = match.end(), match[1]
        if name and name not in by_name:
            known = ", ".join(f"@{n}" for n in by_name) or "none"
            raise PromptError(
                f"the prompt mentions @{name} but no reference has that name (defined: {known}); "
                f"add -r {name}=PICTURE or drop the @"
            )
        pieces.append((references[by_name[name]].words, by_name[name]) if name else ("@", None))
    pieces.append((prompt[end:], None))
    mentioned = {index for _, index in pieces}
    for name, index in by_name.items():
        if index not in mentioned:
            raise ReferencesError(
                f"reference {name!r} is never used; mention it in the prompt as @{name} "
                "or leave it out"
            )
    return pieces


def resolve_mentions(prompt: str, references: Sequence[Reference]) -> str:
    """Replace every `@name` by its reference's words, and every `@@` by a plain @.

    Raises:
        PromptError: for an empty prompt, or a mention that no reference defines.
        ReferencesError: for a named reference that the prompt never mentions.
    """
    return "".join(text for text, _ in split_mentions(prompt, references))


class Request(_Value):
    """Everything that determines a video; None means the model's own default.

    Args:
        prompt: 1 to 4000 characters; `@name` refers to a reference.
        references: at most 8 pictures in all.
        height, width: pixels. num_frames: frames delivered, after lead frames are cut.
        seed: 0 to 2**63 - 1; fixes noise, reference order and placement.
        num_inference_steps: 1 to 1000. guidance_scale: 0 to 50; 1 or less runs without guidance.
        layout: MAGREF's canvas: "columns", "grid", "quarters" or one box per picture.
        shuffle: MAGREF: order and cells drawn from the seed. disentangle: MAGREF: strength of
            subject disentanglement, 0 to 10; None or 0 runs without. reference_offset,
            reference_size: Kaleido's rotary offset (80 or "video") and picture size
            ("letterbox" or "native"). strength_map: how references of a strength other than 1 act
            ("attention", "uniform", "guidance"; the model's own if absent). speed, step_cache,
            guidance_interval (shares of the steps): what may be left out, see pipelines.speed.

    Raises:
        RequestError: and its subclasses, for any value that cannot be honoured.
    """

    prompt: str = Field(max_length=4000)
    references: tuple[Reference, ...] = Field(default=(), max_length=64)
    model: str | None = None
    negative_prompt: str | None = None
    height: int | None = Field(default=None, gt=0)
    width: int | None = Field(default=None, gt=0)
    num_frames: int | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**63, strict=True)
    num_inference_steps: int | None = Field(default=None, ge=1, le=1000)
    guidance_scale: float | None = Field(default=None, ge=0.0, le=50.0)
    solver: Literal["unipc", "dpm++", "euler"] | None = None
    flow_shift: float | None = Field(default=None, gt=0.0, le=100.0)
    layout: Layout | None = None
    shuffle: bool | None = None
    disentangle: float | None = Field(default=None, ge=0.0, le=10.0)
    reference_offset: Annotated[int, Field(ge=0)] | Literal["video"] | None = None
    reference_size: Literal["letterbox", "native"] | None = None
    strength_map: Literal["attention", "uniform", "guidance"] | None = None
    speed: Literal["exact", "balanced", "fast", "distilled"] | None = None
    step_cache: str | None = Field(default=None, pattern=STEP_CACHE)
    guidance_interval: tuple[Share, Share] | None = None

    def __init__(self, /, **data: Any) -> None:
        super().__init__(**data)
        self.check()

    def check(self) -> None:
        """Raise what is wrong between fields: names, mentions, counts, masks."""
        if self.layout == ():
            raise RequestError("layout has 0 boxes; give one per picture, or leave it out")
        check_references(self.references)
        if self.strength_map is not None and all(r.strength == 1.0 for r in self.references):
            raise RequestError(
                f"strength_map {self.strength_map!r} has no effect: every strength is 1; "
                "give a reference another strength, or leave strength_map out"
            )
        start, stop = self.guidance_interval or (0.0, 1.0)
        if start >= stop:
            raise RequestError(f"guidance_interval {start:g},{stop:g} is empty; write it as 0,0.6")
        resolve_mentions(self.prompt, self.references)

    @property
    def text(self) -> str:
        """The prompt as the text encoder reads it: no `@`, every mention in words."""
        return resolve_mentions(self.prompt, self.references)


@dataclass(frozen=True)
class PixelShape:
    """A video as the network makes it: frames, height and width in pixels."""

    num_frames: int
    height: int
    width: int


@dataclass(frozen=True)
class LatentShape:
    """A video in latent space: latent frames, rows and columns."""

    num_frames: int
    height: int
    width: int


@dataclass(frozen=True)
class ShapeRules:
    """What sizes a model can make.

    Args:
        spatial, temporal: pixels per latent cell and frames per latent frame (VAE).
        patch: latent cells per token: frames, rows, columns (transformer).
        max_positions: length of the rotary table on each axis, in tokens.
        lead_frames: decoded frames cut from the start (MAGREF's composite canvas).
    """

    spatial: int
    temporal: int
    patch: tuple[int, int, int]
    max_positions: int
    lead_frames: int = 0

    def network_frames(self, delivered: int) -> int:
        """Frames the network must make so that `delivered` are left after the cut."""
        return delivered + self.lead_frames

    def latent(self, shape: PixelShape) -> LatentShape:
        """The latent shape of a checked pixel shape."""
        self.check(shape)
        return LatentShape(
            (shape.num_frames - 1) // self.temporal + 1,
            shape.height // self.spatial,
            shape.width // self.spatial,
        )

    def check(self, shape: PixelShape) -> None:
        """Raise SizeError unless the model can make exactly this shape."""
        for side, pixels, patch in (
            ("height", shape.height, self.patch[1]),
            ("width", shape.width, self.patch[2]),
        ):
            self._check_side(side, pixels, self.spatial * patch)
        self._check_frames(shape.num_frames)

    def _check_side(self, side: str, pixels: int, step: int) -> None:
        if pixels <= 0 or pixels % step:
            near = max(step, round(pixels / step) * step)
            raise SizeError(f"{side} {pixels} is not a multiple of {step}; try {near}")
        limit = self.max_positions * step
        if pixels > limit:
            raise SizeError(f"{side} {pixels} is over the model's {limit}; use {limit} or less")

    def _check_frames(self, frames: int) -> None:
        step = max(FRAME_CHUNK, self.temporal * self.patch[0])
        lead = self.lead_frames
        if frames < 1 or (frames - 1) % step or frames <= lead:
            near = max(round((frames - 1) / step), -(-lead // step)) * step + 1
            cut = f" (that is --frames {near - lead}: {lead} lead frames are cut)" if lead else ""
            raise SizeError(
                f"{frames} network frames do not fit: the network makes {step}n + 1 frames; "
                f"try {near}{cut}"
            )
        limit = self.max_positions * self.temporal
        if frames > limit:
            raise SizeError(f"{frames} frames are over the model's {limit}; use fewer")
