"""Runs a service: the HTTP server in this process, the workers as its children."""

from __future__ import annotations

import signal
import threading

import uvicorn

from anyref.service.app import make_app, open_service
from anyref.service.caretaker import Caretaker
from anyref.service.protocol import PatientProtocol
from anyref.service.queue import Queue
from anyref.service.settings import Settings, check_exposure
from anyref.service.store import Store
from anyref.service.supervisor import Supervisor
from anyref.service.tables import connect

SHUTDOWN_SECONDS = 3


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until interrupted.

    Raises:
        ServiceError, ModelError: for what cannot be started, or may not be.
    """
    check_exposure(host, settings.keys)
    app = make_app(open_service(settings))
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=PatientProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    uvicorn.Server(config).run()


def work(settings: Settings) -> None:
    """Run workers without a front door until interrupted, for a queue that others fill too."""
    queue = Queue(connect(settings.database), settings.limits)
    supervisor = Supervisor(settings, queue)
    caretaker = Caretaker(queue, Store(settings.store), settings.times)
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    supervisor.start()
    caretaker.start()
    done.wait()
    caretaker.stop()
    supervisor.stop()
