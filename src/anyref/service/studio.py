"""What a studio asks beside videos: how a model sees references, masks, and what there is."""

from __future__ import annotations

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from anyref.errors import AnyRefError
from anyref.request import MAX_REFERENCE_IMAGES
from anyref.service import cutouts
from anyref.service.asking import PICTURE_KINDS, Owner, intake, service_of
from anyref.service.forms import read_submission
from anyref.service.refusals import Refusal, refusal_of
from anyref.service.schemas import Abilities, Background, LayoutOut


async def lay_out_request(request: Request, owner: Owner) -> LayoutOut:
    """Show what the model would see of a request's references; its prompt is not read."""
    service = service_of(request)
    try:
        async with intake(request, service):
            submission = await read_submission(request, service.settings.limits)
            async with service.decoders:
                return await run_in_threadpool(service.orders.lay_out, submission, owner)
    except AnyRefError as error:
        refusal = refusal_of(error)
        return LayoutOut(valid=False, error=refusal.body if refusal else None)


async def mask_picture(request: Request, owner: Owner) -> Response:
    """Find the subject of a picture, the body as it is: a mask for a reference."""
    service = service_of(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in PICTURE_KINDS:
        message = f"content type {kind[:100] or 'none'!r} is not read; send a PNG, JPEG or WebP"
        raise Refusal(415, message, code="unsupported_media_type")
    async with intake(request, service):
        data = await request.body()
        async with service.cutters.turn():
            png = await run_in_threadpool(service.orders.mask, data, owner)
    return Response(png, media_type="image/png")


def get_abilities(request: Request) -> Abilities:
    """What this service can do beside videos, and its limits."""
    limits, reason = service_of(request).settings.limits, cutouts.why_unavailable()
    return Abilities(
        background_removal=Background(available=reason is None, reason=reason),
        reference_pictures=MAX_REFERENCE_IMAGES,
        picture_bytes=limits.picture_bytes,
        picture_pixels=limits.picture_pixels,
        video_pixels=limits.video_pixels,
        steps=limits.steps,
        client_jobs=limits.client_jobs,
    )
