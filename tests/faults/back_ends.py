"""What a service stands on: each pair of database and broker that it is offered with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.postgres import postgres_server
from tests.support.redis import redis_server


@dataclass(frozen=True)
class BackEnd:
    """The servers of one service, and how its processes reach them."""

    name: str
    database_url: str  # for whoever checks: no fault stands in this way
    settings: Mapping[str, str]  # of every process of the service, by the names of `service.settings`


@contextmanager
def embedded(home: Path) -> Iterator[BackEnd]:
    """SQLite with the file-system broker."""
    url = f"sqlite:///{home}/modelpress.db"
    yield BackEnd("embedded", url, {"database_url": url, "broker_url": "filesystem://"})


@contextmanager
def production(home: Path) -> Iterator[BackEnd]:
    """PostgreSQL with Redis."""
    with postgres_server() as url, redis_server() as broker_url:
        yield BackEnd("production", url, {"database_url": url, "broker_url": broker_url})


BACK_ENDS: dict[str, Callable[[Path], AbstractContextManager[BackEnd]]] = {
    "embedded": embedded,
    "production": production,
}
