"""The supervisor and its workers as processes: crashes, cancelling, stopping, being orphaned."""

from __future__ import annotations

import json
import os
import signal
import time

import httpx
import pytest

from anyref.service.queue import Queue
from anyref.service.supervisor import Supervisor, death
from anyref.service.tables import connect
from services import running

SECONDS = 120


def test_a_death_is_told_in_words():
    assert death(-9) == "it was ended by SIGKILL, as the system does when memory runs out"
    assert death(-11) == "it was ended by SIGSEGV"
    assert death(70) == "it ended with exit code 70"


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if (found := condition()) is not None:
            return found
        time.sleep(0.1)
    raise AssertionError("waited too long")


@pytest.fixture
def supervisor(settings):
    from dataclasses import replace

    told = replace(settings, devices=("cpu",), stub_step=0.05)
    engine = connect(told.database)
    supervisor = Supervisor(told, Queue(engine, told.limits))
    supervisor.start()
    yield supervisor
    supervisor.stop()
    engine.dispose()


def put(queue, draft, prompt, **fields):
    text = json.dumps({"prompt": prompt, "model": "stub", "seed": 1, **fields})
    return queue.submit(draft(request=text))[0].id


@pytest.mark.slow
def test_workers_crash_run_out_of_memory_and_go_on(supervisor, queue, draft):
    ids = [put(queue, draft, f"stub:{word}") for word in ("crash", "oom", "fail", "fine")]
    ended = [wait_for(lambda i=i: (j := queue.get(i)) and j.ended_at and j) for i in ids]
    assert [job.state for job in ended] == ["failed", "failed", "failed", "completed"]
    assert [job.error_code for job in ended[:3]] == [
        "worker_died",
        "out_of_memory",
        "internal_error",
    ]
    assert "SIGKILL" in ended[0].error
    assert supervisor.restarts == 3


@pytest.mark.slow
def test_a_running_job_is_cancelled_and_stopping_gives_jobs_back(supervisor, queue, draft):
    cancelled, waiting = (put(queue, draft, "a", num_inference_steps=200) for _ in range(2))
    wait_for(lambda: queue.get(cancelled).state == "running" or None)
    queue.cancel(cancelled, "ann")
    wait_for(lambda: queue.get(cancelled).state == "cancelled" or None)
    wait_for(lambda: queue.get(waiting).step > 2 or None)
    supervisor.stop()
    job = queue.get(waiting)
    assert (job.state, job.deaths) == ("queued", 0)
    assert supervisor.alive == 0


@pytest.mark.slow
def test_workers_end_with_a_server_that_was_killed(tmp_path):
    with running(tmp_path) as service:
        workers = wait_for(lambda: ((w := service.workers()) and len(w) == 2 and w) or None)
        httpx.post(f"{service.url}/v1/videos", json={"prompt": "stub:hang"})
        service.kill()
        wait_for(lambda: not any(alive(worker) for worker in workers) or None)


def alive(pid):
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return False
    return True
