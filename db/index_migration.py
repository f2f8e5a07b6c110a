"""Indexes of large tables, made while others write to them: for migrations.

On PostgreSQL an index is made CONCURRENTLY, which shuts nobody out but cannot be part of a transaction: what the
migration did before it is committed first. So let these come first in a migration, where they can be done again if it
is interrupted; an index of a new column needs a migration of its own. Where the whole upgrade is one transaction
(SQLite, whose writers wait; tests), they are made in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import context, op

BESIDE_OTHERS = "beside_others"
"""Attribute of Alembic's configuration: true where the upgrade runs beside processes that work with the tables."""


def create_index(name: str, table: str, columns: Sequence[str | sa.TextClause]) -> None:
    """Make an index; one of this name that an interrupted upgrade has left is made anew."""
    if not context.config.attributes.get(BESIDE_OTHERS):
        op.create_index(name, table, list(columns))
        return
    with op.get_context().autocommit_block():
        # It waits for whoever began before it, as long as that takes, and keeps nobody waiting meanwhile.
        op.execute("SET lock_timeout = 0")
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
        op.create_index(name, table, list(columns), postgresql_concurrently=True)
        op.execute("RESET lock_timeout")


def drop_index(name: str, table: str) -> None:
    """Remove an index; it may be gone already."""
    if not context.config.attributes.get(BESIDE_OTHERS):
        op.drop_index(name, table)
        return
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
        op.execute("RESET lock_timeout")
