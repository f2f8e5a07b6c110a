"""Figures for Prometheus. Each application has a registry of its own, so that two in one process do not mix."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from db.database import Database
from db.queries.backlog import backlog
from modelpress.spec.state import UNFINISHED_STATES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Seconds. Long polls, event streams and large files take long by design.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = structlog.get_logger("api.metrics")


class Metrics:
    """Counters of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter(
            "modelpress_http_requests", "Requests answered (status 0: broken off).", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "modelpress_http_request_seconds",
            "Time from the request's first byte to the answer's last, seconds.",
            labels,
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._uploaded = Counter(
            "modelpress_upload_bytes", "Bytes received as bodies of requests.", ("route",), registry=self._registry
        )

    def watch(self, database: Database) -> None:
        """Tell of the jobs in this database too, asked for at each scrape."""
        self._registry.register(_Jobs(database))

    def count_request(self, method: str, route: str, status: int, seconds: float, body_bytes: int) -> None:
        """Note one request."""
        # Callers may write any word as a method; each would be a series of its own.
        labels = (method if method in _METHODS else "other", route, str(status))
        self._requests.labels(*labels).inc()
        self._seconds.labels(*labels).observe(seconds)
        if body_bytes:
            self._uploaded.labels(route).inc(body_bytes)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        # Beside our own, what the libraries count for the whole process: memory, wake-ups that were not taken.
        return generate_latest(self._registry) + generate_latest(REGISTRY)


class _Jobs(Collector):
    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> Iterable[Metric]:
        # Said ahead, so that registering does not ask the database, which may not be there yet.
        return self._families()

    def collect(self) -> Iterable[Metric]:
        by_state, oldest = self._families()
        try:
            with self._database.session(read_only=True) as session:
                now = backlog(session)
        except SQLAlchemyError as error:
            # The other figures are wanted most when the database is away.
            log.warning("jobs not counted", error=type(error).__name__)
            return by_state, oldest
        for state in sorted(UNFINISHED_STATES):
            by_state.add_metric([state.value], now.jobs.get(state, 0))
        oldest.add_metric([], now.oldest_waiting_seconds)
        return by_state, oldest

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily("modelpress_jobs", "Jobs that are not over, by state.", labels=["state"]),
            GaugeMetricFamily(
                "modelpress_oldest_waiting_job_seconds",
                "How long the job has waited that waits longest, seconds; 0 where none does.",
                labels=[],
            ),
        )
