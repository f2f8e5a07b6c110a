"""The Celery side of a worker ends as it is told to, also where a message breaks it at that moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import redis

from service.wakeup import JOBS_QUEUE

_RUN = """
import logging, sys, threading
from celery import signals
from service.settings import Settings
from service.wakeup import JOBS_QUEUE
from worker.app import make_worker_app, run_worker

def work():
    pass

logging.basicConfig()
stop = threading.Event()
signals.worker_ready.connect(lambda **_: stop.set(), weak=False)
app = make_worker_app(Settings(home=sys.argv[1], broker_url=sys.argv[2]), JOBS_QUEUE, work)
sys.exit(run_worker(app, JOBS_QUEUE, "worker", stop))
"""


def test_a_worker_that_is_told_to_end_as_its_consumer_breaks_has_not_failed(tmp_path: Path, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as server:
        server.lpush(JOBS_QUEUE, b"no message at all")
    ended = subprocess.run(
        [sys.executable, "-c", _RUN, str(tmp_path), redis_url], capture_output=True, text=True, timeout=60, check=False
    )
    assert "JSONDecodeError" in ended.stderr
    assert ended.returncode == 0, ended.stderr
