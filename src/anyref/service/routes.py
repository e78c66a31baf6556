"""The addresses of the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, Query, Request, Response, Security
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from anyref.errors import AnyRefError
from anyref.service import studio
from anyref.service.asking import (
    BODY,
    PICTURE_BODY,
    Answers,
    Owner,
    bearer,
    file_answer,
    intake,
    owner_of,
    responses,
    service_of,
)
from anyref.service.forms import read_submission
from anyref.service.jobs import COMPLETED, QUEUED, Job
from anyref.service.orders import check_key
from anyref.service.ranges import send_file
from anyref.service.refusals import Refusal, refusal_of
from anyref.service.removal import remove_video
from anyref.service.schemas import (
    Abilities,
    Health,
    LayoutOut,
    ModelList,
    ModelOut,
    Validation,
    Video,
    VideoDeleted,
    VideoList,
)
from anyref.service.store import NAME, reference_name, video_name
from anyref.service.views import picture_numbers, video_of

if TYPE_CHECKING:
    from anyref.service.app import Service

VIDEOS, HEALTH = "/v1/videos", "/healthz"
IdempotencyKey = Annotated[
    str | None, Header(description="a name for this submission; a repeat makes no second video")
]


def find(request: Request, video_id: str, owner: Owner) -> Job:
    """The job of an address; raises Refusal when this client has none of that id."""
    known = NAME.fullmatch(video_name(video_id, 0))
    job = service_of(request).queue.get(video_id, owner) if known else None
    if job is None:
        raise no_video(video_id)
    return job


def no_video(video_id: str) -> Refusal:
    """There is none, or it is another client's, which must look the same."""
    return Refusal(404, f"there is no video {video_id[:64]!r}", param="video_id", code="not_found")


Found = Annotated[Job, Depends(find)]


def add_routes(app: FastAPI, secured: bool) -> None:
    """Every address, on the application itself.

    Args:
        secured: whether the description says that keys are needed.
    """
    dependencies = [Depends(owner_of), *([Security(bearer)] if secured else [])]
    for method, path, endpoint, kind, answers in _table():
        app.add_api_route(
            path,
            endpoint,
            methods=[method],
            response_model=kind,
            response_class=JSONResponse if kind else Response,
            responses=answers,
            dependencies=dependencies if path != HEALTH else [],
            openapi_extra=_body_of(endpoint),
            include_in_schema=method != "HEAD",
        )


def _table() -> list[tuple[str, str, Callable[..., Any], type[BaseModel] | None, Answers]]:
    """Method, path, function, what it returns, and its other answers."""
    one = f"{VIDEOS}/{{video_id}}"
    files: Answers = {
        s: file_answer("the file, or a range", "video/mp4", "image/jpeg") for s in (200, 206)
    }
    content = files | responses(404, 409, 416)
    picture = {200: file_answer("a reference's picture", "image/png")} | responses(404, 416)
    told = "server-sent events: progress, preview, then completed, failed, cancelled or deleted"
    events: Answers = {200: {"description": told, "content": {"text/event-stream": {}}}}
    mask: Answers = {200: file_answer("white on the subject, of the picture's size", "image/png")}
    mask |= responses(408, 409, 413, 415, 429)
    checked = responses(408, 413, 415)
    text = {200: file_answer("for Prometheus", "text/plain")} | responses()
    return [
        ("POST", VIDEOS, create_video, Video, responses(408, 409, 413, 415, 429)),
        ("GET", VIDEOS, list_videos, VideoList, responses()),
        ("GET", one, get_video, Video, responses(404)),
        ("DELETE", one, delete_video, VideoDeleted, responses(404, 409)),
        ("POST", f"{one}/cancel", cancel_video, Video, responses(404)),
        ("GET", f"{one}/content", get_content, None, content),
        ("HEAD", f"{one}/content", get_content, None, content),
        ("GET", f"{one}/references/{{number}}", get_reference, None, picture),
        ("GET", f"{one}/events", get_events, None, events | responses(404, 429)),
        ("POST", "/v1/requests/validate", validate_request, Validation, checked),
        (
            "POST",
            "/v1/requests/layout",
            studio.lay_out_request,
            LayoutOut,
            responses(408, 413, 415),
        ),
        ("POST", "/v1/pictures/mask", studio.mask_picture, None, mask),
        ("GET", "/v1/models", list_models, ModelList, responses()),
        ("GET", "/v1/abilities", studio.get_abilities, Abilities, responses()),
        ("GET", "/metrics", get_metrics, None, text),
        ("GET", HEALTH, get_health, Health, responses()),
    ]


def _body_of(endpoint: Callable[..., Any]) -> dict[str, Any] | None:
    """The description of a body that a function reads itself."""
    if endpoint is studio.mask_picture:
        return PICTURE_BODY
    takes_request = endpoint in (create_video, validate_request, studio.lay_out_request)
    return BODY if takes_request else None


async def create_video(
    request: Request, owner: Owner, idempotency_key: IdempotencyKey = None
) -> Video:
    """Queue a video."""
    service, key = service_of(request), check_key(idempotency_key)
    async with intake(request, service):
        submission = await read_submission(request, service.settings.limits)
        order, known = await run_in_threadpool(service.orders.check_new, submission, owner, key)
        if known is not None:
            return await run_in_threadpool(_shown, service, known)
        if order.pictures:
            async with service.decoders:
                order = await run_in_threadpool(service.orders.decode, order)
        return await run_in_threadpool(lambda: _shown(service, service.orders.accept(order)))


async def validate_request(request: Request, owner: Owner) -> Validation:
    """Say what a request would give, or why it cannot be honoured; queues nothing."""
    service = service_of(request)
    try:
        async with intake(request, service):
            submission = await read_submission(request, service.settings.limits)
            async with service.decoders:
                return await run_in_threadpool(service.orders.validate, submission, owner)
    except AnyRefError as error:
        refusal = refusal_of(error)
        return Validation(valid=False, error=refusal.body if refusal else None)


def list_videos(
    request: Request,
    owner: Owner,
    after: Annotated[str | None, Query(max_length=64, description="last id before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> VideoList:
    """The client's own videos, the newest first unless told otherwise."""
    service = service_of(request)
    known = after is None or NAME.fullmatch(video_name(after, 0))
    page = service.queue.page(owner, limit, order, after) if known else None
    if page is None:
        raise Refusal(
            400,
            "after is the id of no video of yours; leave it out to begin",
            param="after",
            code="invalid_request",
        )
    jobs, has_more = page
    videos = [_shown(service, job) for job in jobs]
    return VideoList(
        data=videos,
        first_id=videos[0].id if videos else None,
        last_id=videos[-1].id if videos else None,
        has_more=has_more,
    )


async def get_video(request: Request, job: Found) -> Video:
    """A video and how far it is."""
    if job.state == QUEUED:
        return await run_in_threadpool(_shown, service_of(request), job)
    keep = service_of(request).settings.times.keep
    return video_of(job, None, keep)  # the most frequent request: no second trip to a thread


def delete_video(request: Request, job: Found, owner: Owner) -> VideoDeleted:
    """Forget an ended video and remove its files."""
    service = service_of(request)
    if not remove_video(service.queue, service.store, job.id, owner):
        raise no_video(job.id)
    return VideoDeleted(id=job.id)


def cancel_video(request: Request, job: Found, owner: Owner) -> Video:
    """Take a video out of the queue, or stop it; one that has ended stays as it is."""
    service = service_of(request)
    cancelled = service.queue.cancel(job.id, owner)
    if cancelled is None:
        raise no_video(job.id)
    return _shown(service, cancelled)


async def get_content(
    request: Request, job: Found, variant: Literal["video", "thumbnail"] = "video"
) -> Response:
    """The finished video, or its thumbnail; whole or by range."""
    name = job.content if variant == "video" else job.thumbnail
    if job.state != COMPLETED or name is None:
        raise Refusal(409, _no_content(job), param="video_id", code="video_not_ready")
    kind = "video/mp4" if variant == "video" else "image/jpeg"
    save_as = f"{job.id}.{'mp4' if variant == 'video' else 'jpg'}"
    try:
        return await send_file(request, service_of(request).store, name, kind, save_as)
    except FileNotFoundError as error:
        raise no_video(job.id) from error


async def get_reference(request: Request, job: Found, number: int) -> Response:
    """A reference's picture, as it was decoded."""
    if number not in picture_numbers(job):
        raise Refusal(404, f"the video has no picture {number}", param="number", code="not_found")
    name = reference_name(job.id, number)
    try:
        return await send_file(
            request, service_of(request).store, name, "image/png", f"{job.id}.{number}.png"
        )
    except FileNotFoundError as error:
        raise no_video(job.id) from error


async def get_events(request: Request, job: Found) -> StreamingResponse:
    """Progress until the video has ended: `progress`, `preview`, then one last event."""
    watcher = service_of(request).watcher
    stream = watcher.open(job.id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(watcher.follow(stream), 200, headers, media_type="text/event-stream")


def list_models(request: Request) -> ModelList:
    """The models that are served here."""
    cards = service_of(request).catalog.cards.values()
    return ModelList(
        data=[ModelOut(id=c.name, description=c.description, facts=c.facts()) for c in cards]
    )


def get_health(request: Request) -> Health:
    """Whether the queue answers and every worker lives."""
    service = service_of(request)
    counts, alive = service.queue.counts(), service.supervisor.alive
    whole = alive == len(service.settings.devices)
    return Health(
        status="ok" if whole else "degraded",
        workers=alive,
        queued=counts["queued"],
        running=counts["running"],
    )


def get_metrics(request: Request) -> Response:
    """Numbers for Prometheus."""
    service = service_of(request)
    text = service.metrics.text(
        service.queue.counts(),
        service.supervisor.alive,
        service.supervisor.restarts,
        len(service.watcher.streams),
    )
    return Response(text, media_type="text/plain; version=0.0.4")


def _shown(service: Service, job: Job) -> Video:
    place = service.queue.position(job) if job.state == QUEUED else None
    return video_of(job, place, service.settings.times.keep)


def _no_content(job: Job) -> str:
    if job.state == "failed":
        return f"the video failed: {job.error}"
    if job.state == "cancelled":
        return "the video was cancelled"
    return f"the video is {job.state} at {job.percent} %; ask again when it is completed"
