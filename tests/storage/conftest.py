"""A real S3 service on loopback, and the two kinds of stores."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.open_store import open_store
from storage.store import Store
from tests.support.s3_server import S3Server, run_s3_server

OpenStore = Callable[[], Store]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with run_s3_server() as server:
        yield server


@pytest.fixture(params=["local", "s3"])
def open_one(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens the same store again at each call, as another process would."""
    if request.param == "local":
        return lambda: open_store(f"file://{tmp_path / 'store'}")
    server: S3Server = request.getfixturevalue("s3_server")
    bucket = server.make_bucket(f"bucket-{uuid.uuid4().hex}")
    url = f"s3://{bucket}/some/prefix?endpoint={server.endpoint}"
    return lambda: open_store(url, credentials=server.credentials, spool_folder=tmp_path / "spool")


@pytest.fixture
def store(open_one: OpenStore) -> Store:
    return open_one()
