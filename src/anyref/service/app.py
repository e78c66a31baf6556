"""The application: everything a service is made of, put together once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.concurrency import run_in_threadpool

from anyref.service import refusals
from anyref.service.asking import REFERENCE_TEXT
from anyref.service.caretaker import Caretaker
from anyref.service.catalog import Catalog
from anyref.service.cutouts import Line
from anyref.service.events import Watcher
from anyref.service.guard import Guard
from anyref.service.metrics import Metrics
from anyref.service.orders import Orders
from anyref.service.pages import add_page
from anyref.service.queue import Queue
from anyref.service.routes import add_routes
from anyref.service.schemas import VideoCreate
from anyref.service.settings import Settings
from anyref.service.store import Store
from anyref.service.supervisor import Supervisor
from anyref.service.tables import connect

API_VERSION = "1.0.0"


@dataclass(frozen=True)
class Service:
    """The parts of a running service."""

    settings: Settings
    queue: Queue
    store: Store
    catalog: Catalog
    orders: Orders
    watcher: Watcher
    metrics: Metrics
    supervisor: Supervisor
    caretaker: Caretaker
    intake: asyncio.Semaphore
    decoders: asyncio.Semaphore
    cutters: Line


def open_service(settings: Settings) -> Service:
    """Connect to queue and store and read the models' descriptions; starts nothing.

    Raises:
        ServiceError, ModelError: for what cannot be opened.
    """
    catalog = Catalog(settings.models, settings.limits)
    queue = Queue(connect(settings.database), settings.limits)
    store = Store(settings.store)
    return Service(
        settings=settings,
        queue=queue,
        store=store,
        catalog=catalog,
        orders=Orders(catalog, queue, store, settings.limits),
        watcher=Watcher(queue, settings.times, settings.limits),
        metrics=Metrics(),
        supervisor=Supervisor(settings, queue),
        caretaker=Caretaker(queue, store, settings.times),
        intake=asyncio.Semaphore(settings.limits.bodies),
        decoders=asyncio.Semaphore(settings.limits.decoders),
        cutters=Line(settings.limits.cutters),
    )


def make_app(service: Service) -> FastAPI:
    """The HTTP application; its workers live while it does."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.supervisor.start()
        service.caretaker.start()
        try:
            yield
        finally:
            await run_in_threadpool(service.caretaker.stop)
            await run_in_threadpool(service.supervisor.stop)

    app = FastAPI(
        title="anyref",
        version=API_VERSION,
        summary="Videos of your own references, with OpenAI's video interface.",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    refusals.install(app)
    add_routes(app, bool(service.settings.keys))
    add_page(app)
    hosts = None if service.settings.keys else service.settings.hosts
    app.add_middleware(Guard, limits=service.settings.limits, metrics=service.metrics, hosts=hosts)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's description with the bodies that the routes read themselves."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        _, definitions = models_json_schema(
            [(VideoCreate, "validation")], ref_template="#/components/schemas/{model}"
        )
        schemas = schema["components"]["schemas"]
        schemas.update(definitions["$defs"])
        schemas["VideoForm"] = _form_of(schemas["VideoCreate"])
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for methods in schema["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)  # ours are 400
        app.openapi_schema = schema
    return app.openapi_schema


def _form_of(create: dict[str, Any]) -> dict[str, Any]:
    """The JSON body's schema as a form: files as parts, nested values as JSON texts."""
    file = {"type": "string", "format": "binary"}
    fields = {
        **create["properties"],
        "input_reference": file,
        "input_references": {"type": "array", "items": file, "maxItems": 8},
        "references": {"type": "string", "description": REFERENCE_TEXT},
        "layout": {"type": "string", "description": "columns, grid, quarters, or boxes as JSON"},
        "guidance_interval": {"type": "string", "description": "two shares of the steps as JSON"},
    }
    return {
        "type": "object",
        "title": "VideoForm",
        "description": "The same as a form; `references` may name further file parts.",
        "required": ["prompt"],
        "properties": fields,
        "additionalProperties": file,
    }
