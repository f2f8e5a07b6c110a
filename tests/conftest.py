"""Fixtures that every part's tests may use: real databases, a real Redis, and stores.

`database` is empty, migrated and thrown away after the test; a test that uses it runs on SQLite and on PostgreSQL.
`store` is empty; a test that uses it runs on a folder and on a bucket of an S3 server.
"""

from __future__ import annotations

import gc
import logging
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings
from sqlalchemy import NullPool, create_engine, make_url, text

from db.database import Database, open_database
from db.models import Base
from storage.open_store import open_store
from storage.store import Store
from tests.support.postgres import postgres_server
from tests.support.redis import redis_server
from tests.support.s3_server import S3Server, run_s3_server

OpenStore = Callable[[], Store]

DIALECTS = ("sqlite", "postgresql")

# A shell starts what runs in its background deaf to Ctrl-C, `nohup` to the end of a terminal, and so would be every
# process that a test starts.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)


# The same examples every time, and no clock for each: a busy machine fails no test. `--hypothesis-profile default`
# draws others.
settings.register_profile(
    "tests", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """What was imported is there to the end: to look through it again and again takes seconds each time."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: one that began last would keep one process busy long after the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that a test calls in this process sets up logs; what it wrote them to is closed after the test."""
    root = logging.getLogger()
    before, level, configuration = set(root.handlers), root.level, structlog.get_config()
    yield
    structlog.configure(**configuration)
    root.setLevel(level)
    for handler in set(root.handlers) - before:
        # pytest's own handlers come and go with each phase of a test, and are of classes of its own.
        if type(handler) is logging.StreamHandler:
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of the database `postgres` of a real server that runs for the whole session."""
    with postgres_server() as url:
        # A test's database need not outlive a power cut; waiting for the disk would take most of the tests' time.
        _on_server(url, "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a real Redis server that runs for the whole session; shared, so use keys of your own."""
    with redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> str:
    """Name of a migrated database on the session's server, to be copied; nobody connects to it."""
    _on_server(postgres_url, "CREATE DATABASE template_migrated")
    with opened(_with_name(postgres_url, "template_migrated")) as database:
        database.migrate()
    return "template_migrated"


@pytest.fixture(scope="session")
def migrated_postgres_url(postgres_url: str, postgres_template: str) -> str:
    """URL of a migrated database that tests use in turn: making one for each would take a second each."""
    _on_server(postgres_url, f"CREATE DATABASE migrated TEMPLATE {postgres_template}")
    return _with_name(postgres_url, "migrated")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    with opened(f"sqlite:///{path}") as database:
        database.migrate()
    return path


@pytest.fixture
def new_postgres_url(postgres_url: str) -> Iterator[Callable[..., str]]:
    """Makes databases on the session's server, copies of `template` where given; dropped after the test."""
    names: list[str] = []

    def new(template: str = "template1") -> str:
        names.append(f"test_{uuid.uuid4().hex}")
        _on_server(postgres_url, f"CREATE DATABASE {names[-1]} TEMPLATE {template} STRATEGY FILE_COPY")
        return _with_name(postgres_url, names[-1])

    yield new
    _on_server(postgres_url, *(f"DROP DATABASE {name} WITH (FORCE)" for name in names))


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    """`sqlite`, then `postgresql`."""
    return str(request.param)


@pytest.fixture
def empty_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without tables."""
    if dialect == "sqlite":
        return f"sqlite:///{tmp_path / 'modelpress.db'}"
    return str(request.getfixturevalue("new_postgres_url")())


@pytest.fixture
def database_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a migrated database without rows. Leave its tables as they are: the next test finds them so."""
    if dialect == "sqlite":
        path = tmp_path / "modelpress.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    url = str(request.getfixturevalue("migrated_postgres_url"))
    # Whatever an earlier test left connected would keep us from the tables.
    disconnect = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    _on_server(url, disconnect, f"TRUNCATE {', '.join(table.name for table in Base.metadata.sorted_tables)}")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database without rows."""
    with opened(database_url) as database:
        yield database


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


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """The database at `url`, its connections closed after the block."""
    database = open_database(url)
    try:
        yield database
    finally:
        database.dispose()


def _with_name(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def _on_server(url: str, *statements: str) -> None:
    # CREATE DATABASE runs outside of transactions only.
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
