"""Wake-ups: what they say, and that they never harm whoever sends them."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from service.settings import Settings
from service.wakeup import INSPECTIONS_QUEUE, JOBS_QUEUE, SEND_TIMEOUT_SECONDS, TASKS, UNSENT, Wakeup
from tests.support.free_port import free_port


@pytest.fixture
def nobody(tmp_path):
    """Settings with a broker that is not there."""
    return Settings(home=tmp_path, broker_url=f"redis://127.0.0.1:{free_port()}/0")


def _says_nothing_but_work(message, queue):
    body = json.loads(b64decode(message["body"]))
    assert message["headers"]["task"] == TASKS[queue]
    assert body[:2] == [[], {}]
    assert message["headers"]["eta"] is None


def test_a_wakeup_over_files_says_only_that_there_is_work(tmp_path):
    wakeup = Wakeup(Settings(home=tmp_path))
    assert wakeup.jobs()
    assert wakeup.inspections()
    messages = {path.name.partition(".")[2]: path for path in (tmp_path / "broker" / "messages").iterdir()}
    assert set(messages) == {f"{JOBS_QUEUE}.msg", f"{INSPECTIONS_QUEUE}.msg"}
    for queue in (JOBS_QUEUE, INSPECTIONS_QUEUE):
        _says_nothing_but_work(json.loads(messages[f"{queue}.msg"].read_text()), queue)
    wakeup.ping()
    wakeup.close()


def test_a_wakeup_over_redis_says_only_that_there_is_work(tmp_path, redis_url):
    url = redis_url.removesuffix("/0") + "/7"
    wakeup = Wakeup(Settings(home=tmp_path, broker_url=url))
    with redis.Redis.from_url(url) as server:
        server.flushdb()
        assert wakeup.inspections()
        assert server.llen(JOBS_QUEUE) == 0
        _says_nothing_but_work(json.loads(server.rpop(INSPECTIONS_QUEUE)), INSPECTIONS_QUEUE)
    wakeup.ping()
    wakeup.close()


def test_without_a_broker_the_sender_goes_on_and_the_figure_grows(nobody):
    before = UNSENT.labels(JOBS_QUEUE)._value.get()
    started = time.monotonic()
    assert Wakeup(nobody).jobs() is False
    assert UNSENT.labels(JOBS_QUEUE)._value.get() == before + 1
    assert time.monotonic() - started < 10 * SEND_TIMEOUT_SECONDS  # it did not hang for ever


class _Slow:
    """A broker's client that takes its time."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[str] = []
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self._error = error

    def send_task(self, _task: str, *, queue: str, ignore_result: bool) -> None:
        self.sent.append(queue)
        self.begun.set()
        assert self.goes_on.wait(30)
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("error", [None, OSError("it is away")])
def test_many_at_once_do_not_wait_for_one_another(tmp_path, error):
    client = _Slow(error)
    wakeup = Wakeup(Settings(home=tmp_path), client)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(wakeup.jobs)
        assert client.begun.wait(30)
        others = [pool.submit(wakeup.jobs) for _ in range(10)]
        assert all(other.result(30) for other in others)  # while the first still sends
        client.goes_on.set()
        assert first.result(30) is (error is None)
    # One more, for all who came when the first message may have been read already; none if nobody takes them.
    assert client.sent == [JOBS_QUEUE] * (2 if error is None else 1)
    client.sent.clear()
    assert wakeup.jobs() is (error is None)
    assert client.sent == [JOBS_QUEUE]


def test_a_ping_tells_that_the_broker_is_away(nobody):
    with pytest.raises(Exception, match="refused"):
        Wakeup(nobody).ping()
