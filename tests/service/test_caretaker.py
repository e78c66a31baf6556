"""The caretaker: jobs whose worker is gone, files that belong to no job."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from anyref.service.caretaker import Caretaker
from anyref.service.jobs import Progress, Result
from anyref.service.store import Store, new_id, reference_name, thumbnail_name, video_name


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(settings):
    return Store(settings.store)


@pytest.fixture
def caretaker(queue, store, settings, clock):
    return Caretaker(queue, store, settings.times, clock)


def test_a_job_that_beats_is_left_alone_for_ever(caretaker, clock, queue, draft):
    queue.submit(draft())
    job = queue.claim("w", ["stub"])
    for _ in range(5):
        clock.now += 0.9
        queue.beat(job, Progress("steps", 1, 2))
        assert caretaker.check_leases() == []


def test_a_silent_job_is_given_up_after_a_lease_and_fails_the_second_time(
    caretaker, clock, queue, draft
):
    queue.submit(draft())
    for state in ("queued", "failed"):
        job = queue.claim("w", ["stub"])
        assert caretaker.check_leases() == []
        clock.now += 1.1
        assert [lost.id for lost in caretaker.check_leases()] == [job.id]
        assert queue.get(job.id).state == state
    assert "no sign of life for 1 seconds" in queue.get(job.id).error


def test_a_new_attempt_has_a_lease_of_its_own(caretaker, clock, queue, draft):
    queue.submit(draft())
    queue.hand_back(queue.claim("w", ["stub"]))
    caretaker.check_leases()
    queue.claim("w", ["stub"])
    clock.now += 0.9
    caretaker.check_leases()
    clock.now += 0.9
    assert caretaker.check_leases() == []


def test_the_time_of_day_does_not_matter(caretaker, clock, queue, draft, monkeypatch):
    queue.submit(draft())
    queue.claim("w", ["stub"])
    caretaker.check_leases()
    for now in (0.0, 9e9):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert caretaker.check_leases() == []


def test_only_files_of_no_job_are_swept_and_only_the_second_time(caretaker, queue, store, draft):
    queue.submit(draft())
    done = queue.claim("w", ["stub"])
    kept = [video_name(done.id, 1), thumbnail_name(done.id, 1), reference_name(done.id, 0)]
    queue.finish(done, Result(kept[0], kept[1], 1))
    queue.submit(draft())
    queue.hand_back(queue.claim("w", ["stub"]))
    running = queue.claim("w", ["stub"])
    kept.append(video_name(running.id, 2))
    strays = [
        video_name(done.id, 2),
        video_name(running.id, 1),
        reference_name(new_id(), 0),
    ]
    for name in kept + strays:
        store.write(name, b"x")
    unfinished = "videos/.anyref-abc"
    (store._folder / unfinished).write_bytes(b"x")
    assert caretaker.sweep() == []
    assert caretaker.sweep() == sorted([*strays, unfinished])
    assert sorted(store.names()) == sorted(kept)
    assert caretaker.sweep() == []


def test_a_deleted_jobs_files_are_strays(caretaker, queue, store, draft):
    queue.submit(draft())
    job = queue.claim("w", ["stub"])
    store.write(video_name(job.id, 1), b"x")
    queue.finish(job, Result(video_name(job.id, 1), None, 1))
    queue.delete(job.id, "ann")
    caretaker.sweep()
    assert caretaker.sweep() == [video_name(job.id, 1)]


def test_old_videos_go_when_two_sweeps_found_them_overdue(queue, store, settings, worker, draft):
    now = [time.time()]
    times = replace(settings.times, keep=1000.0)
    caretaker = Caretaker(queue, store, times, wall=lambda: now[0])
    (old, _), (waiting, _) = queue.submit(draft()), queue.submit(draft())
    worker.work(queue.claim("worker-1", ["stub"]))
    name = queue.get(old.id).content
    assert caretaker.expire() == []
    now[0] += 5000.0
    assert caretaker.expire() == []
    assert caretaker.expire() == [old.id]
    assert queue.get(old.id) is None
    assert name not in set(store.names())
    assert queue.get(waiting.id).state == "queued"


def test_a_clock_that_leaps_and_is_set_right_again_removes_nothing(
    queue, store, settings, worker, draft
):
    now = [time.time()]
    caretaker = Caretaker(queue, store, replace(settings.times, keep=1000.0), wall=lambda: now[0])
    queue.submit(draft())
    worker.work(queue.claim("worker-1", ["stub"]))
    for leap in (1e6, -1e6, 1e6):
        now[0] += leap
        assert caretaker.expire() == []


def test_without_a_limit_videos_are_kept(queue, store, settings, worker, draft):
    caretaker = Caretaker(queue, store, settings.times, wall=lambda: 1e12)
    queue.submit(draft())
    worker.work(queue.claim("worker-1", ["stub"]))
    assert caretaker.expire() == caretaker.expire() == []
