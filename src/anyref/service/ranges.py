"""Files of the store over HTTP, whole or one byte range of them (RFC 9110, section 14)."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from typing import BinaryIO

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from anyref.service.refusals import Refusal
from anyref.service.store import Store

BLOCK_BYTES = 256 * 1024
RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")


async def send_file(request: Request, store: Store, name: str, kind: str, save_as: str) -> Response:
    """The file, or the range that was asked for; several ranges are answered with the whole.

    Raises:
        Refusal: 416 for a range outside the file. FileNotFoundError: when it is gone.
    """
    file = await run_in_threadpool(store.open, name)
    try:
        size = await run_in_threadpool(file.seek, 0, os.SEEK_END)
        tag = f'"{name.rpartition("/")[2]}"'  # a name is never written twice
        span = chosen_range(request.headers.get("range"), size)
        if request.headers.get("if-range") not in (None, tag):
            span = None
    except BaseException:
        file.close()
        raise
    start, end = span or (0, size)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(end - start),
        "Content-Disposition": f'inline; filename="{save_as}"',
        "Cache-Control": "private, no-cache",
        "ETag": tag,
    }
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 200 if span is None else 206
    if request.method == "HEAD":
        file.close()
        return Response(status_code=status, headers=headers, media_type=kind)
    return StreamingResponse(_blocks(file, start, end), status, headers, media_type=kind)


def chosen_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; None for the whole file.

    Raises:
        Refusal: 416 when no byte of the file is in the range.
    """
    match = RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0] == "bytes=-":
        return None
    if match[1]:
        start = int(match[1])
        end = min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= end:
        raise Refusal(
            416,
            f"the range is outside the file's {size:,} bytes",
            param="Range",
            code="range_not_satisfiable",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end


async def _blocks(file: BinaryIO, start: int, end: int) -> AsyncIterator[bytes]:
    try:
        await run_in_threadpool(file.seek, start)
        left = end - start
        while left > 0:
            block = await run_in_threadpool(file.read, min(BLOCK_BYTES, left))
            if not block:
                return
            left -= len(block)
            yield block
    finally:
        file.close()
