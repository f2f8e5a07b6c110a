"""Wake-ups: messages that say only "there is work". The row in the database is the truth.

A lost wake-up costs the seconds until an idle worker looks by itself, a doubled one a query that finds nothing. So
sending one never fails the caller, and no message ever names a job.
"""

from __future__ import annotations

import threading
from typing import Any

import structlog
from celery import Celery
from kombu.entity import Exchange, Queue
from prometheus_client import Counter

from service.settings import Settings

JOBS_QUEUE = "modelpress.jobs"
INSPECTIONS_QUEUE = "modelpress.inspections"

# Task names; the queue says which of the two kinds of work there is.
TASKS = {JOBS_QUEUE: "modelpress.work_on_jobs", INSPECTIONS_QUEUE: "modelpress.work_on_inspections"}

# How long a request may wait for a broker that does not answer, seconds.
SEND_TIMEOUT_SECONDS = 2.0

UNSENT = Counter("modelpress_wakeups_unsent_total", "Wake-ups that the broker did not take.", ["queue"])

log = structlog.stdlib.get_logger(__name__)


def make_celery(settings: Settings) -> Celery:
    """The Celery application that carries wake-ups, for API (which sends) and workers (which receive).

    Makes the folders of the file-system broker; connects to nothing yet.
    """
    # A host is only there to keep kombu from warning that there is none.
    broker = settings.broker_url if _is_server(settings) else "filesystem://localhost"
    app = Celery("modelpress", broker=broker, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=False,
        task_queues=[_queue(name) for name in (JOBS_QUEUE, INSPECTIONS_QUEUE)],
        task_default_queue=JOBS_QUEUE,
        task_create_missing_queues=False,
        task_routes={task: {"queue": queue} for queue, task in TASKS.items()},
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_pool="solo",
        worker_concurrency=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_heartbeat=None,
        broker_transport_options=_transport_options(settings),
    )
    if _is_server(settings):
        app.conf.worker_disable_prefetch = True
    return app


def _is_server(settings: Settings) -> bool:
    return not settings.broker_url.startswith("filesystem://")


def _queue(name: str) -> Queue:
    exchange = Exchange(name, type="direct")  # type: ignore[no-untyped-call]  # kombu's entities carry no types
    return Queue(name, exchange, routing_key=name)  # type: ignore[no-untyped-call]


def _transport_options(settings: Settings) -> dict[str, Any]:
    if _is_server(settings):
        return {
            "socket_timeout": SEND_TIMEOUT_SECONDS * 5,
            "socket_connect_timeout": SEND_TIMEOUT_SECONDS,
            "health_check_interval": 30,
            # Of the connection that sends; a worker's own is tried again for ever.
            "max_retries": 1,
            "interval_start": 0,
        }
    messages, control = settings.broker_folder / "messages", settings.broker_folder / "control"
    for folder in (messages, control):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(control),
        "polling_interval": 0.1,
    }


class Wakeup:
    """Sends wake-ups. Safe to use from several threads; blocks for a broker round trip, at most a few seconds.

    Whoever comes while another thread sends one to the same queue leaves it to that thread, which sends one more: with
    a broker that does not answer, threads would wait for one another in a line without end.
    """

    def __init__(self, settings: Settings, app: Celery | None = None) -> None:
        self._app = app or make_celery(settings)
        self._sender = threading.Lock()  # the application sends from one thread at a time
        self._lock = threading.Lock()
        self._once_more: dict[str, bool] = {}  # of the queues that a thread sends to: whether another came since

    def jobs(self) -> bool:
        """Tell the workers that a job waits, or leave it to who does. False when the broker did not take it; never
        raises."""
        return self._send(JOBS_QUEUE)

    def inspections(self) -> bool:
        """Tell the workers that an upload waits for its inspection. False when the broker did not take it."""
        return self._send(INSPECTIONS_QUEUE)

    def ping(self) -> None:
        """Ask the broker for a sign of life. Raises kombu.exceptions.OperationalError or OSError when there is none."""
        with self._app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=SEND_TIMEOUT_SECONDS)
            with connection.channel():
                pass

    def close(self) -> None:
        """Close the connections to the broker."""
        self._app.close()

    def _send(self, queue: str) -> bool:
        with self._lock:
            if queue in self._once_more:
                self._once_more[queue] = True
                return True
            self._once_more[queue] = False
        while True:
            is_taken = goes_on = False
            try:
                is_taken = self._send_one(queue)
            finally:
                with self._lock:
                    # Of a broker that is away nothing more is asked: workers look by themselves.
                    goes_on = is_taken and self._once_more[queue]
                    if goes_on:
                        self._once_more[queue] = False
                    else:
                        del self._once_more[queue]
            if not goes_on:
                return is_taken

    def _send_one(self, queue: str) -> bool:
        try:
            with self._sender:
                self._app.send_task(TASKS[queue], queue=queue, ignore_result=True)
        except Exception as error:  # noqa: BLE001  # whatever the broker's client raises, the row is already there
            UNSENT.labels(queue).inc()
            log.warning("wakeup_unsent", queue=queue, error=str(error) or type(error).__name__)
            return False
        return True
