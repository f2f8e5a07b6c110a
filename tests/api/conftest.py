"""A running API for each test, and a team that calls it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from service.settings import Settings
from tests.support.api_server import ApiServer, Tenant, run_api

UPLOAD_LIMIT = 4_000_000


@pytest.fixture(autouse=True, scope="session")
def _plain_logs() -> None:
    # The default draws tracebacks with every local variable, which takes seconds.
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        cache_logger_on_first_use=False,
    )


@pytest.fixture
def dialect() -> str:
    """SQLite alone; modules whose queries matter override it by both."""
    return "sqlite"


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(home=tmp_path / "home", database_url=database_url, upload_limit_bytes=UPLOAD_LIMIT)


@pytest.fixture
def server(settings: Settings) -> Iterator[ApiServer]:
    with run_api(settings) as running:
        yield running


@pytest.fixture
def tenant(server: ApiServer) -> Tenant:
    return server.new_tenant()


@pytest.fixture
def client(tenant: Tenant) -> httpx.Client:
    return tenant.client
