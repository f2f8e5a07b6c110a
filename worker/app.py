"""The Celery side of a worker: it turns a wake-up into a look for work, and signals into an orderly end."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery, signals
from celery.apps.worker import Worker
from celery.exceptions import SecurityWarning
from celery.platforms import EX_OK
from celery.worker import state

from service.settings import Settings
from service.wakeup import TASKS, make_celery

# Before the consumer starts again after it broke, seconds.
RESTART_SECONDS = 1.0

log = structlog.stdlib.get_logger(__name__)


def make_worker_app(settings: Settings, queue: str, work: Callable[[], None]) -> Celery:
    """The application whose only task, for the wake-ups of `queue`, is `work`."""
    app = make_celery(settings)
    app.task(work, name=TASKS[queue], ignore_result=True)
    return app


def stop_before_start(stop: threading.Event) -> None:
    """Make SIGTERM and SIGINT end this process in order before `run_worker` puts handlers of its own in place."""

    def handle(*_: Any) -> None:
        stop.set()
        state.should_stop = EX_OK  # else a signal that comes just before Celery's handlers would be forgotten

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)


def run_worker(app: Celery, queue: str, name: str, stop: threading.Event) -> None:
    """Receive wake-ups in this thread until SIGTERM, SIGINT, SIGQUIT or SIGHUP, which set `stop`.

    `stop` is set in the signal's handler, while a task may be at work. A consumer that breaks just then was told to end
    all the same, and its process has not failed.
    """

    def set_stop(**_: Any) -> None:
        stop.set()

    def keep_logging(**_: Any) -> None:
        """That somebody listens keeps Celery from setting up logs of its own."""

    # Celery warns of root because of pickled messages; ours are JSON without content.
    warnings.simplefilter("ignore", SecurityWarning)
    signals.worker_shutting_down.connect(set_stop)
    signals.setup_logging.connect(keep_logging)
    while True:
        worker = _Worker(
            app=app,
            hostname=name,
            queues=[queue],
            pool="solo",
            concurrency=1,
            optimization="fair",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )
        worker.start()
        if stop.is_set():
            return
        # Something that is no message came by the broker and broke the consumer; it was taken from the queue by that.
        log.error("consumer_broke", again_in_seconds=RESTART_SECONDS)
        stop.wait(RESTART_SECONDS)


class _Worker(Worker):
    """Ends in the same orderly way by every signal: the job goes back to the queue at once anyway."""

    def install_platform_tweaks(self, worker: Worker) -> None:
        # Celery sets handlers of its own, one that starts anew for SIGHUP among them.
        is_deaf = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # as `nohup` has it
        super().install_platform_tweaks(worker)
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.getsignal(signal.SIGTERM))
        if is_deaf:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
