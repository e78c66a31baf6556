"""A job as clients see it."""

from __future__ import annotations

from typing import Any

from anyref.service.jobs import COMPLETED, FAILED, RUNNING, Job
from anyref.service.schemas import ReferenceOut, Status, Video, VideoError
from anyref.service.store import NAME

SHOWN_ELSEWHERE = ("prompt", "references", "model", "seed", "width", "height", "num_frames")


def video_of(job: Job, place: int | None, keep: float | None = None) -> Video:
    """The job as OpenAI's clients know it, and what anyref adds.

    Args:
        place: in the queue, 1 for the next to run.
        keep: seconds that ended videos are kept; None: for ever.
    """
    fields = job.fields
    running = job.state == RUNNING
    status: Any = "in_progress" if running else job.state
    known: Status = status
    failed = job.state == FAILED
    error = VideoError(code=job.error_code or "", message=job.error or "") if failed else None
    ended = None if job.ended_at is None else int(job.ended_at)
    return Video(
        id=job.id,
        model=job.model,
        status=known,
        progress=job.percent,
        created_at=int(job.created_at),
        completed_at=ended if job.state == COMPLETED else None,
        expires_at=None if ended is None or keep is None else int(ended + keep),
        error=error,
        prompt=fields["prompt"],
        seconds=f"{job.num_frames / job.fps:g}",
        size=f"{job.width}x{job.height}",
        seed=fields["seed"],
        num_frames=job.num_frames,
        fps=job.fps,
        references=[_reference(reference) for reference in fields.get("references", ())],
        settings={k: v for k, v in fields.items() if k not in SHOWN_ELSEWHERE},
        queue_position=place,
        stage=job.stage if running else None,
        step=job.step,
        steps=job.steps,
        seconds_left=job.seconds_left if running else None,
    )


def picture_numbers(job: Job) -> set[int]:
    """Numbers of the pictures that the job's references hold."""
    shown = [_reference(reference) for reference in job.fields.get("references", ())]
    masks = {reference.mask for reference in shown if reference.mask is not None}
    return masks | {number for reference in shown for number in reference.images}


def _reference(fields: dict[str, Any]) -> ReferenceOut:
    return ReferenceOut(
        name=fields.get("name"),
        kind=fields.get("kind", "object"),
        text=fields.get("text"),
        strength=fields.get("strength", 1.0),
        images=[_number(name) for name in fields["images"]],
        mask=_number(fields["mask"]) if fields.get("mask") else None,
    )


def _number(name: str) -> int:
    match = NAME.fullmatch(name)
    assert match is not None, "the queue holds only names of the store"
    return int(match[3])
