"""From a request's body, JSON or a form, to checked fields and the pictures beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from anyref.errors import MediaError
from anyref.service.refusals import Refusal, first_fault
from anyref.service.schemas import PictureObject, VideoCreate
from anyref.service.settings import Limits
from anyref.service.uploads import check_upload, from_data_uri

MAX_FILES = 24
TEXT_BYTES = 2**20  # of one field of a form that is no file
JSON_FIELDS = ("references", "layout", "guidance_interval")
SHORTHANDS = ("input_reference", "input_references")
SHORTHAND_KEYS = {
    "input_reference": "input_reference",
    "input_reference[]": "input_reference",
    "input_references": "input_references",
    "input_references[]": "input_references",
    "input_reference[image_url]": "input_reference",  # how OpenAI's client writes an object
}


@dataclass(frozen=True)
class Submission:
    """What a client sent, checked one field at a time.

    Args:
        fields: as declared; pictures in them are keys of `pictures`.
        pictures: undecoded bytes by key.
    """

    fields: VideoCreate
    pictures: dict[str, bytes]


async def read_submission(request: Request, limits: Limits) -> Submission:
    """Read a body of `POST /v1/videos`.

    Raises:
        Refusal: 400 for what is wrong with it, 415 for another type of content.
        MediaError: for a picture that is none.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        body = await request.body()
        return await run_in_threadpool(_from_json, body, limits)
    if kind == "multipart/form-data":
        form = await _read_form(request, limits)
        try:
            return await _from_form(form, limits)
        finally:
            await form.close()
    raise Refusal(
        415,
        f"content type {kind[:100] or 'none'!r} is not read; send application/json or "
        "multipart/form-data",
        code="unsupported_media_type",
    )


async def _read_form(request: Request, limits: Limits) -> FormData:
    """The form; Starlette's own refusals keep their words and become 400."""
    try:
        return await request.form(
            max_files=MAX_FILES, max_fields=limits.fields, max_part_size=TEXT_BYTES
        )
    except (ValueError, KeyError, LookupError, AssertionError) as error:
        raise Refusal(
            400,
            "the form cannot be read; send well-formed multipart/form-data",
            code="invalid_request",
        ) from error


def _from_json(body: bytes, limits: Limits) -> Submission:
    try:
        fields = VideoCreate.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise first_fault(error) from error
    except RecursionError as error:
        raise Refusal(400, "the body is nested too deeply", code="invalid_request") from error
    pictures: dict[str, bytes] = {}

    def keep(text: str, label: str) -> str:
        pictures[label] = from_data_uri(text, label, limits)
        return label

    return Submission(_with_pictures(fields, keep), pictures)


async def _from_form(form: FormData, limits: Limits) -> Submission:
    values, files = await _sort_parts(form, limits)
    pictures: dict[str, bytes] = {}

    def keep(text: str, label: str) -> str:
        if text in files:
            pictures[text] = files[text]
            return text
        if text.startswith("data:"):
            pictures[label] = from_data_uri(text, label, limits)
            return label
        known = ", ".join(files) or "none"
        raise MediaError(
            f"{label} names the file part {text[:100]!r}, which the form does not have "
            f"(it has: {known[:300]}); add the part, as in -F {text[:40]}=@picture.png"
        )

    try:
        fields = VideoCreate.model_validate(values)
    except ValidationError as error:
        raise first_fault(error) from error
    for label, data in files.items():
        check_upload(data, label, limits)
    kept = _with_pictures(fields, keep)
    for name in files:
        if name not in pictures:
            raise MediaError(
                f"file part {name[:100]!r} is used by no reference; send it as input_reference or "
                'name it in references, as in [{"name": "fox", "images": ["fox"]}]'
            )
    return Submission(kept, pictures)


async def _sort_parts(form: FormData, limits: Limits) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A form's texts as values and its files by the names that pictures refer to."""
    values: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for key, part in form.multi_items():
        name = SHORTHAND_KEYS.get(key, key)
        if isinstance(part, UploadFile):
            label = f"{name}.{len(files)}" if name in SHORTHANDS else name
            if label in files:
                raise Refusal(400, f"file part {key[:100]!r} is given twice", param=key[:100])
            files[label] = await part.read(limits.picture_bytes + 1)
            if name in SHORTHANDS:
                values.setdefault("input_references", []).append(label)
            continue
        if name in SHORTHANDS:
            values.setdefault("input_references", []).append(part)
        elif key in values:
            raise Refusal(400, f"{key[:100]!r} is given twice; give it once", param=key[:100])
        else:
            values[key] = _read_json_text(key, part) if key in JSON_FIELDS else part
    return values, files


def _read_json_text(key: str, text: str) -> Any:
    if key == "layout" and text.isalpha():
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(
            400, f"{key} is not JSON; write it like [{{...}}]", param=key, code="invalid_request"
        ) from error


def _with_pictures(fields: VideoCreate, keep: Any) -> VideoCreate:
    """The fields with every picture replaced by the key under which `keep` keeps it."""

    def shorthand(picture: str | PictureObject, label: str) -> str:
        text = picture if isinstance(picture, str) else picture.image_url
        return str(keep(text, label))

    given = [] if fields.input_reference is None else [fields.input_reference]
    given += fields.input_references or []
    unnamed: list[Any] = [
        shorthand(picture, f"input_references.{number}") for number, picture in enumerate(given)
    ]
    named = [
        reference.model_copy(
            update={
                "images": [
                    keep(image, f"references.{place}.images.{number}")
                    for number, image in enumerate(reference.images)
                ],
                "mask": reference.mask and keep(reference.mask, f"references.{place}.mask"),
            }
        )
        for place, reference in enumerate(fields.references or [])
    ]
    return fields.model_copy(
        update={"input_reference": None, "input_references": unnamed, "references": named}
    )
