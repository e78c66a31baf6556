"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
METHODS = ("GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS")


class Metrics:
    """One application's numbers."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "anyref_http_requests", "answers", ["method", "path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "anyref_http_seconds",
            "seconds to answer",
            ["path"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._jobs = Gauge("anyref_jobs", "videos by state", ["state"], registry=self._registry)
        self._workers = Gauge("anyref_workers", "workers alive here", registry=self._registry)
        self._restarts = Gauge(
            "anyref_worker_restarts", "workers replaced here", registry=self._registry
        )
        self._streams = Gauge("anyref_streams", "progress streams", registry=self._registry)

    def count(self, method: str, path: str, status: int, seconds: float) -> None:
        """One answer; `path` is the route's, so that ids make no new series."""
        known = method if method in METHODS else "other"
        self._requests.labels(known, path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self, jobs: dict[str, int], workers: int, restarts: int, streams: int) -> bytes:
        """Everything, as Prometheus reads it."""
        for state, count in jobs.items():
            self._jobs.labels(state).set(count)
        self._workers.set(workers)
        self._restarts.set(restarts)
        self._streams.set(streams)
        return generate_latest(self._registry)
