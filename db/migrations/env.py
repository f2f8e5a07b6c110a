"""Alembic's entry: runs the scripts on the connection that `db.migrate` gives, inside its transaction."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from db.clock import TEXT_WIDTH, UtcTimestamp
from db.document import Document
from db.models import Base


def render_type(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """Our types as plain ones: a migration must not change when they do."""
    if kind == "type" and isinstance(item, UtcTimestamp):
        return f'sa.DateTime(timezone=True).with_variant(sa.String({TEXT_WIDTH}), "sqlite")'
    if kind == "type" and isinstance(item, Document):
        return "sa.JSON()"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter most of a table: batch mode builds it anew. Both databases roll back DDL.
    render_as_batch=True,
    transactional_ddl=True,
    render_item=render_type,
)
with context.begin_transaction():
    context.run_migrations()
