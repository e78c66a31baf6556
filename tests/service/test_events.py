"""Progress streams: what they tell, when they end, how many there may be."""

from __future__ import annotations

import asyncio
import json

import pytest

from anyref.service.events import Watcher
from anyref.service.jobs import Progress, Result
from anyref.service.refusals import Refusal
from anyref.service.settings import Limits


@pytest.fixture
def watcher(queue, settings):
    return Watcher(queue, settings.times, Limits(streams=2))


async def follow(watcher, job, acts):
    """The events of a job; after each event the next act is done."""
    events, acts = [], list(acts)
    async for text in watcher.follow(watcher.open(job.id)):
        kind, data = text.decode().strip().split("\n")
        events.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
        if acts:
            await asyncio.to_thread(acts.pop(0))
    return events


def test_a_stream_tells_place_steps_previews_and_the_end(watcher, queue, draft):
    job, _ = queue.submit(draft())
    held = []
    acts = [
        lambda: held.append(queue.claim("w", ["stub"])),
        lambda: queue.beat(held[0], Progress("steps", 2, 8, 3.5, b"jpeg")),
        lambda: None,
        lambda: queue.finish(held[0], Result("videos/x.1.mp4", None, 1)),
    ]
    events = asyncio.run(asyncio.wait_for(follow(watcher, job, acts), 10))
    assert [kind for kind, _ in events] == [
        "progress",
        "progress",
        "preview",
        "progress",
        "completed",
    ]
    assert events[0][1]["queue_position"] == 1
    assert events[2][1] == {"number": 1, "picture": "data:image/jpeg;base64,anBlZw=="}
    shown = events[3][1]
    assert (shown["stage"], shown["step"], shown["progress"]) == ("steps", 2, 25)
    assert shown["seconds_left"] == 3.5
    assert watcher.streams == set()


def test_a_stream_of_a_deleted_video_ends(watcher, queue, draft):
    job, _ = queue.submit(draft())
    queue.cancel(job.id, "ann")
    queue.delete(job.id, "ann")
    assert asyncio.run(asyncio.wait_for(follow(watcher, job, []), 10)) == [("deleted", {})]


def test_streams_are_counted_and_a_client_that_goes_frees_its_place(watcher, queue, draft):
    job, _ = queue.submit(draft())

    async def fill():
        streams = [watcher.follow(watcher.open(job.id)) for _ in range(2)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(Refusal, match="2 progress streams are open"):
            watcher.open(job.id)
        await streams[0].aclose()
        watcher.open(job.id)

    asyncio.run(fill())
