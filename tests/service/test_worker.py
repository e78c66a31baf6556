"""A worker: every job to one of its ends, once."""

from __future__ import annotations

import errno
import json
import threading
import time

import pytest
from sqlalchemy.exc import OperationalError

from anyref.errors import MediaError, SizeError
from anyref.media import read_metadata, read_video
from anyref.service.jobs import Progress
from anyref.service.makers import Pace, StubMaker
from anyref.service.store import Store, reference_name
from anyref.service.worker import explain, persistently


def claimed(queue, draft, **fields):
    queue.submit(draft(**fields))
    return queue.claim("worker-1", ["stub"])


def test_a_job_becomes_a_video_with_its_record_and_a_thumbnail(queue, draft, worker, settings):
    job = claimed(queue, draft)
    worker.work(job)
    done = queue.get(job.id)
    path = Store(settings.store).fetch(done.content, None)
    frames, fps = read_video(path)
    assert (done.state, frames.shape, fps) == ("completed", (9, 96, 96, 3), 8.0)
    assert done.content_bytes == path.stat().st_size
    record = read_metadata(path)
    assert (record["id"], record["request"]["prompt"]) == (job.id, "a fox")
    assert record["model"] == {"name": "stub"}
    with Store(settings.store).open(done.thumbnail) as thumbnail:
        assert thumbnail.read(2) == b"\xff\xd8"


def test_the_record_holds_no_path_of_this_machine(queue, draft, worker, settings, pictures):
    store, one = Store(settings.store), draft()
    name = reference_name(one.id, 0)
    store.write(name, pictures.png())
    fields = json.loads(one.request) | {"references": [{"images": [name]}]}
    job = claimed(queue, draft, id=one.id, request=json.dumps(fields))
    worker.work(job)
    path = store.fetch(queue.get(job.id).content, None)
    assert str(settings.store).encode() not in path.read_bytes()
    assert read_metadata(path)["request"]["references"][0]["images"] == [name]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (SizeError("width 97 is not a multiple of 16; try 96"), "invalid_request", "try 96"),
        (OSError(errno.ENOSPC, "No space left", "/secret"), "storage_full", "no room left"),
        (MediaError("picture '/secret/x.png' is not readable"), "internal_error", "MediaError"),
        (RuntimeError("/secret/place"), "internal_error", "the model failed (RuntimeError)"),
    ],
)
def test_a_failure_is_told_without_paths(error, code, words):
    told = explain(error)
    assert told[0] == code
    assert words in told[1]
    assert "/secret" not in told[1]


def test_a_failed_job_says_why_and_the_worker_goes_on(queue, draft, worker):
    job = claimed(queue, draft, prompt=None, request=json.dumps({"prompt": "stub:fail", "seed": 1}))
    worker.work(job)
    failed = queue.get(job.id)
    assert (failed.state, failed.error_code) == ("failed", "internal_error")
    job = claimed(queue, draft)
    worker.work(job)
    assert queue.get(job.id).state == "completed"


def test_a_full_disk_fails_the_job_with_that_reason(queue, draft, worker, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(worker._store, "place", full)
    job = claimed(queue, draft)
    worker.work(job)
    assert queue.get(job.id).error_code == "storage_full"


class Obedient:
    """Reports until it is told to stop."""

    def __init__(self, before):
        self.before = before

    def make(self, request, report):
        self.before()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            report(Progress("steps", 1, 100))
            time.sleep(0.01)
        raise AssertionError("was not stopped")


def test_a_cancelled_job_stops_while_it_runs(queue, draft, worker):
    job = claimed(queue, draft)
    worker._maker = Obedient(lambda: queue.cancel(job.id, "ann"))
    worker.work(job)
    assert queue.get(job.id).state == "cancelled"


def test_a_worker_that_lost_its_job_stops_and_leaves_it_to_the_other(queue, draft, worker):
    job = claimed(queue, draft)
    worker._maker = Obedient(lambda: queue.abandon(job, "silence"))
    worker.work(job)
    assert queue.get(job.id).state == "queued"


def test_a_second_result_is_refused_and_its_files_removed(queue, draft, worker, settings):
    job = claimed(queue, draft)
    queue.abandon(job, "silence")
    other = queue.claim("worker-2", ["stub"])
    made = StubMaker(0.0).make(worker._localised(job, settings.store), lambda _: None)
    result = worker._keep(other, made)
    queue.finish(other, result)
    worker._finish(job, worker._keep(job, made))
    assert sorted(Store(settings.store).names()) == sorted([result.content, result.thumbnail])


def test_a_result_that_was_taken_while_the_answer_was_lost_is_kept(
    queue, draft, worker, settings, monkeypatch
):
    job, finish, answers = claimed(queue, draft), queue.finish, []

    def forgetful(*given):
        answers.append(finish(*given))
        if len(answers) == 1:
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))
        return answers[-1]

    monkeypatch.setattr(worker._queue, "finish", forgetful)
    worker.work(job)
    assert answers == [True, False]
    done = queue.get(job.id)
    assert sorted(Store(settings.store).names()) == sorted([done.content, done.thumbnail])


def test_a_result_waits_for_a_database_that_is_away():
    tries = []

    def end():
        tries.append(1)
        if len(tries) < 2:
            raise OperationalError("UPDATE", {}, Exception("database is locked"))
        return True

    assert persistently(end)
    assert len(tries) == 2


def test_a_stopping_worker_gives_its_job_back(queue, draft, worker):
    job = claimed(queue, draft)
    started = threading.Event()
    worker._maker = Obedient(started.set)
    thread = threading.Thread(target=worker.work, args=(job,))
    thread.start()
    started.wait()
    worker.stopping.set()
    worker.hand_back()
    thread.join()
    again = queue.get(job.id)
    assert (again.state, again.deaths) == ("queued", 0)


def test_time_left_follows_the_pace_and_previews_are_seldom(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    told = []
    pace = Pace(told.append)
    import numpy as np

    pace.preview = lambda: np.zeros((8, 8, 3), dtype=np.uint8)
    pace.stage("steps")
    for step in range(1, 5):
        now[0] += 0.4
        pace.step(step, 4)
    steps = told[1:]
    assert [round(p.seconds_left, 3) for p in steps] == [1.2, 0.8, 0.4, 0.0]
    assert [p.preview is not None for p in steps] == [False, False, True, False]
