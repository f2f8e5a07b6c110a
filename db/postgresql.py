"""What is asked of PostgreSQL alone: SQLite has one lock for all who write, and no settings of a transaction."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def is_postgresql(session: Session) -> bool:
    """Whether the session is on PostgreSQL."""
    return session.get_bind().dialect.name == "postgresql"


def set_until_end(session: Session, **settings: str) -> None:
    """Set these of PostgreSQL's settings until the transaction ends."""
    session.execute(select(*(func.set_config(name, value, True) for name, value in settings.items())))
