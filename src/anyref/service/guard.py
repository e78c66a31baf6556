"""The guard around the application: what is refused before it, and what is added after it.

Bodies are bounded in size and time while they arrive. Browsers of other sites are kept out: answers
allow no other origin, writes from another origin are refused, and a service without keys answers
only to the names of its own machine, so that no site can rebind its name to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anyref.service.metrics import Metrics
from anyref.service.refusals import Refusal, answer
from anyref.service.settings import Limits

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware.

    Args:
        hosts: names that the Host header may have; None allows all, where keys protect.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, metrics: Metrics, hosts: Sequence[str] | None
    ) -> None:
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection's request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        body = _Body(scope, receive, self._limits)

        async def guarded_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if not body.complete:  # nobody will read the rest
                    headers["Connection"] = "close"
            await send(message)

        try:
            refusal = self._refuse(scope)
            if refusal is not None:
                await answer(refusal)(scope, receive, guarded_send)
            else:
                await self._app(scope, body.receive, guarded_send)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "unknown")
            self._metrics.count(scope["method"], path, status, time.perf_counter() - started)

    def _refuse(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return Refusal(
                403,
                "this service answers to its machine's own names only; use localhost, or start it "
                "with API keys",
                code="unknown_host",
            )
        origin = headers.get("origin")
        writes = scope["method"] not in SAFE_METHODS
        if writes and origin is not None and urlsplit(origin).netloc != host:
            return Refusal(403, "requests from other sites are refused", code="foreign_origin")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return Refusal(400, "Content-Length is no number", code="invalid_request")
        if len(length) > 15 or int(length) > self._limits.body_bytes:
            return _too_large(self._limits)
        return None


class _Body:
    """A request's body, refused when its pieces are too many, too slow or too late."""

    def __init__(self, scope: Scope, receive: Receive, limits: Limits) -> None:
        headers = Headers(scope=scope)
        chunked = "transfer-encoding" in headers
        self.complete = headers.get("content-length", "0") == "0" and not chunked
        self._receive = receive
        self._limits = limits
        self._size = 0
        self._over = False
        self._deadline = time.monotonic() + limits.body_seconds

    async def receive(self) -> Message:
        """The next piece; raises Refusal."""
        if self._over:
            return await self._receive()  # waits for the client to go
        left = max(0.0, self._deadline - time.monotonic())
        try:
            message = await asyncio.wait_for(self._receive(), min(self._limits.idle_seconds, left))
        except asyncio.TimeoutError as error:
            raise _too_slow() from error
        self._size += len(message.get("body", b""))
        self._over = message["type"] != "http.request" or not message.get("more_body", False)
        self.complete = self.complete or self._over
        if self._size > self._limits.body_bytes:
            raise _too_large(self._limits)
        return message


def _too_large(limits: Limits) -> Refusal:
    return Refusal(
        413,
        f"the body is over the limit of {limits.body_bytes:,} bytes; send smaller pictures",
        code="body_too_large",
    )


def _too_slow() -> Refusal:
    message = "the body arrived too slowly; send it again, or smaller pictures"
    return Refusal(408, message, code="body_too_slow")


def _name_of(host: str) -> str:
    """A Host header's name without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
