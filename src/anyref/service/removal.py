"""Forgetting a video: its row and its files, by its client's wish or because its time is over."""

from __future__ import annotations

from anyref.service.queue import Queue
from anyref.service.store import Store, reference_name
from anyref.service.views import picture_numbers


def remove_video(queue: Queue, store: Store, id: str, owner: str) -> bool:  # noqa: A002 - its name
    """Forget an ended video and remove its files; False when this owner has none of that id.

    Raises:
        StillActiveError: it waits or runs.
    """
    gone = queue.delete(id, owner)
    if gone is None:
        return False
    pictures = [reference_name(id, number) for number in picture_numbers(gone)]
    for name in (gone.content, gone.thumbnail, *pictures):
        if name is not None:
            store.delete(name)
    return True
