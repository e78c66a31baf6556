"""The queue: states, attempts, limits and repeats."""

from __future__ import annotations

import threading
import time

import pytest

from anyref.service.jobs import Progress, Result
from anyref.service.queue import QueueFullError, RepeatError, StillActiveError

RESULT = Result("videos/x.1.mp4", None, 10)


def claim(queue, worker="w"):
    return queue.claim(worker, ["stub"])


def test_jobs_run_in_the_order_of_submission(queue, draft):
    ids = [queue.submit(draft())[0].id for _ in range(3)]
    assert [claim(queue).id for _ in range(3)] == ids
    assert claim(queue) is None


def test_a_worker_takes_only_jobs_of_its_models(queue, draft):
    queue.submit(draft(model="other"))
    mine, _ = queue.submit(draft())
    assert claim(queue).id == mine.id
    assert claim(queue) is None


def test_many_workers_take_each_job_once(queue, draft):
    ids = {queue.submit(draft(owner=f"o{i}"))[0].id for i in range(8)}
    taken: list[str] = []

    def work():
        while (job := claim(queue)) is not None:
            taken.append(job.id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 8
    assert set(taken) == ids


def test_a_finished_job_keeps_its_result(queue, draft):
    queue.submit(draft())
    job = claim(queue)
    assert queue.finish(job, RESULT)
    done = queue.get(job.id)
    assert (done.state, done.content, done.worker, done.percent) == (
        "completed",
        RESULT.content,
        None,
        100,
    )


def test_a_dead_workers_job_runs_once_more_and_then_fails_with_the_reason(queue, draft):
    queue.submit(draft())
    first = claim(queue)
    assert [job.id for job in queue.abandon_worker("w", "signal 9")] == [first.id]
    second = claim(queue, "w2")
    assert (second.id, second.attempt) == (first.id, 2)
    queue.abandon_worker("w2", "signal 11")
    failed = queue.get(first.id)
    assert (failed.state, failed.error_code) == ("failed", "worker_died")
    assert failed.error == "its worker died 2 times, last: signal 11"


def test_an_earlier_attempt_can_say_nothing_any_more(queue, draft):
    queue.submit(draft())
    old = claim(queue)
    queue.abandon(old, "silence")
    new = claim(queue)
    assert queue.beat(old, Progress("steps", 1, 2)) == "lost"
    assert not queue.finish(old, RESULT)
    assert not queue.fail(old, "x", "y")
    assert not queue.hand_back(old)
    assert not queue.abandon(old, "silence")
    assert queue.finish(new, Result("videos/x.2.mp4", None, 10))
    assert queue.get(new.id).content == "videos/x.2.mp4"


def test_a_job_that_is_given_back_waits_at_its_old_place_and_counts_no_death(queue, draft):
    first, _ = queue.submit(draft())
    queue.submit(draft())
    queue.hand_back(claim(queue))
    again = claim(queue)
    assert (again.id, again.deaths) == (first.id, 0)


def test_cancelling_ends_a_waiting_job_and_asks_a_running_one(queue, draft):
    running, waiting = queue.submit(draft())[0], queue.submit(draft())[0]
    job = claim(queue)
    assert queue.cancel(waiting.id, "ann").state == "cancelled"
    assert queue.cancel(running.id, "ann").state == "running"
    assert queue.beat(job, Progress("steps", 1, 2)) == "cancel"
    assert queue.stopped(job)
    assert queue.get(running.id).state == "cancelled"


def test_a_cancelled_job_whose_worker_dies_is_cancelled(queue, draft):
    queue.submit(draft())
    job = claim(queue)
    queue.cancel(job.id, "ann")
    queue.abandon(job, "silence")
    assert queue.get(job.id).state == "cancelled"


def test_a_repeat_with_the_same_key_is_the_same_job(queue, draft):
    first, new = queue.submit(draft(idempotency_key="k", fingerprint="f"))
    again, also_new = queue.submit(draft(idempotency_key="k", fingerprint="f"))
    assert (new, also_new, again.id) == (True, False, first.id)
    with pytest.raises(RepeatError, match="another request"):
        queue.submit(draft(idempotency_key="k", fingerprint="g"))
    other, new = queue.submit(draft(owner="bob", idempotency_key="k", fingerprint="f"))
    assert new
    assert other.id != first.id


def test_submissions_at_once_with_the_same_key_make_one_job(queue, draft):
    jobs = []

    def submit():
        jobs.append(queue.submit(draft(idempotency_key="k", fingerprint="f"))[0].id)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(jobs) == 4
    assert len(set(jobs)) == 1


def test_a_client_and_all_together_have_a_share(queue, draft):
    for _ in range(5):
        queue.submit(draft())
    with pytest.raises(QueueFullError, match="you have 5 videos waiting or running, at most 5"):
        queue.submit(draft())
    for i in range(3):
        queue.submit(draft(owner=f"o{i}"))
    with pytest.raises(QueueFullError, match="the queue holds 8 videos"):
        queue.submit(draft(owner="late"))
    queue.finish(claim(queue), RESULT)
    queue.submit(draft())


def test_pages_follow_each_other_even_after_a_deleted_video(queue, draft):
    ids = []
    for _ in range(5):
        ids.append(queue.submit(draft())[0].id)
        queue.finish(claim(queue), RESULT)
    page, more = queue.page("ann", 2, "asc")
    assert ([job.id for job in page], more) == (ids[:2], True)
    queue.delete(ids[1], "ann")
    page, more = queue.page("ann", 3, "asc", after=ids[1])
    assert ([job.id for job in page], more) == (ids[2:], False)
    page, _ = queue.page("ann", 9)
    assert [job.id for job in page] == [ids[4], ids[3], ids[2], ids[0]]
    assert queue.page("bob", 9, after=ids[0]) is None


def test_others_jobs_do_not_exist(queue, draft):
    job, _ = queue.submit(draft())
    assert queue.get(job.id, "bob") is None
    assert queue.cancel(job.id, "bob") is None
    assert queue.delete(job.id, "bob") is None
    assert queue.get(job.id).state == "queued"


def test_an_active_job_cannot_be_deleted_and_a_deleted_one_is_gone(queue, draft):
    queue.submit(draft(idempotency_key="k", fingerprint="f"))
    job = claim(queue)
    with pytest.raises(StillActiveError, match="cancel it first"):
        queue.delete(job.id, "ann")
    queue.finish(job, RESULT)
    assert queue.delete(job.id, "ann").content == RESULT.content
    assert queue.get(job.id) is None
    with pytest.raises(RepeatError, match="was deleted"):
        queue.submit(draft(idempotency_key="k", fingerprint="f"))


def test_previews_are_numbered_and_end_with_the_job(queue, draft):
    queue.submit(draft())
    job = claim(queue)
    queue.beat(job, Progress("steps", 1, 4, 3.0, b"one"))
    queue.beat(job, Progress("steps", 2, 4, 2.0, b"two"))
    seen = queue.get(job.id)
    assert (seen.preview, seen.step, seen.seconds_left, seen.percent) == (2, 2, 2.0, 50)
    assert queue.preview(job.id) == b"two"
    queue.finish(job, RESULT)
    assert queue.preview(job.id) is None


def test_places_count_only_who_waits(queue, draft):
    for _ in range(3):
        queue.submit(draft())
    claim(queue)
    waiting = [queue.get(job.id) for job in queue.page("ann", 9, "asc")[0]]
    assert [queue.position(job) for job in waiting] == [None, 1, 2]
    assert queue.waiting() == [job.seq for job in waiting[1:]]


def test_a_clock_that_jumps_changes_neither_order_nor_ends(queue, draft, monkeypatch):
    now = [2e9]
    monkeypatch.setattr(time, "time", lambda: now[0])
    first, _ = queue.submit(draft())
    now[0] = 0.0
    second, _ = queue.submit(draft())
    assert claim(queue).id == first.id
    now[0] = 4e9
    job = claim(queue)
    assert job.id == second.id
    now[0] = 1.0
    assert queue.finish(job, RESULT)
    assert [job.id for job in queue.page("ann", 9, "asc")[0]] == [first.id, second.id]
