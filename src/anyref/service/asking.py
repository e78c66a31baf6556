"""What the addresses share: who asks, how bodies are described and let in, how refusals are."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from anyref.service import access
from anyref.service.schemas import ErrorBody

if TYPE_CHECKING:
    from anyref.service.app import Service

SMALL_BODY = 2**20
REFERENCE_TEXT = (
    'references as JSON, their pictures being names of file parts: [{"name": "fox", '
    '"kind": "object", "images": ["fox"]}] beside a file part called fox'
)
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/VideoCreate"}},
            "multipart/form-data": {"schema": {"$ref": "#/components/schemas/VideoForm"}},
        },
    }
}
PICTURE_KINDS = ("image/png", "image/jpeg", "image/webp")
PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURE_KINDS
        },
    }
}
REASONS = {
    400: "what is wrong with the request",
    401: "no valid API key",
    403: "a foreign origin or host",
    404: "no such video",
    408: "the body came too slowly",
    409: "in conflict with what was done before",
    413: "the body is too large",
    415: "a type of content that is not read",
    416: "a range outside the file",
    429: "the queue, or the client's share of it, is full",
    503: "the queue or the store does not answer",
}
bearer = HTTPBearer(auto_error=False)
Answers = dict[int | str, dict[str, Any]]


def responses(*statuses: int) -> Answers:
    """Descriptions of refusals, for OpenAPI."""
    always = (400, 401, 403, 503)
    return {
        status: {"model": ErrorBody, "description": REASONS[status]}
        for status in sorted({*always, *statuses})
    }


def service_of(request: Request) -> Service:
    """The service that answers."""
    service: Service = request.app.state.service
    return service


async def owner_of(request: Request) -> str:
    """The client that asks; raises Refusal without a valid key."""
    return access.owner_of(request.headers.get("authorization"), service_of(request).settings.keys)


Owner = Annotated[str, Depends(owner_of)]


def intake(request: Request, service: Service) -> AbstractAsyncContextManager[Any]:
    """A place for a large body: only so many are held in memory, the others wait unread."""
    length = request.headers.get("content-length", "")
    small = length.isdecimal() and int(length) <= SMALL_BODY
    return nullcontext() if small else service.intake


def file_answer(description: str, *kinds: str) -> dict[str, Any]:
    """An answer that is a file, for OpenAPI."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {"description": description, "content": dict.fromkeys(kinds, schema)}
