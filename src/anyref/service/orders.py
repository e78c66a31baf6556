"""From a submission to a queued job: the request it means, its pictures, its place."""

from __future__ import annotations

import hashlib
import io
import json
import secrets
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from anyref.errors import MediaError, RequestError
from anyref.request import Reference, Request
from anyref.service import cutouts
from anyref.service.catalog import Catalog, Plan
from anyref.service.decoder import Decoder, FaultyPictureError
from anyref.service.forms import Submission
from anyref.service.jobs import Draft, Job
from anyref.service.queue import Queue
from anyref.service.refusals import Refusal
from anyref.service.schemas import LayoutOut, Validation, VideoCreate
from anyref.service.settings import Limits
from anyref.service.store import Store, new_id, reference_name

PLAIN_FIELDS = (
    "negative_prompt",
    "num_inference_steps",
    "guidance_scale",
    "solver",
    "flow_shift",
    "layout",
    "shuffle",
    "disentangle",
    "reference_offset",
    "reference_size",
    "strength_map",
    "speed",
    "step_cache",
    "guidance_interval",
)
DRAWN_SEEDS = 2**31


@dataclass(frozen=True)
class Order:
    """A submission that can be honoured.

    Args:
        request: what the worker will make; its pictures are names of the store.
        plan: the video it gives. pictures: undecoded, by their names in the store.
        labels: what the client called them. draft: its row of the queue.
    """

    request: Request
    plan: Plan
    pictures: dict[str, bytes]
    labels: dict[str, str]
    draft: Draft


class Orders:
    """Takes submissions.

    Args:
        catalog: of served models. queue, store: where accepted ones go.
    """

    def __init__(self, catalog: Catalog, queue: Queue, store: Store, limits: Limits) -> None:
        self._catalog = catalog
        self._queue = queue
        self._store = store
        self._decoder = Decoder(limits)

    def check(self, submission: Submission, owner: str, key: str | None = None) -> Order:
        """What a submission means, everything checked but the pictures' content.

        Raises:
            AnyRefError: for what cannot be honoured.
        """
        id = new_id()  # noqa: A001 - its name
        fields = submission.fields
        names = {label: reference_name(id, n) for n, label in enumerate(submission.pictures)}
        request = self._request(fields, names)
        plan = self._catalog.plan(request)
        draft = Draft(
            id=id,
            owner=owner,
            request=request.to_json(),
            model=request.model or self._catalog.default,
            width=plan.width,
            height=plan.height,
            num_frames=plan.num_frames,
            fps=plan.fps,
            idempotency_key=key,
            fingerprint=_fingerprint(submission),
        )
        pictures = {names[label]: data for label, data in submission.pictures.items()}
        labels = {name: label for label, name in names.items()}
        return Order(request, plan, pictures, labels, draft)

    def check_new(
        self, submission: Submission, owner: str, key: str | None
    ) -> tuple[Order, Job | None]:
        """What a submission means, and the job that an earlier, equal one made, if any.

        Raises:
            AnyRefError: as `check`; RepeatError, QueueFullError: as `Queue.submit`.
        """
        order = self.check(submission, owner, key)
        known = self._queue.find_repeat(order.draft)
        if known is None and order.pictures:  # not worth decoding for a full queue
            self._queue.check_room(owner)
        return order, known

    def decode(self, order: Order) -> Order:
        """The order with its pictures decoded, in sandboxes.

        Raises:
            FaultyPictureError: for one that cannot be, naming it as the client did.
        """
        clean = {}
        for number, (name, data) in enumerate(order.pictures.items(), start=1):
            try:
                clean[name] = self._decoder.decode(data, f"picture {number}", order.draft.owner)
            except MediaError as error:
                raise FaultyPictureError(str(error), order.labels[name]) from error
        return replace(order, pictures=clean)

    def accept(self, order: Order) -> Job:
        """Keep an order's decoded pictures and queue it.

        Raises:
            QueueFullError, RepeatError: as `Queue.submit`; then nothing is kept.
        """
        try:
            for name, png in order.pictures.items():
                self._store.write(name, png)
            job, new = self._queue.submit(order.draft)
        except SQLAlchemyError:
            raise  # it may be queued all the same; if not, a sweep finds the pictures
        except BaseException:
            self._forget(order)
            raise
        if not new:
            self._forget(order)
        return job

    def _forget(self, order: Order) -> None:
        for name in order.pictures:
            self._store.delete(name)

    def validate(self, submission: Submission, owner: str) -> Validation:
        """What a submission would give, or why it cannot be honoured; queues nothing."""
        order = self.check(submission, owner)
        self.decode(order)
        plan = order.plan
        return Validation(
            valid=True,
            model=order.draft.model,
            size=f"{plan.width}x{plan.height}",
            seconds=f"{plan.num_frames / plan.fps:g}",
            num_frames=plan.num_frames,
            steps=plan.steps,
            text=order.request.text,
        )

    def lay_out(self, submission: Submission, owner: str) -> LayoutOut:
        """What the model would see of a submission's references; its prompt is not read.

        Raises:
            AnyRefError: as `check` and `decode`.
        """
        fields = submission.fields
        named = [f"@{r.name}" for r in fields.references or [] if r.name]
        fields = fields.model_copy(update={"prompt": " ".join(named) or "pictures"})
        order = self.decode(self.check(replace(submission, fields=fields), owner))
        request = order.request
        references = [
            reference.model_copy(
                update={
                    "images": tuple(_opened(order.pictures[str(p)]) for p in reference.images),
                    "mask": reference.mask and _opened(order.pictures[str(reference.mask)]),
                }
            )
            for reference in request.references
        ]
        request = request.model_copy(update={"references": tuple(references)})
        return self._catalog.card(request.model).lay_out(request)

    def mask(self, data: bytes, owner: str) -> bytes:
        """The mask of a picture's subject as PNG; slow.

        Raises:
            MediaError: for no picture, or one without a subject. Refusal: 409 where none are made.
        """
        return cutouts.cut(self._decoder.decode(data, "the picture", owner))

    def _request(self, fields: VideoCreate, names: dict[str, str]) -> Request:
        card = self._catalog.card(fields.model)
        values: dict[str, Any] = {name: getattr(fields, name) for name in PLAIN_FIELDS}
        seed = secrets.randbelow(DRAWN_SEEDS) if fields.seed is None else fields.seed
        if fields.size is not None:
            width, _, height = fields.size.partition("x")
            values |= {"width": int(width), "height": int(height)}
        if fields.seconds is not None and fields.num_frames is not None:
            raise RequestError("seconds and num_frames are both given; give one of them")
        frames = fields.num_frames
        if fields.seconds is not None:
            frames = card.frames(float(fields.seconds))
        unnamed = [Reference(images=[names[str(key)]]) for key in fields.input_references or []]
        named = [
            Reference(
                images=[names[key] for key in reference.images],
                name=reference.name,
                kind=reference.kind,
                text=reference.text,
                strength=reference.strength,
                mask=reference.mask and names[reference.mask],
            )
            for reference in fields.references or []
        ]
        given = {name: value for name, value in values.items() if value is not None}
        return Request(
            prompt=fields.prompt,
            references=(*unnamed, *named),
            model=card.name,
            seed=seed,
            num_frames=frames,
            **given,
        )


def check_key(key: str | None) -> str | None:
    """An idempotency key that can be kept; raises Refusal."""
    if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise Refusal(
            400,
            "Idempotency-Key must be 1 to 255 printable ASCII characters; use a UUID",
            param="Idempotency-Key",
            code="invalid_request",
        )
    return key


def _opened(png: bytes) -> Image.Image:
    """A picture that a sandbox has written."""
    picture = Image.open(io.BytesIO(png), formats=("PNG",))
    picture.load()
    return picture


def _fingerprint(submission: Submission) -> str:
    fields = submission.fields.model_dump(mode="json", exclude_none=True)
    sums = {key: hashlib.sha256(data).hexdigest() for key, data in submission.pictures.items()}
    text = json.dumps([fields, sums], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
