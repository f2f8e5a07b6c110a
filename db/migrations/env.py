"""Alembic's entry: runs the scripts on the connection that `db.migrate` gives, inside its transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.migration import MigrationContext
from alembic.runtime.migration import MigrationInfo
from sqlalchemy import delete, insert, inspect

from db import migrate
from db.clock import TEXT_WIDTH, UtcTimestamp
from db.document import Document
from db.index_migration import BESIDE_OTHERS
from db.models import Base, Compatibility
from db.text import Text


def render_type(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """Our types as plain ones: a migration must not change when they do."""
    if kind == "type" and isinstance(item, UtcTimestamp):
        return f'sa.DateTime(timezone=True).with_variant(sa.String({TEXT_WIDTH}), "sqlite")'
    if kind == "type" and isinstance(item, Document):
        return "sa.JSON()"
    if kind == "type" and isinstance(item, Text):
        length = getattr(item.impl, "length", None)
        return "sa.String()" if length is None else f"sa.String(length={length})"
    return False


def note_compatibility(
    ctx: MigrationContext,
    step: MigrationInfo,
    heads: Collection[Any],  # noqa: ARG001  Alembic's signature
    run_args: Mapping[str, Any],  # noqa: ARG001
) -> None:
    """Write which code the tables serve from this step on, in its transaction."""
    connection, scripts = ctx.connection, context.script
    assert connection is not None  # noqa: S101  # for the type checker: never offline
    if not inspect(connection).has_table(Compatibility.__tablename__):
        return
    connection.execute(delete(Compatibility))
    for revision in step.destination_revision_ids:
        oldest = migrate.compatible_from(scripts.get_revision(revision))
        connection.execute(insert(Compatibility).values(id=1, oldest_revision=oldest))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter most of a table: batch mode builds it anew. Both databases roll back DDL.
    render_as_batch=True,
    transactional_ddl=True,
    transaction_per_migration=bool(context.config.attributes.get(BESIDE_OTHERS)),
    on_version_apply=note_compatibility,
    render_item=render_type,
)
with context.begin_transaction():
    context.run_migrations()
