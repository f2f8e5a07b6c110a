"""The database's clock, the only one by which leases are judged: clocks of workers may differ.

Both expressions give the time at which their statement began, so a transaction that waited for a lock does not work
with a time from before the wait. SQLite keeps a time as text of fixed width, which sorts as the times do:
`2026-01-31 23:59:59.125`, UTC, milliseconds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Dialect, Float, SQLColumnExpression, String, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

TEXT_WIDTH = 23
_SQLITE_FORMAT = "%Y-%m-%d %H:%M:%f"


class UtcTimestamp(TypeDecorator[datetime]):
    """A moment: an aware datetime in UTC on the Python side, on both databases."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text of fixed width where the database has no type for moments."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(String(TEXT_WIDTH))
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """To the database. Raises ValueError for a datetime without a time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; give an aware datetime")
        moment = value.astimezone(UTC)
        if dialect.name == "sqlite":
            return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")
        return moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        moment: datetime = value
        return moment.astimezone(UTC)


class _Now(FunctionElement[datetime]):
    type = UtcTimestamp()
    inherit_cache = True


class _NowPlus(FunctionElement[datetime]):
    type = UtcTimestamp()
    inherit_cache = True


@compiles(_Now, "postgresql")
def _now_postgresql(_element: _Now, _compiler: SQLCompiler, **_: Any) -> str:
    return "statement_timestamp()"


@compiles(_Now, "sqlite")
def _now_sqlite(_element: _Now, _compiler: SQLCompiler, **_: Any) -> str:
    return f"strftime('{_SQLITE_FORMAT}', 'now')"


@compiles(_NowPlus, "postgresql")
def _now_plus_postgresql(element: _NowPlus, compiler: SQLCompiler, **more: Any) -> str:
    return f"statement_timestamp() + make_interval(secs => {compiler.process(element.clauses, **more)})"


@compiles(_NowPlus, "sqlite")
def _now_plus_sqlite(element: _NowPlus, compiler: SQLCompiler, **more: Any) -> str:
    seconds = compiler.process(element.clauses, **more)
    return f"strftime('{_SQLITE_FORMAT}', 'now', printf('%+.3f seconds', {seconds}))"


def now() -> ColumnElement[datetime]:
    """The database's time."""
    return _Now()


def now_plus(seconds: float | SQLColumnExpression[Any]) -> ColumnElement[datetime]:
    """The database's time, `seconds` later (earlier when negative). A column of seconds must not be null."""
    if isinstance(seconds, SQLColumnExpression):
        return _NowPlus(seconds)
    return _NowPlus(bindparam(None, float(seconds), type_=Float(), unique=True))
