"""A training sample as a record: the video, its captions, and who is in it.

The schema is `anyref.sample/1`. Values are frozen and closed: an unknown field is an error. What is
absent is None and is left out of the JSON. Several references with one `entity_id` are views of one
subject. Boxes are x0 y0 x1 y1 in pixels of the (cropped) video. `foreign` is for what another
format says and this one has no field for: by format name, kept as found, read by its exporter only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from anyref.errors import TrainingError

SCHEMA: Literal["anyref.sample/1"] = "anyref.sample/1"
MAX_REFERENCES = 64
MAX_FRAMES = 20_000
ID_PATTERN = r"[A-Za-z0-9_-]{1,80}"  # webdataset cuts keys at the first dot, tar names at 100

ReferenceKind = Literal["human", "face", "object", "background", "style"]
PairType = Literal["regular", "cross_clip", "generated", "in_clip_other_frame"]
Split = Literal["train", "validation", "test"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Box = tuple[Number, Number, Number, Number]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Span = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]


def _is_json(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    json.dumps(value, allow_nan=False)  # JSON has no NaN: it would come back as null
    return value


Foreign = Annotated[dict[str, JsonValue], AfterValidator(_is_json)]
RecordType = TypeVar("RecordType", bound="Record")


class Record(BaseModel):
    """Frozen, closed, and failing with TrainingError instead of pydantic's error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise TrainingError(_first_message(error)) from error


def _first_message(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    given = first.get("input")
    shown = f", got {given!r:.80}" if isinstance(given, (str, int, float)) else ""
    message = first["msg"].removeprefix("Value error, ") + shown
    return f"{field}: {message}" if field else message


class Video(Record):
    """The clip that the record describes.

    Args:
        uri: member of the shard or path of the asset; None before it is packed.
        start, end: half-open frame numbers in the source file.
        fps: frames per second. num_frames, width, height: of the clip as packed, pixels.
        crop_xyxy: what part of the source frame the clip shows; None for all of it.
    """

    uri: str | None = None
    sha256: Sha256 | None = None
    start: int = Field(default=0, ge=0)
    end: int = Field(gt=0)
    fps: Number = Field(gt=0)
    num_frames: int = Field(gt=0, le=MAX_FRAMES)
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    crop_xyxy: Box | None = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> Video:
        if self.end <= self.start:
            raise ValueError(f"end {self.end} is not after start {self.start}; the clip is empty")
        return self


class Caption(Record):
    """What happens in the clip, in plain words. model, sha: what wrote it."""

    text: str = Field(min_length=1)
    kind: str = "subject_centric"
    model: str | None = None
    sha: str | None = None


class Tags(Record):
    """Words for what is in the clip, by role."""

    background: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    object: tuple[str, ...] = ()


class Asset(Record):
    """A picture. uri: member of the shard or path; None for one cut from the video on the fly."""

    uri: str | None = None
    sha256: Sha256 | None = None


class Origin(Record):
    """Where a reference's picture comes from.

    Args:
        sample_id: the other sample of a cross-clip pair; None for this one.
        frame: of that sample's clip. generator, prompt: what made a generated picture.
    """

    sample_id: str | None = None
    frame: int | None = Field(default=None, ge=0)
    generator: str | None = None
    prompt: str | None = None


class Mask(Record):
    """A mask as run lengths. size: rows, columns. counts: the format's own string, as found."""

    size: tuple[int, int]
    counts: str
    format: str = "coco_rle"
    score: Number | None = None


class FaceScores(Record):
    """yaw in degrees; det, id_sim: detection and identity scores."""

    yaw: Number | None = None
    det: Number | None = None
    id_sim: Number | None = None


class Scores(Record):
    """Quality of a reference; area_frac is its part of the frame."""

    aesthetic: Number | None = None
    gme_text: Number | None = None
    gme_image_to_target: Number | None = None
    area_frac: Number | None = None
    det_conf: Number | None = None
    face: FaceScores | None = None


class SampleReference(Record):
    """One picture of something that the clip shows.

    Args:
        label: plain words. entity_id: the same for every picture of one subject, in this sample and
            in others. bbox_xyxy: in frame `origin.frame`.
        caption_span: half-open characters of captions[0].text that name it.
        track: its box in every frame of the clip, None where it is not seen.
    """

    ref_id: str = Field(min_length=1)
    kind: ReferenceKind
    label: str = Field(min_length=1)
    entity_id: str = Field(min_length=1)
    pair_type: PairType = "regular"
    image: Asset = Asset()
    origin: Origin = Origin()
    bbox_xyxy: Box | None = None
    mask: Mask | None = None
    caption_span: Span | None = None
    scores: Scores = Scores()
    track: tuple[Box | None, ...] | None = None
    foreign: Foreign | None = None


class Face(Record):
    """A face found in a frame; kps are five key points x y in pixels."""

    frame: int = Field(ge=0)
    track_id: int
    bbox_xyxy: Box
    kps: tuple[tuple[Number, Number], ...] = ()
    score: Number | None = None


class Quality(Record):
    """Scores of the whole clip; duration_s in seconds."""

    aesthetic: Number | None = None
    motion: Number | None = None
    dover: Number | None = None
    watermark: Number | None = None
    duration_s: Number | None = None
    background_aesthetic: Number | None = None


class Provenance(Record):
    """One step that made the record."""

    stage: str
    tool: str | None = None
    version: str | None = None
    config_hash: str | None = None
    time: str | None = None


class Flags(Record):
    """filtered_by: the stage that rejected the sample, None while it is in use."""

    filtered_by: str | None = None


class Sample(Record):
    """One training sample.

    Args:
        id: 1 to 80 letters, digits, - and _; see `sample_id`. source_key: its name in the data set
            that it comes from.
        captions: at least one; the first is the one that spans point into.

    Raises:
        TrainingError: for an unknown, missing or wrong field, a span outside the first caption, a
            track that is not as long as the clip, or a repeated ref_id.
    """

    schema_version: Literal["anyref.sample/1"] = Field(default=SCHEMA, alias="schema")
    id: str = Field(pattern=f"^{ID_PATTERN}$")
    source_key: str | None = None
    video: Video
    captions: tuple[Caption, ...] = Field(min_length=1)
    tags: Tags = Tags()
    references: tuple[SampleReference, ...] = Field(default=(), max_length=MAX_REFERENCES)
    faces: tuple[Face, ...] = ()
    quality: Quality = Quality()
    split: Split | None = None
    license: str | None = None
    provenance: tuple[Provenance, ...] = ()
    flags: Flags = Flags()
    foreign: Foreign | None = None

    @model_validator(mode="after")
    def _parts_agree(self) -> Sample:
        letters = len(self.captions[0].text)
        seen: set[str] = set()
        for reference in self.references:
            name = reference.ref_id
            if name in seen:
                raise ValueError(f"ref_id {name!r} is given twice; ref_ids are unique")
            seen.add(name)
            span = reference.caption_span
            if span is not None and not span[0] < span[1] <= letters:
                raise ValueError(
                    f"reference {name!r} has caption_span {list(span)}, outside the caption's "
                    f"{letters} characters"
                )
            track = reference.track
            if track is not None and len(track) != self.video.num_frames:
                raise ValueError(
                    f"reference {name!r} has a track of {len(track)} frames, the clip has "
                    f"{self.video.num_frames}"
                )
        return self

    @classmethod
    def from_json(cls, text: str | bytes) -> Sample:
        """Read the record back from `to_json`.

        Raises:
            TrainingError: when the text is not JSON, has another schema version, or is not valid.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise TrainingError(f"not JSON: {error}") from error
        if not isinstance(data, dict):
            raise TrainingError(f"a JSON object is needed, got {type(data).__name__}")
        version = data.get("schema")
        if version != SCHEMA:
            raise TrainingError(
                f"schema is {version!r}, this anyref reads {SCHEMA!r}; convert the record or "
                "update anyref"
            )
        return cls(**data)

    def to_json(self) -> str:
        """The record as one line of JSON; absent fields are left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


def sample_id(source_uri: str, start: int, end: int, crop: Sequence[float] | None = None) -> str:
    """The record's id: 16 hex digits that follow from the source file, the cut and the crop."""
    corners = "" if crop is None else ",".join(f"{value:g}" for value in crop)
    return hashlib.sha1(
        f"{source_uri}|{start}|{end}|{corners}".encode(), usedforsecurity=False
    ).hexdigest()[:16]
