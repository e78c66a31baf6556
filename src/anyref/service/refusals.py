"""Refusals: every answer that is no success has one form, and says what to do.

{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}      as OpenAI's clients read
"""

from __future__ import annotations

import errno
import re
import sys
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from anyref.errors import AnyRefError, PromptError, ReferencesError, SizeError
from anyref.service.queue import QueueFullError, RepeatError, StillActiveError
from anyref.service.schemas import ErrorBody, ErrorDetail
from anyref.service.tables import is_full

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "server_error",
    500: "server_error",
}
# errors of the command line's words, in an interface's
WORDS = (
    (re.compile(r"add -r ([\w-]+)=PICTURE"), r"add a reference named \1"),
    (re.compile(r"that is --frames"), "that is num_frames"),
    (re.compile(r" \(or a canvas of your own\)"), ": send one as input_reference or in references"),
    (re.compile(r", several views go under one: .*"), ", several views go under one as its images"),
)
STATUSES: tuple[tuple[type[AnyRefError], int, str], ...] = (
    (QueueFullError, 429, "queue_full"),
    (RepeatError, 409, "idempotency_conflict"),
    (StillActiveError, 409, "video_active"),
    (AnyRefError, 400, "invalid_request"),
)
PARAMS: tuple[tuple[type[AnyRefError], str], ...] = (
    (PromptError, "prompt"),
    (ReferencesError, "references"),
    (SizeError, "size"),
)
RETRY_SECONDS = 5


class Refusal(HTTPException):
    """An answer that is no success.

    Args:
        status: of HTTP. message: value, limit and remedy. param: the field at fault.
        code: for programs.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.param = param
        self.code = code

    @property
    def body(self) -> ErrorDetail:
        """What the client reads."""
        kind = TYPES.get(self.status_code, "invalid_request_error")
        return ErrorDetail(message=self.detail, type=kind, param=self.param, code=self.code)


def refusal_of(error: Exception) -> Refusal | None:
    """The answer to an error that is raised on purpose, or that a full disk causes."""
    retry = {"Retry-After": str(RETRY_SECONDS)}
    for kind, status, code in STATUSES:
        if isinstance(error, kind):
            headers = retry if status == 429 else None
            known = next((name for kind, name in PARAMS if isinstance(error, kind)), None)
            message = for_clients(str(error))
            param = getattr(error, "param", known)
            return Refusal(status, message, param=param, code=code, headers=headers)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or is_full(error):
        message = "the service has no room left to keep a request; nothing was accepted, try later"
        return Refusal(503, message, code="storage_full", headers=retry)
    if isinstance(error, SQLAlchemyError):
        message = "the queue does not answer; nothing was accepted, try again"
        return Refusal(503, message, code="queue_unavailable", headers=retry)
    return None


def for_clients(message: str) -> str:
    """An error's message without the command line's words."""
    for pattern, words in WORDS:
        message = pattern.sub(words, message)
    return message


def first_fault(error: ValidationError | RequestValidationError) -> Refusal:
    """The first thing that is wrong with a body or with query parameters."""
    faults = error.errors()
    fault: Any = faults[0] if faults else {"loc": (), "msg": "it is not valid"}
    place = [str(part) for part in fault["loc"] if part not in ("body", "query", "path", "header")]
    if fault.get("type") == "extra_forbidden":
        message = f"{place[-1]!r} is no field of this request; leave it out"
    elif fault.get("type") == "json_invalid":
        message = f"the body is not JSON: {fault['msg'].removeprefix('Invalid JSON: ')}"
    else:
        message = f"{'.'.join(place) or 'the body'}: {fault['msg']}"
    shown = ".".join(place)[:200] or None
    return Refusal(400, message[:1000], param=shown, code="invalid_request")


def answer(refusal: Refusal) -> JSONResponse:
    """The refusal as a response."""
    body = ErrorBody(error=refusal.body).model_dump()
    return JSONResponse(body, refusal.status_code, headers=refusal.headers)


def install(app: FastAPI) -> None:
    """Let every error of the application leave in this form."""

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, Refusal):
            return answer(error)
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(app, request.url.path))
        return answer(Refusal(error.status_code, _plain(error), headers=headers))

    async def on_validation(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError | ValidationError)
        return answer(first_fault(error))

    async def on_other(_: Request, error: Exception) -> JSONResponse:
        refusal = refusal_of(error)
        if refusal is None:
            return answer(Refusal(500, "the service failed; its log says more", code="internal"))
        if refusal.status_code >= 500:
            sys.stderr.write(f"service: {type(error).__name__}: {error}\n")
        return answer(refusal)

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_validation)
    for kind in (AnyRefError, SQLAlchemyError, OSError, Exception):
        app.add_exception_handler(kind, on_other)


def _methods(app: FastAPI, path: str) -> list[str]:
    """Every method of an address; Starlette names those of its first route only."""
    routes = [route for route in app.routes if isinstance(route, Route)]
    return sorted({m for r in routes if r.path_regex.match(path) for m in r.methods or ()})


def _plain(error: HTTPException) -> str:
    known = {404: "there is nothing at this address", 405: "this address has no such method"}
    return known.get(error.status_code, str(error.detail))
